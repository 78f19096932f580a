"""Disks of a few MiB that a test may fill, or have read-only; and VirtualBox's own on such a disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import pytest
from own_rig import OwnRig

_MIB = 1024 * 1024


class SmallDisk:
    """A tmpfs.

    Args:
        folder: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free(self) -> int:
        """The bytes that are free."""
        return shutil.disk_usage(self.folder).free

    def fill(self, leave: int = 0) -> None:
        """Take all the room.

        Args:
            leave: But for so many MiB.
        """
        self.empty()
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, self.free - leave * _MIB))

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written within the block."""
        _mount("-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            _mount("-o", "remount,rw", str(self.folder))

    @property
    def files(self) -> list[str]:
        """What is on it."""
        return sorted(
            str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path != self._filler
        )

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A disk for the length of the block; skips the test where mounting is not allowed.

    Args:
        folder: Where to mount it.
        size: Its size in MiB.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not hasattr(os, "posix_fallocate") or os.getuid() != 0:
        pytest.skip("mounting a small disk takes Linux, and root")
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}m,mode=700", "pytest-vbox-test", str(folder))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"mounting is not allowed here: {error.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily, since a process that has just ended may still be at it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


@contextmanager
def rig_on_small_disk(name: str, size: int) -> Iterator[tuple[OwnRig, SmallDisk]]:
    """A VirtualBox of a test's own whose machine folder is on a small disk.

    Args:
        name: The rig's name.
        size: The disk's size in MiB.
    """
    name = f"{name}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    state = Path(platformdirs.user_state_dir()) / "pytest-vbox" / "rig" / name
    with small_disk(state / "machines", size) as disk:
        rig = OwnRig(name)
        try:
            rig.up()
            yield rig, disk
        finally:
            # All but the folder itself, which is busy.
            with suppress(subprocess.CalledProcessError):
                rig.down()
    shutil.rmtree(state, ignore_errors=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
