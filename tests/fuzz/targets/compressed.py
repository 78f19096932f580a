"""Compressed disks: whole, or an `ImageError` and no file; never more than the limit."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path

from pytest_vbox.images import ImageError
from pytest_vbox.images.compression import name_inside, uncompress, zstd
from pytest_vbox.images.formats import compression, disk_format
from pytest_vbox.images.report import silent

WORDS = [b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xff" * 8, b"\0" * 64]
_LIMIT = 4 * 1024**2


def seeds() -> Iterator[bytes]:
    for content in (b"", b"disk" * 50, bytes(100_000) + b"end", bytes(_LIMIT + 1)):
        yield gzip.compress(content)
        yield lzma.compress(content)
        yield bz2.compress(content)
        yield zstd.compress(content)


def run(data: bytes, folder: Path) -> None:
    source, target = folder / "a.img.gz", folder / "a.img"
    source.write_bytes(data)
    name_inside(data[:40].decode(errors="replace"))
    kind = compression(source)
    for known_as in {kind, *(("gz", "xz", "bz2", "zst")[data[0] % 4 :][:1] if data else ())} - {None}:
        try:
            uncompress(source, str(known_as), target, silent, limit=_LIMIT)
        except ImageError:
            assert not target.exists(), "half a disk was left"
        else:
            assert target.stat().st_size <= _LIMIT
            target.unlink()
    try:
        disk_format(source, "a.img")
    except ImageError:
        return
