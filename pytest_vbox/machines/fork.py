"""Forking: a linked clone of a golden machine's snapshot, memory and all, with ports and a name of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import build
from pytest_vbox.machines.configure import ports
from pytest_vbox.machines.golden import GOLDEN_KEY
from pytest_vbox.machines.plan import Plan
from pytest_vbox.models import MachineModel
from pytest_vbox.virtualbox import Machine, Redirect, Snapshot, WebSession
from pytest_vbox.virtualbox.enums import CloneMode, CloneOptions
from pytest_vbox.virtualbox.errors import VirtualBoxError

# The saved state has the hardware addresses in it, and guests know themselves by the hardware's UUID.
_OPTIONS: Final = (CloneOptions.LINK, CloneOptions.KEEP_ALL_MACS, CloneOptions.KEEP_HW_UUIDS)
# Networks of a machine's own: what another machine does there, this one does not see.
_OWN_NETWORKS: Final = frozenset({"nat", "none"})


def why_not(model: MachineModel) -> str | None:
    """What of a machine siblings cannot share, so that it has to be booted; None if there is nothing.

    Args:
        model: Image and hardware.
    """
    hardware = model.hardware
    if build.nat_slot(hardware) is None:
        return "it has no adapter behind NAT, so nobody can tell when it is ready"
    for slot, adapter in enumerate(hardware.network):
        if adapter is not None and adapter.enabled and adapter.attachment not in _OWN_NETWORKS:
            return (
                f"its adapter in slot {slot} is on a network that machines share ({adapter.attachment}), and "
                "forks have the same hardware address"
            )
    return "it has a floppy, of which each machine has a copy of its own" if hardware.has_floppy else None


def create(
    session: WebSession,
    plan: Plan,
    snapshot: Snapshot,
    forwards: Mapping[int, Sequence[Redirect]],
    deadline: Deadline,
    *,
    record_serial: bool,
    host_key: str | None = None,
) -> Machine:
    """Make and register a machine that goes on where a snapshot was taken, once it is started.

    Args:
        session: The connection to VirtualBox.
        plan: What it shall be: as the snapshot's machine, but for name, owner and ports.
        snapshot: An online snapshot.
        forwards: The NAT rules, by the slot of their adapter.
        deadline: For how long to wait for VirtualBox.
        record_serial: Write what the guest says on its first serial port into the machine's folder.
        host_key: What the snapshot's SSH server shows.
    """
    machine = session.virtualbox.create_machine("", plan.name, plan.groups, plan.model.os_type, f"UUID={plan.id}")
    try:
        snapshot.machine.clone_to(machine, CloneMode.MACHINE_STATE, _OPTIONS).wait(deadline)
        machine.groups = plan.groups
        machine.set_extra_data(GOLDEN_KEY, "")
        build.sign(machine, plan, host_key)
        if record_serial:
            ports.record_in_own_folder(machine, plan.model.hardware)
        for slot, rules in forwards.items():
            engine = machine.get_network_adapter(slot).nat_engine
            for rule in engine.redirects:
                engine.remove_redirect(rule.name)
            for rule in rules:
                engine.add_redirect(rule)
        machine.save_settings()
        session.virtualbox.register_machine(machine)
    except BaseException:
        # As long as there is a reference to it, its disk counts as in use.
        with suppress(VirtualBoxError):
            machine.release()
        raise
    return session.virtualbox.find_machine(plan.id)
