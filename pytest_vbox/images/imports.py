"""From any file that an image may be to a VDI of our own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pytest_vbox.images import archives, box
from pytest_vbox.images.appliances import without_settings
from pytest_vbox.images.box import vagrant_box
from pytest_vbox.images.compression import name_inside, uncompress
from pytest_vbox.images.convert import Converter
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.formats import compression, disk_format
from pytest_vbox.images.harmless import check_appliance, check_harmless, check_whole
from pytest_vbox.images.report import Report
from pytest_vbox.models import DiskFormat, Image

__all__ = ["DISK", "Imported", "import_disk", "usable_in_place", "vagrant_box"]

_IN_PLACE: Final = frozenset({DiskFormat.VDI, DiskFormat.VMDK, DiskFormat.VHD})
#: The name of the VDI.
DISK: Final = "disk.vdi"


@dataclass(frozen=True)
class Imported:
    """A disk, and the login that came with it.

    Attributes:
        disk: The VDI.
        user: Who logs in, if a box says so.
        private_key: That user's key.
        password: That user's password, if a box says it.
        suggested: What a box or an appliance says of its machine, by the models' keys.
    """

    disk: Path
    user: str | None = None
    private_key: Path | None = None
    suggested: Mapping[str, object] = field(default_factory=dict)
    password: str | None = field(default=None, repr=False)


def usable_in_place(file: Path, image: Image) -> bool:
    """Whether VirtualBox can share a file as it is: a disk of a format of its own, not compressed.

    What is nothing that is known is left to VirtualBox too, whose error says more.

    Raises:
        ImageError: The disk consists of files elsewhere, or is not what ``format:`` says.
    """
    if not file.is_file() or compression(file) is not None:
        return False
    try:
        found = disk_format(file, file.name, image.format)
    except ImageError:
        if image.format is not None:
            raise
        found = DiskFormat.VDI
    if found in _IN_PLACE:
        check_harmless(file)
        return True
    return False


def import_disk(file: Path, image: Image, folder: Path, converter: Converter | None, report: Report) -> Imported:
    """Make a VDI of a file (or of a box's folder).

    Args:
        file: What the image is.
        image: The image, whose ``format`` counts.
        folder: Where to; it is there, and empty. Only what is returned is in it afterwards.
        converter: Turns other formats into VDI.
        report: Is told of progress.

    Raises:
        ImageError: It is broken, not understood, or refused.
    """
    if converter is None:
        raise ImageError(f"image {image.source} has to be converted, for which VirtualBox has to be connected")
    work = folder / "work"
    work.mkdir()
    try:
        if file.is_dir():
            return _box(file, folder, converter, report)
        return _file(file, image, work, folder, converter, report)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _file(file: Path, image: Image, work: Path, folder: Path, converter: Converter, report: Report) -> Imported:
    name, own = file.name, False
    kind = compression(file)
    # A box is compressed as a whole, which unpacking sees to.
    if kind is not None and not (image.format is DiskFormat.BOX or name.lower().endswith(".box") or _is_tar(file)):
        name = name_inside(name)
        unpacked = work / (Path(name).name or "disk")
        uncompress(file, kind, unpacked, report)
        file, own = unpacked, True
    found = DiskFormat.BOX if kind is not None and not own else disk_format(file, name, image.format)
    target = folder / DISK
    match found:
        case DiskFormat.BOX | DiskFormat.OVA:
            return _archive(file, found, work, folder, converter, report)
        case DiskFormat.OVF:
            return _appliance(file, work, target, converter, report)
        case DiskFormat.RAW:
            converter.from_raw(file, target, report)
        case _:
            check_harmless(file)
            check_whole(file)
            converter.to_vdi(file, found, target, report, own=own)
    return Imported(target)


def _archive(
    file: Path, found: DiskFormat, work: Path, folder: Path, converter: Converter, report: Report
) -> Imported:
    inside = work / "archive"
    inside.mkdir()
    members = archives.unpack(file, inside, report)
    appliances = [path for path in members if path.suffix.lower() == ".ovf" and path.name != "box.ovf"]
    if found is DiskFormat.OVA or (appliances and not (inside / "metadata.json").exists()):
        descriptions = [path for path in members if path.suffix.lower() == ".ovf"]
        if len(descriptions) != 1:
            raise ImageError(f"{file.name} should have one .ovf file, and has {len(descriptions)}")
        for disk in members:  # those that the description does not name, too
            if disk.suffix.lower() == ".vmdk":
                check_harmless(disk)
        return _appliance(descriptions[0], work, folder / DISK, converter, report)
    return _box(inside, folder, converter, report)


def _appliance(ovf: Path, work: Path, target: Path, converter: Converter, report: Report) -> Imported:
    parts = check_appliance(ovf)
    alone = work / "appliance"
    alone.mkdir()
    copy = without_settings(ovf, parts, alone)
    return Imported(target, suggested=converter.import_appliance(copy, target, report))


def _box(inside: Path, folder: Path, converter: Converter, report: Report) -> Imported:
    read = box.read_box(inside)
    found = disk_format(read.disk, read.disk.name)
    check_harmless(read.disk)
    check_whole(read.disk)
    # A box that Vagrant keeps is Vagrant's, and is not written to.
    converter.to_vdi(read.disk, found, folder / DISK, report, own=inside.is_relative_to(folder))
    key = box.copy_key(read.private_key, folder) if read.private_key else None
    if key is None and read.password is None:
        key = box.insecure_key(folder)
    suggested = {"base_mac": read.base_mac} if read.base_mac else {}
    return Imported(folder / DISK, read.user, key, suggested, read.password)


def _is_tar(file: Path) -> bool:
    """Whether a compressed file is an archive."""
    try:
        with archives.Archive.open(file, "r|*") as archive:
            return archive.next() is not None
    except (ImageError, OSError, *archives.BROKEN):
        return False
