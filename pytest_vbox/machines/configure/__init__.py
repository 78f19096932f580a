"""From a hardware model to the settings of a machine that was just created, a module for each part of it.

Each API call costs 2 to 3 ms, so what a new machine has anyway, or what the model leaves open, is not set. What
VirtualBox refuses is reported with the key that caused it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_vbox.machines.configure import board, network, ports, storage
from pytest_vbox.machines.configure.refusal import Keys
from pytest_vbox.models import MachineModel
from pytest_vbox.virtualbox import Machine, Redirect

__all__ = ["configure"]


def configure(
    machine: Machine,
    model: MachineModel,
    forwards: Mapping[int, Sequence[Redirect]],
    *,
    record_serial: bool,
) -> None:
    """Set everything but what is attached to storage controllers, which needs a registered machine.

    Args:
        machine: A machine that is not registered yet.
        model: What it shall be.
        forwards: The NAT rules, by the slot of their adapter, every host port chosen.
        record_serial: Whether this computer can read a log in the machine's folder.

    Raises:
        HardwareRefused: VirtualBox refused the value of a key.
    """
    hardware, keys = model.hardware, Keys(model)
    board.configure(machine, hardware, keys)
    ports.configure(machine, hardware, keys, record_serial=record_serial)
    # Limits come before the adapters that share them.
    network.configure(machine, hardware, forwards, keys)
    storage.add_controllers(machine, hardware, keys)
    for name, value in hardware.guest_properties.items():
        with keys.of("guest_properties", name):
            machine.set_guest_property(name, value)
    for name, value in hardware.extra_data.items():
        with keys.of("extra_data", name):
            machine.set_extra_data(name, value)
