"""From a plan to a registered machine with its disks attached."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.files import check_regular
from pytest_vbox.machines.configure import configure, storage
from pytest_vbox.machines.configure.refusal import Keys
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.plan import OWNER_KEY, Plan
from pytest_vbox.models import Hardware, StorageDevice
from pytest_vbox.ownership import ProcessId
from pytest_vbox.virtualbox import Machine, Medium, Redirect, WebSession
from pytest_vbox.virtualbox.enums import AccessMode, DeviceType, LockType

#: The name of the NAT rule through which we log in.
SSH_RULE: Final = "ssh"


def create(
    session: WebSession,
    plan: Plan,
    forwards: Mapping[int, Sequence[Redirect]],
    *,
    record_serial: bool,
) -> Machine:
    """Create, configure and register a machine; it has no disk yet.

    Args:
        session: The connection to VirtualBox.
        plan: What it shall be.
        forwards: The NAT rules, by the slot of their adapter, every host port chosen.
        record_serial: Write what the guest says on its first serial port into the machine's folder.

    Raises:
        HardwareRefused: VirtualBox refused the value of a key.
    """
    virtualbox = session.virtualbox
    machine = virtualbox.create_machine("", plan.name, plan.groups, plan.model.os_type, f"UUID={plan.id}")
    sign(machine, plan)
    configure(machine, plan.model, forwards, record_serial=record_serial)
    machine.save_settings()
    virtualbox.register_machine(machine)
    return virtualbox.find_machine(plan.id)


def attach_disks(
    session: WebSession,
    machine: Machine,
    plan: Plan,
    base: Medium,
    deadline: Deadline,
    disks: Mapping[Path, Medium],
    *,
    local: bool,
) -> None:
    """Attach the image's disk, and everything else that the model has on its controllers.

    Args:
        session: The connection to VirtualBox.
        machine: The registered machine.
        plan: What it shall be.
        base: The image's disk; VirtualBox makes the differencing disk by itself, in the machine's own folder.
        deadline: For how long to wait.
        disks: Disks that are there already, ready to be shared, by their file.
        local: Whether files are on this computer.

    Raises:
        MachineError: What goes into a drive is no file.
    """
    hardware, keys = plan.model.hardware, Keys(plan.model)
    with session.lock(machine, LockType.WRITE, deadline) as held:
        mutable = held.machine
        storage.attach_base(mutable, hardware, base, keys)
        for index, position, controller, device in storage.devices(hardware):
            name = f"disk-{index}-{position}"
            with keys.of("storage", index, "devices", position):
                if local:
                    _check_file(device)
                medium = _medium(session, mutable, device, name, deadline, disks)
            storage.attach(mutable, index, position, controller, device, medium, keys)
        mutable.save_settings()


def _check_file(device: StorageDevice) -> None:
    if device.medium is None:
        return
    try:
        # VirtualBox would wait for somebody to write into a pipe, and hang for everybody.
        check_regular(device.medium)
    except OSError as error:
        raise MachineError(f"the medium {device.medium} cannot be used: {error.strerror}") from error


def _medium(
    session: WebSession,
    machine: Machine,
    device: StorageDevice,
    name: str,
    deadline: Deadline,
    disks: Mapping[Path, Medium],
) -> Medium | None:
    """What goes into a drive, or the disk itself."""
    virtualbox = session.virtualbox
    if device.create is not None:
        return storage.create_disk(virtualbox, machine, name, device.create, deadline)
    if device.medium is None:
        return None
    if device.type == "hard-disk":
        return disks[device.medium]
    if device.type == "dvd":
        return virtualbox.open_medium(str(device.medium), DeviceType.DVD, AccessMode.READ_ONLY)
    copy = storage.copy_floppy(machine, device.medium, name)
    return virtualbox.open_medium(str(copy), DeviceType.FLOPPY)


def nat_slot(hardware: Hardware) -> int | None:
    """The slot of the first adapter behind NAT, through which SSH comes, or None."""
    for slot, adapter in enumerate(hardware.network):
        if adapter is not None and adapter.enabled and adapter.attachment == "nat":
            return slot
    return None


def owner_in(text: str, machine_id: str) -> dict[str, Any] | None:
    """What :func:`sign` has written of a machine, or None for anything else.

    Args:
        text: The extra data.
        machine_id: The machine's UUID. A clone that its user made has the same extra data, and is not ours.
    """
    try:
        owner = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return owner if isinstance(owner, dict) and owner.get("id") == machine_id else None


def sign(machine: Machine, plan: Plan, host_key: str | None = None, *, kept: bool = False) -> None:
    """Say in the machine itself whose it is, and how to enter it (but no password).

    A running machine has to be locked for it, and the session's machine given. With the ledger lost, this alone
    is enough to clean up.

    Args:
        machine: The machine.
        plan: What it was made from.
        host_key: Which key its SSH server shows, if that is known.
        kept: Whether it shall outlive its run.
    """
    owner = {
        "id": plan.id,
        "run": plan.owner.run,
        "pid": os.getpid(),
        "process": ProcessId.mine().to_json(),
        "kept": kept,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "test": plan.owner.test,
        "image": plan.model.image_name,
        "profile": plan.model.profile_name,
        "user": plan.model.image.user,
        "key": str(plan.key) if plan.key is not None else None,
        "slot": nat_slot(plan.model.hardware),
        "host_key": host_key,
    }
    machine.set_extra_data(OWNER_KEY, json.dumps(owner))
