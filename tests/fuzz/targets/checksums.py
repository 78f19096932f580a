"""Lists of checksums: a sum of the file, or an `ImageError`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pytest_vbox.images import ImageError
from pytest_vbox.images.checksums import sum_for

WORDS = [b"0" * 64, b"disk.img", b"  ", b" *", b"SHA256 (", b") = ", b"./", b"\\", b"\n", b"MD5 (", b"\x85", b"#"]


def seeds() -> Iterator[bytes]:
    yield b"0" * 64 + b"  disk.img\n" + b"1" * 64 + b" *./other/disk.iso\n"
    yield b"SHA256 (disk.img) = " + b"a" * 64 + b"\n"
    yield b"F" * 64 + b"\n"


def run(data: bytes, folder: Path) -> None:  # noqa: ARG001
    text = data.decode(errors="replace")
    with suppress(ImageError):
        found = sum_for("disk.img", text, "http://example.org/SHA256SUMS")
        assert re.fullmatch("[0-9a-f]{64}", found), found
        assert found in text.lower()
