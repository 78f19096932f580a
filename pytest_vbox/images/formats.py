"""What a file is, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.harmless import DISK_DESCRIPTOR
from pytest_vbox.models import DiskFormat

_HEAD: Final = 1024
_COMPRESSED: Final = {
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"BZh": "bz2",
}
_RAW_ENDINGS: Final = frozenset({".img", ".raw", ".dd"})
_BY_WORD: Final = frozenset({DiskFormat.RAW, DiskFormat.OVA, DiskFormat.OVF, DiskFormat.BOX})
_UNDERSTOOD: Final = (
    "VDI, VMDK, VHD, VHDX, raw, qcow2, OVA, OVF and Vagrant boxes, each also as gz, xz, zst or bz2"
)


def compression(file: Path) -> str | None:
    """How a file is compressed: ``gz``, ``xz``, ``zst``, ``bz2``, or None for not at all."""
    head = _head(file)
    return next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)


def disk_format(file: Path, name: str, wanted: DiskFormat | None = None) -> DiskFormat:
    """What a file is that is not compressed.

    Args:
        file: The file.
        name: Its name before it was brought here, whose ending tells a raw disk.
        wanted: What it is said to be. It counts for raw disks and archives; a disk of another format has to be
            what it is said to be, since VirtualBox goes by the bytes, and opens what was not looked at.

    Raises:
        ImageError: It is nothing that is understood, or not what it is said to be.
    """
    if wanted in _BY_WORD:
        return wanted
    found = _by_bytes(file, name)
    if wanted is not None and found is not wanted:
        raise ImageError(f"{name} is {found}, and not {wanted}, as `format:` says")
    return found


def _by_bytes(file: Path, name: str) -> DiskFormat:
    head = _head(file)
    for start, magic, found in (
        (0x40, b"\x7f\x10\xda\xbe", DiskFormat.VDI),
        (0, b"KDMV", DiskFormat.VMDK),
        (0, DISK_DESCRIPTOR, DiskFormat.VMDK),
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
