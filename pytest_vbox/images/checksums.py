"""Lists of checksums, as ``sha256sum`` writes them, and as BSD does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from pytest_vbox.images.errors import ImageError

_GNU: Final = re.compile(r"^\\?([0-9A-Fa-f]{64}) [ *](.+)$")
_BSD: Final = re.compile(r"^SHA256 \((.+)\) = ([0-9A-Fa-f]{64})$")
_ALONE: Final = re.compile(r"^([0-9A-Fa-f]{64})$")
#: No list of sums comes near it.
MAX_BYTES: Final = 4 * 1024**2
_SHOWN: Final = 20


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sum_for(name: str, listed: str, source: str) -> str:
    """The SHA-256 of a file in a list.

    Args:
        name: The file's name.
        listed: The list.
        source: Where the list is from, for the error.

    Raises:
        ImageError: The file is not in it, or it is no list of SHA-256 sums.
    """
    sums: dict[str, str] = {}
    lines = [line.strip() for line in listed.splitlines() if line.strip()]
    for line in lines:
        if match := _GNU.match(line):
            sums[match[2].rpartition("/")[2]] = match[1].lower()
        elif match := _BSD.match(line):
            sums[match[1].rpartition("/")[2]] = match[2].lower()
    if name in sums:
        return sums[name]
    if not sums and len(lines) == 1 and (alone := _ALONE.match(lines[0])):
        return alone[1].lower()  # a file of its own, such as disk.img.sha256
    if not sums:
        raise ImageError(
            f"{source} is no list of SHA-256 sums (lines such as 'SUM  NAME', or 'SHA256 (NAME) = SUM')"
        )
    others = ", ".join(sorted(sums)[:_SHOWN]) + (", …" if len(sums) > _SHOWN else "")
    raise ImageError(f"{source} has no sum for {name!r}; it has: {others}")
