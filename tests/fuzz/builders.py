"""Archives and disks, made from scratch: valid ones, and what is put into them to be refused."""

from __future__ import annotations

import io
import struct
import tarfile
from typing import Final

BLOCK: Final = 512
_CHECKSUM: Final = slice(148, 156)
_MAGIC: Final = slice(257, 262)


def descriptor(*extents: str, parent: str | None = None, kind: str = "monolithicSparse") -> bytes:
    """The text in which a VMDK says what it consists of."""
    hint = "" if parent is None else f'parentFileNameHint="{parent}"\n'
    return (
        f'# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="{kind}"\n{hint}'
        f"{chr(10).join(extents)}\n"
        '#DDB\nddb.adapterType = "ide"\nddb.geometry.cylinders = "1"\nddb.geometry.heads = "16"\n'
        'ddb.geometry.sectors = "63"\nddb.virtualHWVersion = "4"\n'
    ).encode()


def header(
    capacity: int = 128,
    at: int = 1,
    sectors: int = 20,
    *,
    flags: int = 3,
    directory: int = 26,
    overhead: int = 128,
) -> bytes:
    """The first sector of a sparse VMDK; all sizes and places in sectors.

    Args:
        capacity: Of the disk.
        at: Where it describes itself.
        sectors: How long the description is.
        flags: As VMware has them.
        directory: Where the grain directory is; 2**64 - 1: said by a second header at the end.
        overhead: Where the data begins.
    """
    fields = struct.pack(
        "<4sIIQQQQIQQQB", b"KDMV", 1, flags, capacity, 128, at, sectors, 512, 21, directory, overhead, 0
    )
    return (fields + b"\n \r\n" + struct.pack("<H", 1 if flags & 1 << 16 else 0)).ljust(BLOCK, b"\0")


def sparse(text: bytes, capacity: int = 128) -> bytes:
    """A sparse VMDK without any data."""
    tables = struct.pack("<I", 22).ljust(BLOCK, b"\0")
    parts = (
        header(capacity) + text.ljust(20 * BLOCK, b"\0") + tables + bytes(4 * BLOCK) + tables + bytes(4 * BLOCK)
    )
    return parts.ljust(129 * BLOCK, b"\0")


def archive(*members: tuple[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of plain files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def block(name: bytes, kind: bytes, size: int = 0, content: bytes = b"", rest: bytes = b"") -> bytes:
    """One header of a tar with its content: with any type, and whatever is said of the size.

    Args:
        name: The name.
        kind: The type, one byte.
        size: What is said of the size.
        content: What follows.
        rest: The last fields, from byte 345 on.
    """
    number = (
        b"%011o\0" % size
        if 0 <= size < 8**11
        else (size % 256**12 | (1 << 95 if size > 0 else 0)).to_bytes(12, "big")
    )
    head = (
        name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"%011o\0" % 0 + b" " * 8 + kind
    )
    head = (head.ljust(257, b"\0") + b"ustar  \0").ljust(345, b"\0") + rest
    return summed(head.ljust(BLOCK, b"\0")) + content.ljust(-(-len(content) // BLOCK) * BLOCK, b"\0")


def summed(data: bytes) -> bytes:
    """A tar with the right checksum in everything that looks like a header, so that its fields are looked at."""
    fixed = bytearray(data)
    for start in range(0, len(fixed) - BLOCK + 1, BLOCK):
        part = fixed[start : start + BLOCK]
        if part[_MAGIC] == b"ustar":
            part[_CHECKSUM] = b" " * 8
            part[_CHECKSUM] = b"%06o\0 " % sum(part)
            fixed[start : start + BLOCK] = part
    return bytes(fixed)


def attributes(**values: str) -> bytes:
    """The content of a header with attributes (pax); a dot in a name is written as two underscores."""
    records = []
    for name, value in values.items():
        rest = f" {name.replace('__', '.')}={value}\n".encode()
        # The length counts its own digits.
        size = len(rest) + len(str(len(rest)))
        size += len(str(size)) - len(str(len(rest)))
        records.append(str(size).encode() + rest)
    return b"".join(records)
