"""From a plan to a registered machine with its disk attached.

Each API call costs 2 to 3 ms, so what a new machine has anyway (BIOS, a clock in local time) is not set again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines.plan import GROUP, OWNER_KEY, Plan
from pytest_vbox.models import Hardware, NetworkAdapter, StorageController
from pytest_vbox.virtualbox import Machine, Medium, Redirect, WebSession
from pytest_vbox.virtualbox import NetworkAdapter as ApiNetworkAdapter
from pytest_vbox.virtualbox.enums import (
    DeviceType,
    FirmwareBootMenuMode,
    FirmwareType,
    GraphicsControllerType,
    LockType,
    NetworkAdapterType,
    NetworkAttachmentType,
    PortMode,
    StorageBus,
    StorageControllerType,
)

#: The name of the NAT rule through which we log in.
SSH_RULE: Final = "ssh"
#: The serial console's log, in the machine's folder.
SERIAL_LOG: Final = "serial.log"
_BOOT_POSITIONS: Final = 4

_BOOT_DEVICES: Final[Mapping[str, DeviceType]] = {
    "hard-disk": DeviceType.HARD_DISK,
    "dvd": DeviceType.DVD,
    "floppy": DeviceType.FLOPPY,
    "network": DeviceType.NETWORK,
}
_GRAPHICS: Final[Mapping[str, GraphicsControllerType]] = {
    "vboxvga": GraphicsControllerType.VBOX_VGA,
    "vmsvga": GraphicsControllerType.VMSVGA,
    "vboxsvga": GraphicsControllerType.VBOX_SVGA,
    "none": GraphicsControllerType.NULL,
}
_BUSES: Final[Mapping[str, StorageBus]] = {
    "ide": StorageBus.IDE,
    "sata": StorageBus.SATA,
    "scsi": StorageBus.SCSI,
    "sas": StorageBus.SAS,
    "virtio": StorageBus.VIRTIO_SCSI,
    "nvme": StorageBus.PCIE,
}
# Every resume holds the network link down for 5 s, so that guests renew their DHCP lease; behind NAT nothing
# changes for them. The key exists per device in VBoxDD.
_LINK_DEVICES: Final[Mapping[str, str]] = {
    "Am79C970A": "pcnet",
    "Am79C973": "pcnet",
    "I82540EM": "e1000",
    "I82543GC": "e1000",
    "I82545EM": "e1000",
    "Virtio": "virtio-net",
}


def create(
    session: WebSession, plan: Plan, forwards: Mapping[int, Sequence[Redirect]], *, record_serial: bool
) -> Machine:
    """Create, configure and register a machine; it has no disk yet.

    Args:
        session: The connection to VirtualBox.
        plan: What it shall be.
        forwards: The NAT rules, by the slot of their adapter, every host port chosen.
        record_serial: Write what the guest says on its first serial port into the machine's folder.
    """
    virtualbox = session.virtualbox
    machine = virtualbox.create_machine("", plan.name, [GROUP], plan.model.os_type, f"UUID={plan.id}")
    _sign(machine, plan)
    hardware = plan.model.hardware
    _configure_scalars(machine, hardware)
    _configure_firmware(machine, hardware)
    _configure_network(machine, hardware, forwards)
    _configure_storage(machine, hardware.storage[0])
    if record_serial:
        _record_serial_console(machine)
    for key, value in hardware.extra_data.items():
        machine.set_extra_data(key, value)
    machine.save_settings()
    virtualbox.register_machine(machine)
    return virtualbox.find_machine(plan.id)


def attach_disk(session: WebSession, machine: Machine, plan: Plan, base: Medium, deadline: Deadline) -> None:
    """Attach a base; VirtualBox makes the differencing disk by itself, in the machine's own folder."""
    controller = plan.model.hardware.storage[0]
    with session.lock(machine, LockType.WRITE, deadline) as held:
        mutable = held.machine
        mutable.attach_device(controller.name, 0, 0, DeviceType.HARD_DISK, base)
        mutable.save_settings()


def nat_slot(hardware: Hardware) -> int | None:
    """The slot of the first adapter behind NAT, through which SSH comes, or None."""
    for slot, adapter in enumerate(hardware.network):
        if adapter is not None and adapter.enabled and adapter.attachment == "nat":
            return slot
    return None


def _sign(machine: Machine, plan: Plan) -> None:
    """Say in the machine itself whose it is; with the ledger lost, this alone is enough to clean up."""
    owner = {
        "run": plan.owner.run,
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "test": plan.owner.test,
    }
    machine.set_extra_data(OWNER_KEY, json.dumps(owner))


def _configure_scalars(machine: Machine, hardware: Hardware) -> None:
    machine.memory_size = hardware.memory
    machine.cpu_count = hardware.cpus
    if hardware.rtc_utc:
        machine.platform.rtc_use_utc = True
    if hardware.description:
        machine.description = hardware.description
    if hardware.graphics_controller is not None:
        machine.graphics_adapter.graphics_controller_type = _GRAPHICS[hardware.graphics_controller]
    if hardware.vram is not None:
        machine.graphics_adapter.vram_size = hardware.vram
    for position in range(1, _BOOT_POSITIONS + 1):
        order = hardware.boot_order
        device = _BOOT_DEVICES[order[position - 1]] if position <= len(order) else DeviceType.NULL
        machine.set_boot_order(position, device)


def _configure_firmware(machine: Machine, hardware: Hardware) -> None:
    firmware = FirmwareType(hardware.firmware.upper())
    if firmware is not FirmwareType.BIOS:
        machine.firmware_kind.firmware_type = firmware
    # Logo and boot menu cost every boot about 2.5 s. (How long the logo stays is 0 unless it is set.)
    settings = machine.firmware_settings
    settings.logo_fade_in = False
    settings.logo_fade_out = False
    settings.boot_menu_mode = FirmwareBootMenuMode.DISABLED


def _configure_network(machine: Machine, hardware: Hardware, forwards: Mapping[int, Sequence[Redirect]]) -> None:
    for slot, model in enumerate(hardware.network):
        if model is None and slot > 0:
            continue  # only the first one is there unasked
        adapter = machine.get_network_adapter(slot)
        adapter.enabled = model is not None and model.enabled
        if model is None:
            continue
        _configure_adapter(adapter, model)
        device = _LINK_DEVICES[model.adapter_type]
        machine.set_extra_data(f"VBoxInternal/Devices/{device}/{slot}/Config/LinkUpDelay", "0")
        if forwards.get(slot):
            engine = adapter.nat_engine
            for rule in forwards[slot]:
                engine.add_redirect(rule)


def _configure_adapter(adapter: ApiNetworkAdapter, model: NetworkAdapter) -> None:
    adapter.adapter_type = NetworkAdapterType(model.adapter_type)
    adapter.attachment_type = (
        NetworkAttachmentType.NAT if model.attachment == "nat" else NetworkAttachmentType.NULL
    )
    if not model.cable_connected:
        adapter.cable_connected = False
    if model.mac_address is not None:
        adapter.mac_address = model.mac_address


def _configure_storage(machine: Machine, model: StorageController) -> None:
    controller = machine.add_storage_controller(model.name, _BUSES[model.bus])
    if model.bus in {"ide", "scsi"}:  # the others have but one
        controller.controller_type = StorageControllerType(model.type)
    controller.port_count = model.ports
    if model.host_io_cache is not None:
        controller.use_host_io_cache = model.host_io_cache
    if not model.bootable:
        machine.set_storage_controller_bootable(model.name, False)


def _record_serial_console(machine: Machine) -> None:
    port = machine.get_serial_port(0)
    path = machine.settings_file_path
    separator = "\\" if "\\" in path else "/"
    port.path = path.rpartition(separator)[0] + separator + SERIAL_LOG
    port.host_mode = PortMode.RAW_FILE
    port.enabled = True
