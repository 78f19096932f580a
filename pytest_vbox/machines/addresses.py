"""The guest's addresses, as its Guest Additions tell them."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.printable import short
from pytest_vbox.virtualbox import Machine, VirtualBox
from pytest_vbox.virtualbox.enums import VBoxEventType
from pytest_vbox.virtualbox.errors import VirtualBoxError

_BASE: Final = "/VirtualBox/GuestInfo/Net"
# Interfaces that are looked at; what says that there are more is no guest that means well.
_MOST: Final = 64


def address(virtualbox: VirtualBox, machine: Machine, slot: int, deadline: Deadline) -> str:
    """The IPv4 address of an adapter, from the guest properties.

    Args:
        virtualbox: The VirtualBox.
        machine: The machine, which runs.
        slot: The adapter's slot.
        deadline: For how long to wait until the guest says.

    Raises:
        MachineError: It did not, or what it said is no address.
    """
    mac = machine.get_network_adapter(slot).mac_address
    found: list[str] = []

    def look() -> bool:
        found[:] = [ip for ip in [_address_of(machine, mac)] if ip]
        return any(map(_is_address, found))

    def seen() -> str:
        said = f", but the guest says it is '{short(found[0], 100)}'" if found else ""
        return f"no address for the adapter {mac} in slot {slot}{said}"

    try:
        virtualbox.event_source.wait_until(look, [VBoxEventType.ON_GUEST_PROPERTY_CHANGED], deadline, seen)
    except VirtualBoxError as error:
        raise MachineError(
            f"{machine.name}: {error.text}. Do the Guest Additions (VBoxService) run in the guest?"
        ) from error
    return found[0]


def _address_of(machine: Machine, mac: str) -> str:
    # The guest numbers its interfaces in its own way, so the MAC address decides. All of it is the guest's word.
    count = machine.get_guest_property_value(f"{_BASE}/Count")
    for index in range(min(int(count), _MOST) if re.fullmatch("[0-9]{1,9}", count) else 0):
        if machine.get_guest_property_value(f"{_BASE}/{index}/MAC").upper() == mac.upper():
            return machine.get_guest_property_value(f"{_BASE}/{index}/V4/IP")
    return ""


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True
