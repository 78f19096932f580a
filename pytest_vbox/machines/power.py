"""Switching a machine on and off, whatever state it is in."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.virtualbox import Console, Machine, WebSession
from pytest_vbox.virtualbox.enums import LockType, MachineState
from pytest_vbox.virtualbox.errors import InvalidObjectState, InvalidVmState, OperationTimeout
from pytest_vbox.virtualbox.machine import unlocking

# What all guest network cards count; the first name since 6.0, the others are the devices' own.
_SENT: Final = "/Public/NetAdapter/*/BytesTransmitted|/Devices/*/TransmitBytes"
_SOME: Final = re.compile(r'<Counter c="[1-9]')
_LOOK: Final = 0.1
#: Seconds that a machine that went off by itself may take to be off.
_STOPS: Final = 10.0

#: Seconds within which VirtualBox itself has to finish what is not the guest's business.
PATIENCE: Final = 60.0
OFF: Final = frozenset(
    {
        MachineState.POWERED_OFF,
        MachineState.SAVED,
        MachineState.TELEPORTED,
        MachineState.ABORTED,
        MachineState.ABORTED_SAVED,
    }
)
RUNNING: Final = frozenset({MachineState.RUNNING, MachineState.PAUSED})
# In any other state it is on the way to one of these.
_AT_REST: Final = OFF | RUNNING | {MachineState.STUCK}


def launch(session: WebSession, machine: Machine, deadline: Deadline) -> None:
    """Start the machine's process, headless; its progress alone tells whether it came up.

    Raises:
        VirtualBoxError: It did not, with VirtualBox's own words.
    """
    session.wait_for_unlock(machine, deadline)
    with session.session_object() as spawned, unlocking(spawned):
        machine.launch_vm_process(spawned, "headless").wait(deadline)


def settled_state(session: WebSession, machine: Machine) -> MachineState:
    """The state of a machine; of one that is just stopping the one it stops in, unless that takes long."""
    state = machine.state
    if state is not MachineState.STOPPING:
        return state
    try:
        return session.wait_for_state(machine, _AT_REST, Deadline(_STOPS))
    except OperationTimeout:
        return state


@contextmanager
def console(session: WebSession, machine: Machine, deadline: Deadline) -> Iterator[Console]:
    """The console of a machine that runs, for the length of the block."""
    with session.lock(machine, LockType.SHARED, deadline) as held:
        yield held.console


def power_off(session: WebSession, machine: Machine, deadline: Deadline | None = None) -> None:
    """Pull the plug, whatever the machine is doing, and wait until nobody holds it any more.

    Raises:
        VirtualBoxError: It cannot be switched off.
        OperationTimeout: It did not come to rest in time.
    """
    deadline = deadline or Deadline(PATIENCE)
    state = machine.state
    if state not in _AT_REST:
        # A machine that is powered down in the middle of its snapshot hangs for ever, and its process with it.
        state = session.wait_for_state(machine, _AT_REST, deadline)
    if state not in OFF:
        try:
            with console(session, machine, deadline) as running:
                running.power_down().wait(deadline)
        except (InvalidVmState, InvalidObjectState):
            # It went off by itself between the question and the command.
            if machine.state.is_online:
                raise
    session.wait_for_unlock(machine, deadline)


def wait_for_first_packet(
    session: WebSession, machine: Machine, deadline: Deadline, ask: Callable[[], None], *, every: float = _LOOK
) -> bool:
    """Wait until the guest has sent something over its network: then it is worth trying to reach it.

    A connection through VirtualBox's NAT that comes before the guest's network is up is not refused; NAT keeps
    it, even when we close it, and delivers all of them at once when the guest is there, which it then has to
    work through. So nothing is tried before the guest's card has counted a byte.

    Args:
        session: The connection to VirtualBox.
        machine: A machine that runs.
        deadline: When to stop waiting; some guests never send anything unasked.
        ask: Called between two looks; what it raises ends the wait.
        every: Seconds between two looks.

    Returns:
        Whether the guest has sent anything.
    """
    pause = threading.Event()
    with console(session, machine, deadline) as running:
        debugger = running.debugger
        while not _SOME.search(debugger.get_stats(_SENT)):
            if deadline.expired:
                return False
            ask()
            pause.wait(every)  # VirtualBox has no event for it
    return True
