"""What a file is, by its first bytes; and what in it would lead to other files of this computer."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

from pytest_vbox.images.errors import ImageError
from pytest_vbox.models import DiskFormat

_HEAD: Final = 1024
_COMPRESSED: Final = {
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"BZh": "bz2",
}
_RAW_ENDINGS: Final = frozenset({".img", ".raw", ".dd"})
_UNDERSTOOD: Final = (
    "VDI, VMDK, VHD, VHDX, raw, qcow2, OVA, OVF and Vagrant boxes, each also as gz, xz, zst or bz2"
)
_DESCRIPTOR: Final = b"# Disk DescriptorFile"
_DESCRIPTOR_LIMIT: Final = 1024**2
_EXTENT: Final = re.compile(rb'^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)(?:\s+"([^"]*)")?', re.MULTILINE)
_QCOW_BACKING: Final = struct.Struct(">4sIQI")
_QCOW_DATA_FILE: Final = 1 << 2  # incompatible feature: external data file


def compression(file: Path) -> str | None:
    """How a file is compressed: ``gz``, ``xz``, ``zst``, ``bz2``, or None for not at all."""
    head = _head(file)
    return next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)


def disk_format(file: Path, name: str, wanted: DiskFormat | None = None) -> DiskFormat:
    """What a file is that is not compressed.

    Args:
        file: The file.
        name: Its name before it was brought here, whose ending tells a raw disk.
        wanted: What it is said to be, which counts.

    Raises:
        ImageError: It is nothing that is understood.
    """
    if wanted is not None:
        return wanted
    head = _head(file)
    for start, magic, found in (
        (0x40, b"\x7f\x10\xda\xbe", DiskFormat.VDI),
        (0, b"KDMV", DiskFormat.VMDK),
        (0, _DESCRIPTOR, DiskFormat.VMDK),
        (0, b"conectix", DiskFormat.VHD),
        (0, b"vhdxfile", DiskFormat.VHDX),
        (0, b"QFI\xfb", DiskFormat.QCOW2),
        (257, b"ustar", _of_tar(name)),
    ):
        if head[start : start + len(magic)] == magic:
            return found
    if b"<Envelope" in head or b":Envelope" in head:
        return DiskFormat.OVF
    if _tail(file).startswith(b"conectix"):
        return DiskFormat.VHD
    if Path(name).suffix.lower() in _RAW_ENDINGS and head[510:512] == b"\x55\xaa":
        return DiskFormat.RAW
    raise ImageError(
        f"{name} is nothing that is understood ({_UNDERSTOOD}). A raw disk without a partition table, or with "
        "another ending than .img, .raw or .dd, needs format: raw"
    )


def check_harmless(file: Path, found: DiskFormat, folder: Path) -> None:
    """Refuse a disk that consists of other files than those in its own folder.

    A disk from elsewhere could name any file of this computer as a part of itself, and the guest would read it.

    Args:
        file: The disk.
        found: Its format.
        folder: The folder whose files it may consist of.

    Raises:
        ImageError: It names another file.
    """
    if found is DiskFormat.QCOW2:
        _check_qcow2(file)
    elif found is DiskFormat.VMDK:
        _check_vmdk(file, folder)


def _check_qcow2(file: Path) -> None:
    head = _head(file)
    _, version, backing, length = _QCOW_BACKING.unpack_from(head)
    if backing or length:
        raise ImageError(
            f"{file.name} is a difference to another file, which is not part of it. Make a whole one: "
            f"qemu-img convert -O qcow2 {file.name} whole.qcow2"
        )
    if version >= 3 and int.from_bytes(head[72:80], "big") & _QCOW_DATA_FILE:
        raise ImageError(f"{file.name} keeps its data in another file, and is refused")


def _check_vmdk(file: Path, folder: Path) -> None:
    descriptor = _vmdk_descriptor(file)
    parent = re.search(rb'^parentFileNameHint\s*=\s*"', descriptor, re.MULTILINE)
    if parent:
        raise ImageError(f"{file.name} is a difference to another disk, and not whole without it")
    for kind, name in _EXTENT.findall(descriptor):
        if kind.upper() == b"ZERO":
            continue
        part = name.decode("utf-8", errors="replace")
        if kind.upper() not in {b"SPARSE", b"FLAT", b"VMFS", b"VMFSSPARSE"}:
            raise ImageError(
                f"{file.name} has a part of the type {kind.decode()}, a device of this computer; refused"
            )
        if "/" in part or "\\" in part or part in {"", ".", ".."}:
            raise ImageError(f"{file.name} names {part!r} as a part of itself, which is not beside it; refused")
        path = folder / part
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ImageError(f"{file.name}: its part {part!r} is no plain file; refused")


def _vmdk_descriptor(file: Path) -> bytes:
    """The text in a VMDK that says what it consists of."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
        if not head.startswith(b"KDMV"):
            return head + stream.read(_DESCRIPTOR_LIMIT)
        offset, size = struct.unpack_from("<QQ", head, 28)
        stream.seek(min(offset * 512, 2**62))
        return stream.read(min(size * 512, _DESCRIPTOR_LIMIT))


def _of_tar(name: str) -> DiskFormat:
    return DiskFormat.OVA if Path(name).suffix.lower() == ".ova" else DiskFormat.BOX


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_HEAD)
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}") from error


def _tail(file: Path) -> bytes:
    """The last 512 bytes, where a VHD of fixed size has its signature."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 512))
        return stream.read(512)
