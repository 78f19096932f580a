"""Disks from elsewhere, by their headers and descriptions."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fuzz.builders import descriptor, header, sparse
from pytest_vbox.images import ImageError
from pytest_vbox.images.formats import disk_format
from pytest_vbox.images.harmless import check_whole
from pytest_vbox.images.imports import usable_in_place
from pytest_vbox.models import Image

WORDS = [
    *(b"KDMV", b"COWD", b"QFI\xfb", b"QED\0", b"conectix", b"cxsparse", b"vhdxfile", b"\x7f\x10\xda\xbe"),
    *(
        b"# Disk DescriptorFile\n",
        b"version=1\n",
        b"RW 1 FLAT ",
        b"RDONLY 1 SPARSE ",
        b"NOACCESS 1 ZERO",
        b'"../secret" 0',
    ),
    *(
        b'parentFileNameHint="../secret"',
        b"createType=",
        b"VMFSSPARSE",
        b"VMFSRDM",
        b"\xff" * 8,
        b'"part.vmdk"',
        b"\r",
        b"\v",
    ),
    *(struct.pack("<Q", number) for number in (0, 1, 20, 2**32, 2**55, 2**63, 2**64 - 1)),
]
BETWEEN = b"\n--file--\n"


def seeds() -> Iterator[bytes]:
    own, other = descriptor('RW 128 SPARSE "disk.vmdk"'), descriptor('RW 128 FLAT "../secret" 0', kind="vmfs")
    yield sparse(own)[: 32 * 512]
    yield sparse(other)[: 32 * 512]
    yield sparse(descriptor(parent="../secret"))[: 32 * 512]
    yield header(at=0) + other
    # Described again by a header at the end.
    yield (
        header(directory=2**64 - 1, flags=3 | 3 << 16)
        + own.ljust(20 * 512, b"\0")
        + other.ljust(4 * 512, b"\0")
        + header(at=21, sectors=4)
        + bytes(512)
    )
    yield header(capacity=0) + other
    for text in (own, other, descriptor('RW 128 FLAT "part.vmdk" 0'), descriptor('RW 128 SPARSE "part.vmdk"')):
        yield text
        yield text + BETWEEN + sparse(other)[: 32 * 512]
        yield text + BETWEEN + header(capacity=0) + other
    yield struct.pack(">4sIQIIQ", b"QFI\xfb", 2, 0, 0, 16, 65536).ljust(512, b"\0")
    yield struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 104, 9, 16, 65536).ljust(104, b"\0") + b"../secret"
    yield b"conectix" + bytes(504) + b"cxsparse" + bytes(1016) + b"conectix" + bytes(504)
    yield b"<<< VDI >>>".ljust(64, b"\n") + b"\x7f\x10\xda\xbe\1\0\1\0" + bytes(440)
    yield b"vhdxfile" + bytes(600)


def run(data: bytes, folder: Path) -> None:
    first, _, second = data.partition(BETWEEN)
    disk = folder / "disk.vmdk"
    disk.write_bytes(first)
    (folder / "part.vmdk").write_bytes(second)
    for name in ("disk.vmdk", "disk.img"):
        try:
            disk_format(disk, name)
        except ImageError:
            continue
    with suppress(ImageError):
        check_whole(disk)
    try:
        usable_in_place(disk, Image.model_validate({"disk": str(disk)}))
    except ImageError:
        return
