"""How many machines there may be, and how many may be starting: one count over all workers and runs of this user.

There is no daemon. The count is a ledger on the disk, one for each VirtualBox host, in which each participant
(a `Capacity`) writes what it holds and what it waits for; a participant that died is dropped by whoever looks
next. Requests are served in the order in which they came.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership.counting import (
    NOBODY,
    Limits,
    Part,
    Slot,
    Ticket,
    Waiting,
    impossible,
    late,
    stuck,
)
from pytest_vbox.ownership.lockfiles import Busy
from pytest_vbox.ownership.register import OpenCount, Register, Version

__all__ = ["Capacity", "CapacityExceeded", "Limits", "Place"]

_POLL: Final = 0.025
# The dead do not change the ledger, so it is looked at from time to time without that.
_LOOK: Final = 0.25
_CALL: Final = 1.0

# The number of a thread that is given to no other one later, as the operating system's is.
_thread = threading.local()
_numbers: Final = itertools.count(1)


class CapacityExceeded(RuntimeError):
    """There would never be room for a machine, however long one waited. Says who holds what, and what to do."""


class Place:
    """Room for one machine, until it is released. Thread-safe; after `release` nothing else has any effect.

    Attributes:
        name: The machine's name.
        memory: Its memory in MiB.
    """

    def __init__(self, capacity: Capacity, name: str, memory: int) -> None:
        self.name = name
        self.memory = memory
        self._capacity = capacity

    def __repr__(self) -> str:
        return f"Place({self.name!r}, {self.memory} MiB)"

    def started(self) -> None:
        """Its machine is not starting any longer (it runs, failed, or will not be started)."""
        self._capacity._change(self, lambda slot: replace(slot, starting=False))

    def assign(self, test: str) -> None:
        """It belongs to a test from now on, and to the calling thread: it is no longer spare.

        Args:
            test: The test.
        """
        claim = _claim()
        self._capacity._change(self, lambda slot: replace(slot, spare=False, test=test, claim=claim))

    def leaving(self) -> None:
        """Its machine is being removed: it still takes room, but soon comes free without anybody's doing."""
        self._capacity._change(self, lambda slot: replace(slot, leaving=True, starting=False))

    def stays(self) -> None:
        """Its machine could not be removed: it takes room, and nobody waits for it to come free."""
        self._capacity._change(
            self, lambda slot: replace(slot, claim=NOBODY, leaving=False, spare=False, starting=False)
        )

    def release(self) -> None:
        """Give it back."""
        self._capacity._change(self, lambda _: None)


@dataclass
class _Request:
    """One call of `Capacity.take`: the place it will get, the ticket it waits with, what its test holds."""

    place: Place
    ticket: Ticket
    held: int


class Capacity:
    """One participant in the count of machines. Thread-safe; a process may have several.

    Whoever asks for a machine is a thread of a participant: what it took, or was assigned, counts as its own,
    whichever thread gives it back.

    Args:
        state: The state folder.
        host: The identity of the VirtualBox (see ``VirtualBoxHost.identity``); each has a count of its own.
        limits: How much there may be, as far as this participant's requests are concerned.
        run: The id of the run, shared by all its workers; for people.

    Raises:
        Busy: Another process did not give back the lock of the count.
    """

    def __init__(self, state: Path, host: str, limits: Limits, run: str) -> None:
        self.limits = limits
        self._run = run
        self._host = hashlib.sha256(host.encode()).hexdigest()[:16]
        # Held for the next three, and never while a file is waited for.
        self._guard = threading.Lock()
        self._slots: dict[Place, Slot] = {}
        self._tickets: dict[int, Ticket] = {}
        self._closed = False
        self._wanted: tuple[Version, bool, float] = (None, False, 0.0)
        self._register = Register.at(state)
        self._id = self._register.join(self._host)

    def take(
        self,
        name: str,
        memory: int,
        deadline: Deadline,
        *,
        test: str = "",
        held: int = 0,
        on_wait: Callable[[], None] | None = None,
    ) -> Place:
        """Wait until it is this request's turn and there is room for one more machine, which is about to start.

        Args:
            name: The name of the machine.
            memory: Its memory in MiB.
            deadline: For how long to wait.
            test: The test it is for.
            held: How many machines the test is known to hold, if other threads took some of them for it.
            on_wait: Is called when it turns out that one has to wait, and then about once a second. What it
                raises ends the wait.

        Raises:
            CapacityExceeded: There would never be room.
            Busy: There was no room until the deadline.
        """
        # Numbered when it is known how many came before.
        request = _Request(Place(self, name, memory), Ticket(0, name, memory, _claim(), test), held)
        try:
            with self._register.alarm() as alarm:
                served, version = self._ask(request, deadline)
                call = deadline.elapsed
                while not served:
                    if on_wait and deadline.elapsed >= call:
                        on_wait()
                        call = deadline.elapsed + _CALL
                    self._pause(version, deadline, alarm)
                    served, version = self._ask(request, deadline)
        except BaseException:
            self._withdraw(request)
            raise
        return request.place

    def try_take(self, name: str, memory: int, *, spare: bool = True) -> Place | None:
        """Room for one more machine, if there is some and nobody waits for it, in any process.

        Args:
            name: The name of the machine.
            memory: Its memory in MiB.
            spare: It belongs to no test, and will be given up when it is `wanted`.
        """
        place = Place(self, name, memory)
        with self._register.open(self._host) as count:
            self._enrol(count)
            while not self._closed:
                if not count.queue and count.has_room(memory, self.limits):
                    granted = self._grant(count, place, Slot(name, memory, _claim(), spare=spare))
                    return place if granted else None
                if not self._register.bury(count):
                    break
        return None

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for room that spare machines have to make, in any process and thread.

        Room that is just coming free (see `Place.leaving`) is not asked for twice. Costs next to nothing unless
        the count changed.
        """
        version, wanted, since = self._wanted
        if version == self._register.version(self._host) and not (wanted and time.monotonic() - since > _LOOK):
            return wanted
        with contextlib.suppress(Busy):
            with self._register.open(self._host) as count:
                self._enrol(count)
                wanted = count.wants_spare()
                if wanted and self._register.bury(count):
                    wanted = count.wants_spare()
            self._wanted = count.version, wanted, time.monotonic()
        return wanted

    def close(self) -> None:
        """Give everything back. Twice does no harm. Whoever still waits here gets `Busy`."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._slots.clear()
            self._tickets.clear()
        try:
            with contextlib.suppress(OSError):  # without its lock its part is nobody's
                self._publish()
        finally:
            self._register.leave(self._id)
            self._register.wake()

    def _pause(self, version: Version, deadline: Deadline, alarm: threading.Event) -> None:
        """Wait until the count is another than that version, but not for long."""
        look = deadline.sooner(_LOOK)
        while not look.expired and version == self._register.version(self._host):
            alarm.wait(look.at_most(_POLL))
            alarm.clear()

    def _ask(self, request: _Request, deadline: Deadline) -> tuple[bool, Version]:
        """Whether a request is granted now, and if not, which version of the count said so."""
        with self._register.open(self._host) as count:
            self._enrol(count)
            if request.ticket.number == 0:
                request.ticket = replace(request.ticket, number=count.next)
                with self._guard:
                    self._tickets[count.next] = request.ticket
                self._enrol(count)
            try:
                served = self._serve(count, request)
                if not served and deadline.expired:
                    raise Busy(late(count, Waiting(self._id, request.ticket), self.limits, deadline.elapsed))
            except (Busy, CapacityExceeded):
                # At once, lest others make room for it.
                self._drop(request)
                self._enrol(count)
                raise
        return served, count.version

    def _serve(self, count: OpenCount, request: _Request) -> bool:
        """Give a request what it asks for, if it is its turn and there is room."""
        ticket = request.ticket
        entry = Waiting(self._id, ticket)
        while True:
            if self._closed:
                raise Busy(f"{ticket.subject}: the run ended before there was room for {ticket.name}")
            if reason := impossible(count, entry, self.limits, request.held):
                raise CapacityExceeded(reason)
            verdict = count.verdict()
            if verdict.next == entry and count.has_room(ticket.memory, self.limits):
                slot = Slot(ticket.name, ticket.memory, ticket.claim, ticket.test)
                return self._grant(count, request.place, slot, ticket)
            # Before anybody waits or is turned away because of them.
            if not self._register.bury(count):
                break
        if verdict.victim == entry:
            raise CapacityExceeded(stuck(count, entry))
        return False

    def _grant(self, count: OpenCount, place: Place, slot: Slot, ticket: Ticket | None = None) -> bool:
        """Write a place down, instead of the ticket that waited for it; not if this was closed meanwhile."""
        with self._guard:
            if self._closed:
                return False
            self._slots[place] = slot
            if ticket is not None:
                del self._tickets[ticket.number]
        self._enrol(count)
        return True

    def _drop(self, request: _Request) -> None:
        with self._guard:
            self._slots.pop(request.place, None)
            self._tickets.pop(request.ticket.number, None)

    def _withdraw(self, request: _Request) -> None:
        self._drop(request)
        # Why the wait ended is what counts; the ledger follows with the next change.
        with contextlib.suppress(Busy, OSError):
            self._publish()

    def _change(self, place: Place, change: Callable[[Slot], Slot | None]) -> None:
        with self._guard:
            slot = self._slots.get(place)
            changed = change(slot) if slot else None
            if changed == slot:
                return
            if changed is None:
                del self._slots[place]
            else:
                self._slots[place] = changed
        # What does not fit on the disk now is written with the next change, or when this participant leaves.
        with contextlib.suppress(OSError):
            self._publish()

    def _publish(self) -> None:
        """Bring the ledger up to date with what this participant holds and waits for."""
        with self._register.open(self._host) as count:
            self._enrol(count)

    def _enrol(self, count: OpenCount) -> None:
        """Put this participant's part into an open count, where it may be out of date, or lost."""
        with self._guard:
            part = Part(
                os.getpid(), self._run, self.limits, tuple(self._slots.values()), tuple(self._tickets.values())
            )
        count.put(self._id, part)


def _claim() -> int:
    """The number of the calling thread."""
    if not hasattr(_thread, "number"):
        _thread.number = next(_numbers)
    number: int = _thread.number
    return number
