"""Storage controllers and what is attached to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.files import read_regular
from pytest_vbox.machines.configure.ports import in_folder_of
from pytest_vbox.machines.configure.refusal import Keys
from pytest_vbox.machines.configure.terms import api_term
from pytest_vbox.models import Hardware, NewDisk, StorageController, StorageDevice
from pytest_vbox.virtualbox import Machine, Medium, VirtualBox
from pytest_vbox.virtualbox.enums import (
    AccessMode,
    DeviceType,
    MediumVariant,
    StorageBus,
    StorageControllerType,
)

_MEBIBYTE: Final = 1024**2
_CHOICE: Final = frozenset({"ide", "scsi"})
_FIXED_PORTS: Final = frozenset({"ide", "scsi", "usb", "floppy"})


def add_controllers(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    """Add the controllers, empty."""
    for index, model in enumerate(hardware.storage):
        with keys.of("storage", index):
            _add_controller(machine, model)


def _add_controller(machine: Machine, model: StorageController) -> None:
    controller = machine.add_storage_controller(model.name, api_term(StorageBus, model.bus))
    if model.bus in _CHOICE:  # the others have but one
        controller.controller_type = StorageControllerType(model.type)
    if model.bus not in _FIXED_PORTS:
        controller.port_count = model.ports
    if model.host_io_cache is not None:
        controller.use_host_io_cache = model.host_io_cache
    if not model.bootable:
        machine.set_storage_controller_bootable(model.name, False)


def devices(hardware: Hardware) -> Iterator[tuple[int, int, StorageController, StorageDevice]]:
    """What is attached besides the image's disk: index of the controller, position there, controller, device."""
    base, base_position = hardware.place_of_base()
    for index, controller in enumerate(hardware.storage):
        for position, device in enumerate(controller.devices):
            if device is None or (controller is base and position == base_position):
                continue
            yield index, position, controller, device


def attach_base(machine: Machine, hardware: Hardware, base: Medium, keys: Keys) -> None:
    """Attach the image's disk; VirtualBox makes the differencing disk by itself."""
    controller, position = hardware.place_of_base()
    device = controller.device(position)
    port, slot = controller.place(position)
    machine.attach_device(controller.name, port, slot, DeviceType.HARD_DISK, base)
    if device is not None:
        _set_properties(machine, controller, position, device, keys, hardware.storage.index(controller))


def attach(
    machine: Machine,
    index: int,
    position: int,
    controller: StorageController,
    device: StorageDevice,
    medium: Medium | None,
    keys: Keys,
) -> None:
    """Attach one more device.

    Args:
        machine: The machine, locked for writing.
        index: The controller's place in the model.
        position: The device's place at the controller.
        controller: The controller.
        device: The device.
        medium: What is in it, or None for an empty drive.
        keys: Where the model is written.
    """
    port, slot = controller.place(position)
    kind = api_term(DeviceType, device.type)
    with keys.of("storage", index, "devices", position):
        if medium is None:
            machine.attach_device_without_medium(controller.name, port, slot, kind)
        else:
            machine.attach_device(controller.name, port, slot, kind, medium)
        _set_properties(machine, controller, position, device, keys, index)


def create_disk(virtualbox: VirtualBox, machine: Machine, name: str, model: NewDisk, deadline: Deadline) -> Medium:
    """Make a new disk in the machine's folder."""
    location = in_folder_of(machine, f"{name}.{model.format}")
    medium = virtualbox.create_medium(model.format.upper(), location, AccessMode.READ_WRITE, DeviceType.HARD_DISK)
    variants = [api_term(MediumVariant, variant) for variant in model.variant]
    medium.create_base_storage(model.size * _MEBIBYTE, variants).wait(deadline)
    return medium


def copy_floppy(machine: Machine, source: Path, name: str) -> Path:
    """Copy a floppy image into the machine's folder, since the guest may write to it."""
    copy = Path(in_folder_of(machine, f"{name}.img"))
    copy.write_bytes(read_regular(source))
    return copy


def _set_properties(
    machine: Machine,
    controller: StorageController,
    position: int,
    device: StorageDevice,
    keys: Keys,
    index: int,
) -> None:
    place = (controller.name, *controller.place(position))
    above = ("storage", index, "devices", position)
    setters: Mapping[str, object] = {
        "hot_pluggable": machine.set_hot_pluggable_for_device,
        "non_rotational": machine.non_rotational_device,
        "discard": machine.set_auto_discard_for_device,
    }
    for key, setter in setters.items():
        value = getattr(device, key)
        if value is not None:
            with keys.of(*above, key):
                setter(*place, value)  # type: ignore[operator]
    if device.bandwidth_group is not None:
        with keys.of(*above, "bandwidth_group"):
            group = machine.bandwidth_control.get_bandwidth_group(device.bandwidth_group)
            machine.set_bandwidth_group_for_device(*place, group)
