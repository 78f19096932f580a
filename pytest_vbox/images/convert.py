"""Turning disks of other formats into VDI, by VirtualBox itself."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from pytest_vbox.deadline import Deadline
from pytest_vbox.images.bases import anchor_id
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.report import Report
from pytest_vbox.virtualbox import Medium, Progress, VirtualBox
from pytest_vbox.virtualbox.appliance import Description
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


class Converter(Protocol):
    """What can be done with a disk's file."""

    def to_vdi(self, source: Path, target: Path, report: Report, *, own: bool) -> None:
        """Copy a disk of any format that VirtualBox reads into a VDI.

        Args:
            source: The disk; it is only read, but see ``own``.
            target: The VDI, which is not there yet.
            report: Is told of progress.
            own: The file is ours, so that it may get another UUID, should VirtualBox know its own already.
        """

    def from_raw(self, source: Path, target: Path, report: Report) -> None:
        """Copy a raw disk into a VDI."""

    def import_appliance(self, file: Path, target: Path, report: Report) -> Mapping[str, object]:
        """Bring the first disk of an OVF or OVA into a VDI. Returns what the appliance says of its machine."""

    def forget(self, disk: Path) -> None:
        """Take a base out of VirtualBox, so that its file can be deleted.

        Raises:
            ImageError: Machines stand on it.
        """


class VirtualBoxConverter:
    """A :class:`Converter` over the VirtualBox of this computer.

    Args:
        virtualbox: The VirtualBox.
    """

    def __init__(self, virtualbox: VirtualBox) -> None:
        self._virtualbox = virtualbox

    def to_vdi(self, source: Path, target: Path, report: Report, *, own: bool) -> None:
        """See :class:`Converter`."""
        try:
            medium = self._virtualbox.open_medium(str(source), DeviceType.HARD_DISK, AccessMode.READ_ONLY)
        except VirtualBoxError as error:
            if not (own and "UUID" in error.text):
                _by_qemu(source, target, error)
                return
            medium = self._virtualbox.open_medium(str(source), force_new_uuid=True)
        try:
            self._clone(medium, target, report)
        except VirtualBoxError as error:
            target.unlink(missing_ok=True)
            raise ImageError(f"{source.name} could not be converted: {error.text}") from error
        finally:
            with suppress(VirtualBoxError):
                medium.close()

    def from_raw(self, source: Path, target: Path, report: Report) -> None:
        """See :class:`Converter`. VirtualBox opens raw disks only as parts of a VMDK, so one is made around it."""
        size = source.stat().st_size
        if size % _SECTOR:
            raise ImageError(f"{source.name} is no raw disk: its size, {size} bytes, is no multiple of {_SECTOR}")
        around = target.with_suffix(".vmdk")
        # The descriptor is text, so the disk gets a name that needs no quoting.
        link = target.with_name("raw-disk.img")
        link.symlink_to(source.resolve())
        around.write_text(
            _FLAT.format(sectors=size // _SECTOR, name=link.name, uuid=uuid.uuid4()), encoding="ascii"
        )
        try:
            self.to_vdi(around, target, report, own=True)
        finally:
            around.unlink()
            link.unlink()

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
            self._wait(appliance.import_machines([ImportOptions.IMPORT_TO_VDI]), f"import {file.name}", report)
            for machine_id in appliance.machines:
                self._take_disk(machine_id, target)
        except VirtualBoxError as error:
            raise ImageError(f"{file.name} could not be imported: {error.text}") from error
        return _suggested(descriptions)

    def forget(self, disk: Path) -> None:
        """See :class:`Converter`."""
        try:
            anchor = self._virtualbox.find_machine(str(anchor_id(str(disk))))
        except ObjectNotFound:
            return
        medium = self._virtualbox.open_medium(str(disk))
        if medium.children:
            raise ImageError(f"{disk} is in use by machines; remove them first (pytest-vbox machines list)")
        anchor.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
        anchor.delete_config([]).wait(Deadline(_PATIENCE))
        with suppress(VirtualBoxError):  # it went with the anchor's registry
            self._virtualbox.open_medium(str(disk)).close()

    def _clone(self, medium: Medium, target: Path, report: Report) -> None:
        copy = self._virtualbox.create_medium("VDI", str(target), AccessMode.READ_WRITE, DeviceType.HARD_DISK)
        try:
            self._wait(medium.clone_to(copy, [MediumVariant.STANDARD]), f"convert {medium.name}", report)
        finally:
            copy.close()

    def _wait(self, progress: Progress, what: str, report: Report) -> None:
        report(what, 0, None)
        progress.wait(Deadline(_PATIENCE))
        report(what, 1, 1)

    def _take_disk(self, machine_id: str, target: Path) -> None:
        """Take an imported machine apart: its disk stays, the rest goes."""
        machine = self._virtualbox.find_machine(machine_id)
        folder = Path(machine.settings_file_path).parent
        disks = [entry.medium for entry in machine.medium_attachments if entry.type is DeviceType.HARD_DISK]
        machine.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
        found = [disk for disk in disks if disk is not None]
        location = Path(found[0].location) if found else None
        for disk in found:
            disk.close()
        machine.delete_config([]).wait(Deadline(_PATIENCE))
        if location is not None and location != target:
            shutil.move(location, target)
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


def _by_qemu(source: Path, target: Path, error: VirtualBoxError) -> None:
    """Convert what VirtualBox cannot read with qemu-img, where it is installed."""
    tool = shutil.which("qemu-img")
    if tool is None:
        raise ImageError(
            f"VirtualBox cannot read {source.name}: {error.text}\nInstall qemu-img (Debian: qemu-utils), which is "
            f"tried then, or convert it elsewhere: qemu-img convert -O vdi {source.name} image.vdi"
        ) from error
    done = subprocess.run(
        [tool, "convert", "-O", "vdi", "--", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    if done.returncode:
        target.unlink(missing_ok=True)
        raise ImageError(
            f"neither VirtualBox nor qemu-img can read {source.name}: {error.text}; {done.stderr.strip()[-500:]}"
        ) from error
