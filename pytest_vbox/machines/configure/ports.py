"""Serial and parallel ports, USB controllers and shared folders."""

from __future__ import annotations

from typing import Final

from pytest_vbox.machines.configure.refusal import Keys
from pytest_vbox.machines.configure.terms import api_term
from pytest_vbox.models import Hardware, ParallelPort, SerialPort
from pytest_vbox.virtualbox import Machine
from pytest_vbox.virtualbox import SerialPort as ApiSerialPort
from pytest_vbox.virtualbox.enums import PortMode, UartType, USBControllerType

#: What may be the serial console's log in a machine's folder: ours, or that of a port in the model.
SERIAL_LOGS: Final = ("serial.log", "serial-0.log")
_SERIAL_PORTS: Final = 4
_MODES: Final = {
    "file": PortMode.RAW_FILE,
    "pipe": PortMode.HOST_PIPE,
    "tcp": PortMode.TCP,
    "device": PortMode.HOST_DEVICE,
    "disconnected": PortMode.DISCONNECTED,
}


def configure(machine: Machine, hardware: Hardware, keys: Keys, *, record_serial: bool) -> None:
    """Set the ports, the first of them to be recorded, and the shared folders."""
    recorded = _recorded_port(hardware) if record_serial else None
    if recorded is not None:
        with keys.of("record_serial"):
            port = machine.get_serial_port(recorded)
            port.path = in_folder_of(machine, SERIAL_LOGS[0])
            port.host_mode = PortMode.RAW_FILE
            port.enabled = True
    for slot, serial in enumerate(hardware.serial_ports):
        if serial is not None:
            with keys.of("serial_ports", slot):
                _configure_serial(machine, slot, serial)
    for slot, parallel in enumerate(hardware.parallel_ports):
        if parallel is not None:
            with keys.of("parallel_ports", slot):
                _configure_parallel(machine, slot, parallel)
    for index, controller in enumerate(hardware.usb_controllers):
        with keys.of("usb_controllers", index):
            machine.add_usb_controller(controller.upper(), api_term(USBControllerType, controller))
    for index, folder in enumerate(hardware.shared_folders):
        with keys.of("shared_folders", index):
            machine.create_shared_folder(
                folder.name,
                str(folder.path),
                writable=folder.writable,
                automount=folder.auto_mount,
                auto_mount_point=folder.mount_point or "",
            )


def record_in_own_folder(machine: Machine, hardware: Hardware) -> None:
    """Let a clone write what its guest says into its own folder, not into that of the machine it was cloned from.

    Args:
        machine: The clone.
        hardware: What both were made of.
    """
    recorded = _recorded_port(hardware)
    if recorded is not None:
        machine.get_serial_port(recorded).path = in_folder_of(machine, SERIAL_LOGS[0])
    for slot, port in enumerate(hardware.serial_ports):
        if port is not None and port.mode == "file" and port.path is None:
            machine.get_serial_port(slot).path = in_folder_of(machine, f"serial-{slot}.log")


def in_folder_of(machine: Machine, name: str) -> str:
    """The path of a file in a machine's folder, on whichever system VirtualBox runs."""
    path = machine.settings_file_path
    separator = "\\" if "\\" in path else "/"
    return path.rpartition(separator)[0] + separator + name


def _recorded_port(hardware: Hardware) -> int | None:
    """The first serial port that is not used for anything else."""
    if not hardware.record_serial:
        return None
    taken = {slot for slot, port in enumerate(hardware.serial_ports) if port is not None}
    return next((slot for slot in range(_SERIAL_PORTS) if slot not in taken), None)


def _configure_serial(machine: Machine, slot: int, model: SerialPort) -> None:
    port: ApiSerialPort = machine.get_serial_port(slot)
    if model.irq is not None:
        port.irq = model.irq
    if model.io_address is not None:
        port.io_address = model.io_address
    if model.uart is not None:
        port.uart_type = UartType(model.uart)
    mode = _MODES[model.mode]
    port.server = model.server
    if mode is PortMode.TCP:
        # The path of a port that listens is its number, of one that connects it is host:port.
        port.path = str(model.port) if model.server else f"{model.address or 'localhost'}:{model.port}"
    elif model.path is not None:
        port.path = model.path
    elif mode is PortMode.RAW_FILE:
        port.path = in_folder_of(machine, f"serial-{slot}.log")
    port.host_mode = mode
    port.enabled = model.enabled


def _configure_parallel(machine: Machine, slot: int, model: ParallelPort) -> None:
    port = machine.get_parallel_port(slot)
    if model.irq is not None:
        port.irq = model.irq
    if model.io_base is not None:
        port.io_base = model.io_base
    if model.path is not None:
        port.path = model.path
    port.enabled = model.enabled
