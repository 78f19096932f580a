"""The cache: folders that take long to make, each named by the digest of the recipe that made it."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vboxrig.errors import NotUsableError
from vboxrig.locks import in_use, locked
from vboxrig.places import cache_folder
from vboxrig.progress import say, step

KEEP_UNUSED_SECONDS = 14 * 24 * 3600


@dataclass(frozen=True)
class Recipe:
    """How one cached folder is made."""

    kind: str
    """Its name, such as `kernel`; a part of the folder's name."""
    text: str
    """All that decides the result; another text is another folder."""
    build: Callable[[Path], None]
    """Fills the given empty folder, or raises."""
    megabytes: int
    """The disk space that the build needs."""

    @property
    def folder(self) -> Path:
        """Where the result is, once built."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:12]
        return cache_folder() / f"{self.kind}-{digest}"


def use_mark(folder: Path) -> Path:
    """Return the file that a rig shares (see `locks.share`) while it uses a cached folder."""
    return folder.with_name(f".{folder.name}.used")


def obtain(recipe: Recipe) -> Path:
    """Return the recipe's folder, building it first if it is not there.

    The build goes on under a temporary name, so a build that is killed leaves nothing that looks
    finished; its remains are removed by the next one.

    Raises:
        NotUsableError: there is too little disk space.
        BuildError: a step of the recipe failed.
    """
    folder = recipe.folder
    if not folder.is_dir():
        with locked(cache_folder() / f".{recipe.kind}.lock", f"the {recipe.kind}"):
            if not folder.is_dir():
                _build(recipe, folder)
    os.utime(folder)
    return folder


def _build(recipe: Recipe, folder: Path) -> None:
    for rubbish in folder.parent.glob(f".building-{recipe.kind}-*"):
        shutil.rmtree(rubbish)
    _prune(folder.parent.glob(f"{recipe.kind}-*"))
    check_space(folder.parent, recipe.megabytes)
    temporary = folder.with_name(f".building-{folder.name}")
    temporary.mkdir()
    with step(f"building the {recipe.kind}"):
        recipe.build(temporary)
    temporary.rename(folder)


def _prune(folders: Iterable[Path]) -> None:
    """Delete what no rig has asked for in two weeks and none is using now."""
    for folder in folders:
        if time.time() - folder.stat().st_mtime > KEEP_UNUSED_SECONDS and not in_use(use_mark(folder)):
            say(f"removing {folder}, unused for two weeks")
            shutil.rmtree(folder)
            use_mark(folder).unlink(missing_ok=True)


def check_space(folder: Path, megabytes: int) -> None:
    """Raise NotUsableError if the disk that holds `folder` has less than `megabytes` free."""
    free = shutil.disk_usage(folder).free >> 20
    if free < megabytes:
        raise NotUsableError(
            f"not enough disk space: {folder} has {free} MB free and {megabytes} MB are needed; "
            "make room, or point XDG_CACHE_HOME at a larger disk"
        )
