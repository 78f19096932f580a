"""Lists of checksums, as ``sha256sum`` writes them, and as BSD does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from pytest_vbox.images.errors import ImageError
from pytest_vbox.printable import short

_GNU: Final = re.compile(r"^\\?([0-9A-Fa-f]{64}) [ *](.+)$")
_BSD: Final = re.compile(r"^SHA256 \((.+)\) = ([0-9A-Fa-f]{64})$")
_ALONE: Final = re.compile(r"^([0-9A-Fa-f]{64})$")
#: No list of sums comes near it.
MAX_BYTES: Final = 4 * 1024**2
_SHOWN: Final = 20
_LONGEST_SHOWN: Final = 100


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
    sums: dict[str, set[str]] = {}
    lines = [line.strip() for line in listed.splitlines() if line.strip()]
    for line in lines:
        if match := _GNU.match(line):
            _note(sums, match[2], match[1])
        elif match := _BSD.match(line):
            _note(sums, match[1], match[2])
    # A list of a whole tree may have the name in other folders too.
    found = sums.get(name) or set().union(*(sums[path] for path in sums if path.rpartition("/")[2] == name))
    if len(found) > 1:
        raise ImageError(f"{source} has {len(found)} different sums for {name!r}; write the sum itself")
    if found:
        return found.pop()
    if not sums and len(lines) == 1 and (alone := _ALONE.match(lines[0])):
        return alone[1].lower()  # a file of its own, such as disk.img.sha256
    if not sums:
        raise ImageError(
            f"{source} is no list of SHA-256 sums (lines such as 'SUM  NAME', or 'SHA256 (NAME) = SUM')"
        )
    others = ", ".join(short(path, _LONGEST_SHOWN) for path in sorted(sums)[:_SHOWN]) + (
        ", …" if len(sums) > _SHOWN else ""
    )
    raise ImageError(f"{source} has no sum for {name!r}; it has: {others}")


def _note(sums: dict[str, set[str]], path: str, sha256: str) -> None:
    sums.setdefault(path.removeprefix("./"), set()).add(sha256.lower())
