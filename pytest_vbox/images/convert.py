"""Turning disks of other formats into VDI, by VirtualBox itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from pytest_vbox.deadline import Deadline
from pytest_vbox.images.bases import anchor_id
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.report import Report
from pytest_vbox.models import DiskFormat
from pytest_vbox.virtualbox import Machine, Medium, Progress, VirtualBox
from pytest_vbox.virtualbox.appliance import Appliance, Description
from pytest_vbox.virtualbox.enums import (
    AccessMode,
    CleanupMode,
    DeviceType,
    ImportOptions,
    MediumVariant,
)
from pytest_vbox.virtualbox.errors import ObjectNotFound, VirtualBoxError

# For a disk of some hundreds of gigabytes on a slow drive.
_PATIENCE: Final = 6 * 3600.0
_SECTOR: Final = 512
_GROUP: Final = "/pytest-vbox"
_DISK: Final = "disk.vdi"


class Converter(Protocol):
    """What can be done with a disk's file."""

    def to_vdi(self, source: Path, form: DiskFormat, target: Path, report: Report, *, own: bool) -> None:
        """Copy a disk of any format that VirtualBox or qemu-img reads into a VDI.

        Args:
            source: The disk; it is only read, but see ``own``.
            form: Its format.
            target: The VDI, which is not there yet.
            report: Is told of progress.
            own: The file is ours, so that it may get another UUID, should VirtualBox know its own already.
        """

    def from_raw(self, source: Path, target: Path, report: Report) -> None:
        """Copy a raw disk into a VDI."""

    def import_appliance(self, file: Path, target: Path, report: Report) -> Mapping[str, object]:
        """Bring the first disk of an OVF or OVA into a VDI. Returns what the appliance says of its machine."""

    def forget(self, disk: Path) -> None:
        """Take a base out of VirtualBox, so that its file can be deleted or replaced.

        Raises:
            ImageError: Machines stand on it.
        """

    def abandon(self, folder: Path) -> None:
        """Take everything in a folder out of VirtualBox in which a process died."""


class VirtualBoxConverter:
    """A :class:`Converter` over the VirtualBox of this computer.

    Args:
        virtualbox: The VirtualBox.
    """

    def __init__(self, virtualbox: VirtualBox) -> None:
        self._virtualbox = virtualbox

    def to_vdi(self, source: Path, form: DiskFormat, target: Path, report: Report, *, own: bool) -> None:
        """See :class:`Converter`."""
        known = not own and self._knows(source)
        copied = target.with_name(f"copy{source.suffix}")
        try:
            medium = self._opened(source, copied, own=own)
        except VirtualBoxError as error:
            copied.unlink(missing_ok=True)
            _by_qemu(source, form, target, error)
            return
        try:
            if medium.parent is not None:
                # VirtualBox knows the parent, by its UUID: a disk of the user's.
                raise ImageError(f"{source.name} is a difference to another disk, and not whole without it")
            if not medium.logical_size:
                raise ImageError(f"{source.name} is a disk of 0 bytes")
            self._clone(medium, target, report)
        except VirtualBoxError as error:
            target.unlink(missing_ok=True)
            raise ImageError(f"{source.name} could not be converted: {_words(error, target)}") from error
        finally:
            if not known:  # what the user has in the media manager stays there
                with suppress(VirtualBoxError):
                    medium.close()
            copied.unlink(missing_ok=True)

    def from_raw(self, source: Path, target: Path, report: Report) -> None:
        """See :class:`Converter`. VirtualBox opens raw disks only as parts of a VMDK, so one is made around it."""
        size = source.stat().st_size
        if size % _SECTOR or not size:
            raise ImageError(f"{source.name} is no raw disk: its size, {size} bytes, is no multiple of {_SECTOR}")
        around = target.with_suffix(".vmdk")
        # The description is text, so the disk gets a name that needs no quoting.
        link = target.with_name("raw-disk.img")
        try:
            link.symlink_to(source.resolve())
            name = link.name
        except OSError:  # Windows asks for a right to make links; no file has a quote in its name there
            name = str(source.resolve())
        around.write_text(_FLAT.format(sectors=size // _SECTOR, name=name, uuid=uuid.uuid4()), encoding="utf-8")
        try:
            self.to_vdi(around, DiskFormat.VMDK, target, report, own=True)
        finally:
            around.unlink()
            link.unlink(missing_ok=True)

    def import_appliance(self, file: Path, target: Path, report: Report) -> Mapping[str, object]:
        """See :class:`Converter`."""
        deadline = Deadline(_PATIENCE)
        appliance = self._virtualbox.create_appliance()
        try:
            appliance.read(str(file)).wait(deadline)
            appliance.interpret()
            systems = appliance.virtual_system_descriptions
            if len(systems) != 1:
                raise ImageError(
                    f"{file.name} holds {len(systems)} machines; only an appliance of one can be an image"
                )
            descriptions = systems[0].get_description()
            _choose(descriptions, file, target)
            systems[0].set_final_values(descriptions)
            try:
                options = [ImportOptions.IMPORT_TO_VDI]
                self._wait(lambda: appliance.import_machines(options), f"import {file.name}", report)
            except BaseException:
                # VirtualBox may still be at it; what ended the wait (Ctrl-C) is what counts.
                with suppress(VirtualBoxError):
                    self._take_all_apart(appliance, target)
                raise
            self._take_all_apart(appliance, target)
        except VirtualBoxError as error:
            with suppress(VirtualBoxError):
                self._virtualbox.open_medium(str(target)).close()
            raise ImageError(f"{file.name} could not be imported: {_words(error, target)}") from error
        if not target.is_file():
            raise ImageError(f"{file.name} could not be imported: VirtualBox put its disk elsewhere")
        return _suggested(descriptions)

    def forget(self, disk: Path) -> None:
        """See :class:`Converter`."""
        location = str(disk.resolve())
        try:
            anchor = self._virtualbox.find_machine(str(anchor_id(location)))
        except ObjectNotFound:
            anchor = None
        try:
            medium = self._virtualbox.open_medium(location)
        except VirtualBoxError:
            medium = None  # neither known nor there
        if medium is not None:
            medium.refresh_state()
            users = self._users(medium, anchor)
            if users:
                raise ImageError(
                    f"{disk} is in use by {', '.join(users)}; remove them first (pytest-vbox machines list)"
                )
        if anchor is not None:
            anchor.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
            anchor.delete_config([]).wait(Deadline(_PATIENCE))
        # From the anchor's registry it has gone to the global one.
        with suppress(VirtualBoxError):
            self._virtualbox.open_medium(location).close()

    def abandon(self, folder: Path) -> None:
        """See :class:`Converter`."""
        here = folder.resolve()
        for machine in self._virtualbox.machines_by_groups([_GROUP]):
            disks = [entry.medium for entry in machine.medium_attachments if entry.medium is not None]
            if machine.name.startswith(_NAME) and any(here in Path(disk.location).parents for disk in disks):
                with suppress(VirtualBoxError):
                    self._take_apart(machine.id, here / _DISK)
        for medium in self._virtualbox.hard_disks:
            if here in Path(medium.location).parents:
                # One that VirtualBox still works on stays; it is nobody's, and its name is not used again.
                with suppress(VirtualBoxError):
                    medium.close()

    def _users(self, medium: Medium, anchor: Machine | None) -> list[str]:
        """The machines that a base is attached to, itself or by a difference to it."""
        own = anchor.id if anchor is not None else None
        children = medium.children
        names = [f"{child.name}, a difference to it" for child in children if not child.machine_ids]
        for machine_id in {found for each in (medium, *children) for found in each.machine_ids} - {own}:
            with suppress(ObjectNotFound):
                names.append(f"machine {self._virtualbox.find_machine(machine_id).name!r}")
        return sorted(names)

    def _opened(self, source: Path, copied: Path, *, own: bool) -> Medium:
        """A disk, opened to be read.

        If VirtualBox has another disk of the same UUID open, it takes this one only with a new one, which is
        written to the file; so to a copy, unless the file is ours.
        """
        try:
            return self._virtualbox.open_medium(str(source), DeviceType.HARD_DISK, AccessMode.READ_ONLY)
        except VirtualBoxError as error:
            if not ("UUID" in error.text and "already exists" in error.text):
                raise
        if not own:
            source = Path(shutil.copyfile(source, copied))
        return self._virtualbox.open_medium(str(source), force_new_uuid=True)

    def _knows(self, source: Path) -> bool:
        """Whether the user has a disk in VirtualBox already. (One that is attached cannot be closed anyway.)"""
        location = str(source.resolve())
        return any(medium.location == location for medium in self._virtualbox.hard_disks)

    def _clone(self, medium: Medium, target: Path, report: Report) -> None:
        copy = self._virtualbox.create_medium("VDI", str(target), AccessMode.READ_WRITE, DeviceType.HARD_DISK)
        try:
            what = f"convert {medium.name}"
            self._wait(lambda: medium.clone_to(copy, [MediumVariant.STANDARD]), what, report)
        except BaseException:
            # One that is still written cannot be closed; what ended the wait (Ctrl-C) is what counts.
            with suppress(VirtualBoxError):
                copy.close()
            raise
        copy.close()

    def _wait(self, begin: Callable[[], Progress], what: str, report: Report) -> None:
        report(what, 0, 100)
        begin().wait_or_cancel(Deadline(_PATIENCE), lambda percent: report(what, percent, 100))
        report(what, 100, 100)

    def _take_all_apart(self, appliance: Appliance, target: Path) -> None:
        for machine_id in appliance.machines:
            # Of an import that failed, VirtualBox names machines it never made.
            with suppress(ObjectNotFound):
                self._take_apart(machine_id, target)

    def _take_apart(self, machine_id: str, target: Path) -> None:
        """Take an imported machine apart: of its disks the target stays, the rest goes."""
        machine = self._virtualbox.find_machine(machine_id)
        folder = Path(machine.settings_file_path).parent
        machine.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
        with suppress(VirtualBoxError):
            self._virtualbox.open_medium(str(target)).close()
        machine.delete_config([]).wait(Deadline(_PATIENCE))
        if folder.name.startswith(_NAME):
            shutil.rmtree(folder, ignore_errors=True)


_NAME: Final = "pytest-vbox import "
_FLAT: Final = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW {sectors} FLAT "{name}" 0
ddb.virtualHWVersion = "4"
ddb.adapterType = "ide"
ddb.uuid.image="{uuid}"
"""
_SUGGESTIONS: Final[Mapping[str, str]] = {
    "OS": "os_type",
    "CPU": "cpus",
    "Memory": "memory",
    "Description": "description",
    "BootingFirmware": "firmware",
}
_BUSES: Final[Mapping[str, str]] = {
    "HardDiskControllerIDE": "ide",
    "HardDiskControllerSATA": "sata",
    "HardDiskControllerSCSI": "scsi",
    "HardDiskControllerSAS": "sas",
}


def _choose(descriptions: Sequence[Description], file: Path, target: Path) -> None:
    """Let only the first disk be imported, into the target, on a machine with a name of ours."""
    disks = [entry for entry in descriptions if entry.type == "HardDiskImage"]
    if not disks:
        raise ImageError(f"{file.name} has no disk")
    for entry in descriptions:
        if entry.type == "Name":
            entry.vbox_value = f"{_NAME}{uuid.uuid4().hex[:8]}"
        elif entry.type == "PrimaryGroup":
            entry.vbox_value = _GROUP
        elif entry.type in {"SettingsFile", "BaseFolder"}:
            entry.vbox_value = ""
        elif entry.type in {"License", "Floppy", "CDROM", "SoundCard", "USBController", "NetworkAdapter"}:
            entry.enabled = False
    disks[0].vbox_value = str(target)
    for other in disks[1:]:
        other.enabled = False


def _suggested(descriptions: Sequence[Description]) -> dict[str, object]:
    """What an appliance says of its machine, by the models' keys."""
    found: dict[str, object] = {}
    for entry in descriptions:
        if entry.type in _SUGGESTIONS and entry.vbox_value:
            found.setdefault(_SUGGESTIONS[entry.type], entry.vbox_value)
        elif entry.type in _BUSES:
            found.setdefault("bus", _BUSES[entry.type])
    return found


def _words(error: VirtualBoxError, target: Path) -> str:
    """What VirtualBox says; of a full disk in words."""
    if "VERR_DISK_FULL" in error.text:
        return f"no space left in {target.parent}"
    return error.text


def _by_qemu(source: Path, form: DiskFormat, target: Path, error: VirtualBoxError) -> None:
    """Convert what VirtualBox cannot read with qemu-img, where it is installed."""
    tool = shutil.which("qemu-img")
    if tool is None:
        raise ImageError(
            f"VirtualBox cannot read {source.name}: {error.text}\nInstall qemu-img (Debian: qemu-utils), which is "
            f"tried then, or convert it elsewhere: qemu-img convert -O vdi {source.name} image.vdi"
        ) from error
    command = [tool, "convert", "-O", "vdi", "--", qemu_source(source, form), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
        failed = done.stderr.strip()[-500:] if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as problem:
        failed = str(problem)
    if failed is not None:
        target.unlink(missing_ok=True)
        raise ImageError(
            f"neither VirtualBox nor qemu-img can read {source.name}: {error.text}; {failed}"
        ) from error


def qemu_source(source: Path, form: DiskFormat) -> str:
    """A disk as qemu-img is to open it: as what was looked at, and without a parent that it may name."""
    known_as = "vpc" if form is DiskFormat.VHD else str(form)
    file = {"driver": "file", "filename": str(source.absolute())}
    return "json:" + json.dumps({"driver": known_as, "backing": None, "file": file})
