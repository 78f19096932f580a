"""What is found harmless is given to qemu-img, which must not bring anything of a file outside of the folder."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pytest_vbox.images import ImageError
from pytest_vbox.images.formats import disk_format
from pytest_vbox.images.harmless import check_harmless
from pytest_vbox.models import DiskFormat

from . import disk as disks
from .disk import WORDS

__all__ = ["PROGRAMS", "WORDS", "run", "seeds"]

PROGRAMS = True
_SECRET: Final = b"this must never be seen in a disk" * 200
_TOOL: Final = shutil.which("qemu-img")
_MOST: Final = 8 * 1024**2


def seeds() -> Iterator[bytes]:
    yield from disks.seeds()


def run(data: bytes, folder: Path) -> None:
    if _TOOL is None:
        return
    first, _, second = data.partition(disks.BETWEEN)
    (folder / "secret").write_bytes(_SECRET)
    home = folder / "home"
    home.mkdir()
    disk, result = home / "disk.vmdk", folder / "result"
    disk.write_bytes(first)
    (home / "part.vmdk").write_bytes(second)
    try:
        found = disk_format(disk, disk.name)
        check_harmless(disk)
    except ImageError:
        return
    # Less careful than we are, so that it is seen what is let through.
    known_as = "vpc" if found is DiskFormat.VHD else str(found)
    _bounded([_TOOL, "convert", "-f", known_as, "-O", "raw", "--", str(disk), str(result)])
    if result.exists():
        with result.open("rb") as file:
            assert _SECRET[:33] not in file.read(_MOST), "the guest would read a file of this computer"
    # Once more as far as it goes: a whole chain is opened even where nothing can be converted.
    shown = _bounded([_TOOL, "info", "--backing-chain", "-f", known_as, "--", str(disk)])
    assert b"secret" not in shown.replace(b"secret'", b""), shown


def _bounded(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False, preexec_fn=_limit)
    except subprocess.TimeoutExpired:
        return b""
    return done.stdout


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST, _MOST))
    resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
