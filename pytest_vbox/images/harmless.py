"""What in a disk, or in a description of an appliance, would lead to other files of this computer.

A disk from elsewhere could name any file of this computer as a part of itself, and the guest would read it. So
what a file says of itself is looked at before VirtualBox or qemu-img is given it; by its bytes, whatever it is
called, since they go by the bytes too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_vbox.images.errors import ImageError
from pytest_vbox.printable import harmless

if TYPE_CHECKING:
    from lxml import etree

DISK_DESCRIPTOR: Final = b"# Disk DescriptorFile"
_DESCRIPTOR_LIMIT: Final = 1024**2
_SECTOR: Final = 512
_TEXT: Final = re.compile(rb"\s*(?:#|version=)")  # VirtualBox and qemu-img know more than one first line
_IS_EXTENT: Final = re.compile(rb"\s*(?:RW|RDONLY|NOACCESS)", re.IGNORECASE)
_EXTENT: Final = re.compile(rb'\s*(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+(\w+)(?:[ \t]+"([^"]*)"(?:[ \t]+\S+)*)?\s*')
# qemu-img takes what stands two characters after the word, up to the next quote.
_PARENT: Final = re.compile(rb'parentFileNameHint(?!=""\s*$)', re.IGNORECASE | re.MULTILINE)
_PARENT_NUMBER: Final = re.compile(
    rb'^[ \t]*(?:parentCID[ \t]*=[ \t]*(?!f{8}\b|0+\b)[0-9a-f]|ddb\.uuid\.parent[ \t]*=[ \t]*"(?!0{8}-)[^"])',
    re.IGNORECASE | re.MULTILINE,
)
_SPARSE: Final = (b"KDMV", b"COWD")  # what VMDKs begin with that are no text
_HEADER: Final = struct.Struct("<4sIIQQQQIQQ")
_FOOTER: Final = 2 * _SECTOR  # before the end of the file
# Where qemu-img looks for the name of the parent of a sparse VMDK, wherever the header says the text is.
_PARENT_PLACE: Final = (512, 20 * _SECTOR)
_LINKED: Final = frozenset({b"SPARSE", b"VMFSSPARSE"})  # such a part may have parts itself
_PLAIN: Final = frozenset({b"FLAT", b"VMFS"})
_QCOW_BACKING: Final = struct.Struct(">4sIQI")
_QCOW_DATA_FILE: Final = 1 << 2  # incompatible feature: external data file
_XML_LIMIT: Final = 1024**2


def check_harmless(disk: Path) -> None:
    """Refuse a disk that consists of other files than those in its own folder.

    Raises:
        ImageError: It names another file, or is a difference to one.
    """
    _check([disk], set())


def check_whole(disk: Path) -> None:
    """Refuse a disk that is a difference to another one, known to VirtualBox only by its number.

    It could not read anything that was not there, but qemu-img takes some for whole, and gives half a disk.

    Raises:
        ImageError: It is one.
    """
    try:
        with disk.open("rb") as stream:
            head = stream.read(_SECTOR)
            stream.seek(max(0, disk.stat().st_size - _SECTOR))
            tail = stream.read(_SECTOR)
        texts = [_text_at(disk, *_PARENT_PLACE)] if head.startswith(_SPARSE) else []
        texts += [_vmdk_text(disk)] if _TEXT.match(head) else []
    except OSError as error:
        raise ImageError(f"{disk} cannot be read: {error.strerror}") from error
    is_vdi = head[0x40:0x44] == b"\x7f\x10\xda\xbe"
    if (
        any(_PARENT_NUMBER.search(text) for text in texts)
        or (is_vdi and head[0x4C:0x50] == b"\4\0\0\0")
        or any(part.startswith(b"conectix") and part[60:64] == b"\0\0\0\4" for part in (head, tail))
    ):
        raise _incomplete(disk)


def _check(disks: list[Path], seen: set[Path]) -> None:
    """Look at some disks and at all that they lead to, each once, however many others name it."""
    waiting = list(disks)
    while waiting:
        disk = waiting.pop()
        if disk not in seen:
            seen.add(disk)
            waiting += _check_one(disk)


def _check_one(disk: Path) -> list[Path]:
    """Look at one disk; returns those that may name others in turn."""
    try:
        with disk.open("rb") as stream:
            head = stream.read(_SECTOR)
        if head.startswith(b"QFI\xfb"):
            _check_qcow2(disk, head)
        elif head.startswith(_SPARSE) or _TEXT.match(head):
            return list(dict.fromkeys(_vmdk_parts(disk, head)))
        elif head.startswith(b"QED\0"):
            raise ImageError(f"{disk.name} is a QED, which may be a difference to another file; refused")
    except OSError as error:
        raise ImageError(f"{disk} cannot be read: {error.strerror}") from error
    return []


def _check_qcow2(disk: Path, head: bytes) -> None:
    if len(head) < _QCOW_BACKING.size:
        raise ImageError(f"{disk.name} is broken, or was cut off")
    _, version, backing, length = _QCOW_BACKING.unpack_from(head)
    if backing or length:
        raise ImageError(
            f"{disk.name} is a difference to another file, which is not part of it. Make a whole one: "
            f"qemu-img convert -O qcow2 {disk.name} whole.qcow2"
        )
    if version >= 3 and int.from_bytes(head[72:80], "big") & _QCOW_DATA_FILE:
        raise ImageError(f"{disk.name} keeps its data in another file, and is refused")


def _vmdk_parts(disk: Path, head: bytes) -> Iterator[Path]:
    """The files that a VMDK consists of beside itself and that may name others in turn."""
    if not head.startswith(_SPARSE):
        yield from _named_parts(disk, _vmdk_text(disk), linked=True)
        return
    if len(head) < _SECTOR:
        raise ImageError(f"{disk.name} is broken, or was cut off")
    if _PARENT.search(_text_at(disk, *_PARENT_PLACE)):
        raise _incomplete(disk)
    for header in (head, _footer(disk)):
        if header.startswith(b"KDMV"):
            _, _, _, capacity, _, sector, sectors, *_ = _HEADER.unpack_from(header)
            # A sparse file that describes itself has its own name there, as it was when it was made. Only one
            # without a size is to qemu-img what it describes.
            yield from _named_parts(disk, _embedded_text(disk, sector, sectors), linked=not capacity)


def _named_parts(disk: Path, descriptor: bytes, *, linked: bool) -> Iterator[Path]:
    """The parts that a description names: all are looked at; those come back that may name others in turn."""
    if _PARENT.search(descriptor):
        raise _incomplete(disk)
    for line in re.split(rb"[\r\n]", descriptor):
        if not _IS_EXTENT.match(line):
            continue
        found = _EXTENT.fullmatch(line)
        if found is None:
            raise ImageError(f"{disk.name} has a part that is not understood: {line[:80]!r}; refused")
        kind, name = found[1].upper(), found[2]
        if kind == b"ZERO":
            continue
        if kind not in _LINKED | _PLAIN:
            raise ImageError(
                f"{disk.name} has a part of the type {kind.decode()}, a device of this computer; refused"
            )
        part = _beside(disk, (name or b"").decode("utf-8", errors="replace"))
        if linked and kind in _LINKED and part.is_file():
            yield part


def _incomplete(disk: Path) -> ImageError:
    return ImageError(
        f"{disk.name} is a difference to another disk, and not whole without it. Make a whole one where that is: "
        f"VBoxManage clonemedium {disk.name} whole.vdi"
    )


def _vmdk_text(disk: Path) -> bytes:
    """A VMDK that is nothing but its description."""
    text = _text_at(disk, 0, _DESCRIPTOR_LIMIT + 1)
    if len(text) > _DESCRIPTOR_LIMIT:
        raise ImageError(f"{disk.name} describes itself at too great a length; refused")
    return text


def _embedded_text(disk: Path, sector: int, sectors: int) -> bytes:
    """The description in a sparse VMDK, empty if it has none."""
    if not sector:
        return b""
    if sectors * _SECTOR > _DESCRIPTOR_LIMIT:
        raise ImageError(f"{disk.name} describes itself at too great a length; refused")
    # Whatever size is said: qemu-img reads on until the first NUL.
    return _text_at(disk, min(sector * _SECTOR, 2**62), _DESCRIPTOR_LIMIT)


def _text_at(disk: Path, place: int, limit: int) -> bytes:
    """The text at a place in a disk, as readers in C see it: up to the first NUL."""
    with disk.open("rb") as stream:
        stream.seek(place)
        return stream.read(limit).partition(b"\0")[0]


def _footer(disk: Path) -> bytes:
    """The second header, at the end of the file, of a VMDK that was written in one go: it counts instead."""
    with disk.open("rb") as stream:
        stream.seek(max(0, disk.stat().st_size - _FOOTER))
        return stream.read(_SECTOR).ljust(_SECTOR, b"\0")


def _beside(file: Path, name: str) -> Path:
    """The path of a file that another one names as a part of itself.

    Raises:
        ImageError: It is not in the same folder, or no plain file.
    """
    if name in {"", ".", ".."} or not name.isprintable() or any(sign in name for sign in '/\\:"'):
        raise ImageError(f"{file.name} names {name[:80]!r} as a part of itself, which is not beside it; refused")
    path = file.parent / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise ImageError(f"{file.name}: its part {name!r} is no plain file; refused")
    return path


def check_appliance(ovf: Path) -> list[Path]:
    """Refuse an appliance that consists of other files than those in its own folder.

    Args:
        ovf: The description of the appliance.

    Returns:
        The files that it consists of beside the description, in its order.

    Raises:
        ImageError: It names another file, or one that is not there, or a disk of it does.
    """
    files: list[Path] = []
    seen: set[Path] = set()
    for name, packed in described_files(ovf):
        path = _beside(ovf, name)
        if not path.is_file():
            raise ImageError(f"{ovf.name} names {name!r} as a part of itself, which is not beside it")
        if packed:
            raise ImageError(f"{ovf.name}: its part {name!r} is compressed ({packed:.20}); unpack it first")
        _check([path], seen)
        files.append(path)
    return files


def described_files(ovf: Path) -> list[tuple[str, str]]:
    """The names of the files that an appliance is described to consist of, and how each is compressed."""
    found = []
    for element in parsed_description(ovf).iter("{*}File"):
        attributes = {str(key).rpartition("}")[2]: str(value) for key, value in element.attrib.items()}
        packed = attributes.get("compression", "")
        found.append((attributes.get("href", ""), "" if packed == "identity" else packed))
    return found


def parsed_description(ovf: Path) -> etree._Element:
    """The root of an appliance's description, read as data: no entities, nothing fetched.

    Raises:
        ImageError: It cannot be read, is no XML, or defines entities.
    """
    from lxml import etree

    try:
        if ovf.stat().st_size > _XML_LIMIT:
            raise ImageError(f"{ovf.name} is too long for a description")
        text = ovf.read_bytes()
    except OSError as error:
        raise ImageError(f"{ovf} cannot be read: {error.strerror}") from error
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        raise ImageError(f"{ovf.name} is not XML: {error}") from harmless(error)
    if root.getroottree().docinfo.internalDTD is not None:
        raise ImageError(f"{ovf.name} defines entities of its own; refused")
    return root
