"""What an image is, as a key: another one for everything that would become another disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pytest_vbox.images.box import vagrant_box
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.formats import compression, disk_format
from pytest_vbox.images.harmless import check_appliance
from pytest_vbox.models import DiskFormat, Image

#: Of what is stored; a higher one makes everything anew.
FORMAT: Final = 1


def download_key(image: Image, sha256: str) -> str:
    """The key of a download with a sum."""
    return digest("sha256", sha256, str(image.format or ""))


def local_key(image: Image) -> str:
    """The key of what is on this computer: which files, and in which state.

    Raises:
        ImageError: It is not there, or no file.
    """
    form = str(image.format or "")
    if image.vagrant is not None:
        if image.sha256 is not None:
            raise ImageError(
                f"image {image.source}: sha256 is the sum of a file, and Vagrant keeps a box unpacked"
            )
        folder, version = vagrant_box(image)
        return digest("vagrant", version, *_states(folder.iterdir()), form)
    disk = existing(image)
    return digest("file", *_states([disk, *_parts(disk, image)]), form)


def existing(image: Image) -> Path:
    """The image's file.

    Raises:
        ImageError: There is none.
    """
    disk = image.disk
    try:
        if disk is not None and disk.is_file():
            return disk
        there = disk is not None and disk.exists()
    except OSError as error:
        raise ImageError(f"image {disk}: {error.strerror}") from error
    if there:
        raise ImageError(f"image {disk} is not a file")
    raise ImageError(f"image {disk}: there is no such file. Correct `disk:`, or fetch the image")


def state_of(file: Path) -> str:
    """Which file it is, and in which state."""
    status = file.stat()
    return f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"


def fixed_sum(image: Image) -> str | None:
    """The sum that the image says itself, if it does."""
    return image.sha256 if isinstance(image.sha256, str) and not urlsplit(image.sha256).scheme else None


def digest(*parts: str) -> str:
    """A name for some parts; for a file, and for a key."""
    return hashlib.sha256("\0".join((str(FORMAT), *parts)).encode()).hexdigest()[:32]


def _states(files: Iterable[Path]) -> list[str]:
    return sorted(state_of(file) for file in files if file.is_file())


def _parts(disk: Path, image: Image) -> list[Path]:
    """The files that an appliance consists of beside its description."""
    if compression(disk) is not None:
        return []
    try:
        described = disk_format(disk, disk.name, image.format) is DiskFormat.OVF
    except ImageError:
        return []  # importing says what is wrong with it
    return check_appliance(disk) if described else []
