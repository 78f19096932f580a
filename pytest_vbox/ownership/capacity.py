"""How many machines there may be at once, over all workers and runs of one user on one computer.

What each takes is written in one file per VirtualBox, which is changed under a lock and replaced whole. Each
participant holds a lock of its own as long as it lives, so what a dead one has written down counts no more, and no
daemon is needed. Requests are served in the order in which they came.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership.locks import Busy

_FORMAT: Final = 1
_OPTION: Final = "--vbox-max-machines"
# Seconds between two looks at whether something has changed, and between two at who is still alive.
_LOOK: Final = 0.03
_CENSUS: Final = 1.0
_LOCK_POLL: Final = 0.003
_MEMORY_SHARE: Final = 0.8


class CapacityExceeded(RuntimeError):
    """There will never be room for a machine that was asked for. Says who holds what, and what to do."""


@dataclass(frozen=True)
class Limits:
    """What machines may take together.

    Attributes:
        machines: How many there may be at once.
        memory: MiB of memory.
        starting: How many may be starting at once.
    """

    machines: int
    memory: int
    starting: int

    @classmethod
    def of(cls, memory: int, cores: int, machines: int | None) -> Self:
        """The limits for a host.

        Args:
            memory: Its memory in MiB, of which a fifth is left to itself.
            cores: Its processor cores.
            machines: How many machines the user allows; None for as many as cores and memory do.
        """
        allowed = machines if machines is not None else max(4, 4 * cores)
        return cls(allowed, int(memory * _MEMORY_SHARE), max(1, cores))


@dataclass(frozen=True)
class _Entry:
    """One machine that there is, or that is waited for."""

    id: str
    owner: str
    thread: int
    ticket: int
    name: str
    memory: int
    test: str = ""
    waiting: bool = False
    starting: bool = True
    spare: bool = False
    leaving: bool = False

    @property
    def claimant(self) -> tuple[str, int]:
        return self.owner, self.thread

    @property
    def lasting(self) -> bool:
        """Whether its claimant alone decides when it goes."""
        return not (self.waiting or self.spare or self.leaving)


@dataclass
class Place:
    """One machine's share. Whoever has it gives it back."""

    _capacity: Capacity
    _id: str
    _gone: bool = field(default=False, init=False)

    def started(self) -> None:
        """The machine is up."""
        self._change(starting=False)

    def assign(self, test: str) -> None:
        """A spare one is somebody's now: that of the calling thread.

        Args:
            test: The id of the test.
        """
        self._change(spare=False, thread=threading.get_ident(), test=test)

    def leaving(self) -> None:
        """The machine is being removed: the share comes free soon, whatever its claimant does."""
        self._change(leaving=True)

    def release(self) -> None:
        """Give it back. Twice does no harm."""
        if not self._gone:
            self._gone = True
            self._capacity._remove(self._id)

    def _change(self, **changes: Any) -> None:
        if not self._gone:
            self._capacity._update(self._id, **changes)


class Capacity:
    """One participant in the count. Thread-safe.

    Args:
        state: The state folder.
        host: Which VirtualBox is counted.
        limits: What machines may take together, as this participant sees it.
        run: The id of the run, for people.
    """

    def __init__(self, state: Path, host: str, limits: Limits, run: str) -> None:
        self.limits = limits
        folder = state / "capacity"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._stem = hashlib.sha256(host.encode()).hexdigest()[:16]
        self._file = folder / f"{self._stem}.json"
        self._lock_file = folder / f"{self._stem}.lock"
        self._owner = f"{os.getpid()}-{run[:8]}-{uuid.uuid4().hex[:8]}"
        self._alive = self._sign_of_life()
        self._mine: dict[str, _Entry] = {}
        self._mutex = threading.RLock()
        self._changed = threading.Condition()
        self._seen: tuple[tuple[int, int], bool] | None = None

    # Taking

    def take(
        self,
        name: str,
        memory: int,
        deadline: Deadline,
        *,
        test: str = "",
        on_wait: Callable[[], object] | None = None,
    ) -> Place:
        """Wait, in order, until there is room for one more machine, which is about to start.

        Args:
            name: The machine's name.
            memory: The MiB that it takes.
            deadline: For how long to wait.
            test: The id of the test it is for.
            on_wait: Called at once when there is need to wait, and then every second; what it raises ends the
                wait.

        Raises:
            CapacityExceeded: Waiting would never end.
            Busy: Others had all there is until the deadline.
        """
        entry = self._new(name, memory, test=test, waiting=True)
        if memory > self.limits.memory:
            raise CapacityExceeded(
                f"{name} needs {memory} MiB of memory, and all machines together may take {self.limits.memory} "
                "MiB of this host's (four fifths of it)"
            )
        try:
            self._wait(entry, deadline, on_wait)
        except BaseException:
            self._remove(entry.id)
            raise
        return Place(self, entry.id)

    def try_take(self, name: str, memory: int, *, spare: bool = True) -> Place | None:
        """Room for one more machine, if there is some and nobody waits for it.

        Args:
            name: The machine's name.
            memory: The MiB that it takes.
            spare: Whether it is nobody's yet, and is given up where others wait.
        """
        entry = self._new(name, memory, spare=spare)

        def decide(entries: list[_Entry]) -> bool:
            if any(other.waiting for other in entries) or self._lacks(entries, entry) is not None:
                return False
            self._put(entries, replace(entry, ticket=_next_ticket(entries)))
            return True

        return Place(self, entry.id) if self._decide(decide) else None

    @property
    def wanted(self) -> bool:
        """Whether anybody waits for room."""
        try:
            status = self._file.stat()
        except OSError:
            return False
        version = (status.st_mtime_ns, status.st_ino)
        seen = self._seen
        if seen is None or seen[0] != version:
            seen = self._seen = (version, any(entry.waiting for entry in self._read()))
        return seen[1]

    def close(self) -> None:
        """Give everything back."""
        with self._mutex:
            for entry_id in list(self._mine):
                self._remove(entry_id)
        self._alive.release()
        Path(self._alive.lock_file).unlink(missing_ok=True)

    # Waiting

    def _wait(self, entry: _Entry, deadline: Deadline, on_wait: Callable[[], object] | None) -> None:
        census: Deadline | None = None
        while True:
            # Looked at first, so that nothing that happens meanwhile is missed.
            before = self._version()
            if self._granted(entry, count_the_dead=census is None or census.expired):
                return
            if census is None or census.expired:
                census = Deadline(_CENSUS)
                if on_wait is not None:
                    on_wait()
            if deadline.expired:
                holders = ", ".join(other.name for other in self._read() if not other.waiting)
                raise Busy(f"no room for {entry.name} within {deadline.elapsed:.0f} s; there are: {holders}")
            while self._version() == before and not census.expired and not deadline.expired:
                with self._changed:
                    self._changed.wait(_LOOK)

    def _granted(self, entry: _Entry, *, count_the_dead: bool) -> bool:
        def decide(entries: list[_Entry]) -> bool:
            mine = next((other for other in entries if other.id == entry.id), None)
            if mine is None:
                mine = self._put(entries, replace(entry, ticket=_next_ticket(entries)))
            earlier = any(other.waiting and other.ticket < mine.ticket for other in entries)
            lack = self._lacks(entries, mine)
            if lack is None and not earlier:
                self._put(entries, replace(mine, waiting=False))
                return True
            self._see_that_it_ends(entries, mine, lack)
            return False

        return self._decide(decide, count_the_dead=count_the_dead)

    def _lacks(self, entries: list[_Entry], entry: _Entry) -> str | None:
        """What there is not enough of for one more, or None."""
        there = [other for other in entries if not other.waiting]
        if len(there) >= self.limits.machines:
            return "machines"
        if sum(other.memory for other in there) + entry.memory > self.limits.memory:
            return "memory"
        if sum(other.starting for other in there) >= self.limits.starting:
            return "starting"
        return None

    def _see_that_it_ends(self, entries: list[_Entry], mine: _Entry, lack: str | None) -> None:
        """Raise an error where waiting would never end."""
        own = [other for other in entries if other.lasting and other.claimant == mine.claimant]
        memory = sum(other.memory for other in own)
        who = mine.test or mine.name
        names = ", ".join(other.name for other in own)
        if len(own) >= self.limits.machines:
            raise CapacityExceeded(
                f"{who} asks for one more machine, and at most {self.limits.machines} are allowed at once "
                f"({_OPTION}): it holds {names} itself, so waiting would never end. Use fewer at once, or "
                f"allow more with {_OPTION}"
            )
        if memory + mine.memory > self.limits.memory:
            raise CapacityExceeded(
                f"{who} asks for {mine.memory} MiB more, and machines may take {self.limits.memory} MiB together "
                f"(four fifths of the host's memory): it holds {memory} MiB itself ({names}), so waiting "
                "would never end. Use smaller machines, or fewer at once"
            )
        if lack in {None, "starting"} or any(other.spare or other.leaving for other in entries):
            return
        waiting = {other.claimant: other for other in entries if other.waiting}
        holding = [other for other in entries if other.lasting]
        if not own or any(other.claimant not in waiting for other in holding):
            return
        # Everybody who has something waits for more. The last of them to ask is told.
        if mine.ticket == max(waiting[other.claimant].ticket for other in holding):
            all_of_them = "; ".join(
                f"{waiting[claimant].test or waiting[claimant].name} holds "
                + ", ".join(other.name for other in holding if other.claimant == claimant)
                for claimant in dict.fromkeys(other.claimant for other in holding)
            )
            raise CapacityExceeded(
                f"{who} waits for a machine while all who hold some wait for more, so waiting would never end "
                f"(at most {self.limits.machines} machines and {self.limits.memory} MiB are allowed at once): "
                f"{all_of_them}. Allow more with {_OPTION}, or run fewer workers"
            )

    # The file

    def _new(self, name: str, memory: int, **more: Any) -> _Entry:
        thread = 0 if more.get("spare") else threading.get_ident()
        return _Entry(uuid.uuid4().hex, self._owner, thread, 0, name, memory, **more)

    def _put(self, entries: list[_Entry], entry: _Entry) -> _Entry:
        entries[:] = [other for other in entries if other.id != entry.id] + [entry]
        self._mine[entry.id] = entry
        return entry

    def _update(self, entry_id: str, **changes: Any) -> None:
        def change(entries: list[_Entry]) -> bool:
            entry = self._mine.get(entry_id)
            if entry is not None and replace(entry, **changes) != entry:
                self._put(entries, replace(entry, **changes))
            return True

        self._decide(change)

    def _remove(self, entry_id: str) -> None:
        def change(entries: list[_Entry]) -> bool:
            self._mine.pop(entry_id, None)
            entries[:] = [entry for entry in entries if entry.id != entry_id]
            return True

        self._decide(change)
        with self._changed:
            self._changed.notify_all()

    def _decide(self, decide: Callable[[list[_Entry]], bool], *, count_the_dead: bool = False) -> bool:
        """Change what is written, alone."""
        # The lock of a file holds between processes and objects; the mutex keeps what is ours in step with it.
        with self._mutex, FileLock(self._lock_file, thread_local=False).acquire(poll_interval=_LOCK_POLL):
            before = self._read()
            entries = [entry for entry in before if entry.owner != self._owner]
            if count_the_dead:
                entries = self._living(entries)
            # A file that was torn, or deleted, has lost what is ours.
            entries += self._mine.values()
            try:
                return decide(entries)
            finally:
                if entries != before:
                    self._write(entries)

    def _living(self, entries: list[_Entry]) -> list[_Entry]:
        dead = {owner for owner in {entry.owner for entry in entries} if self._is_dead(owner)}
        for file in self._file.parent.glob(f"{self._stem}.*.alive"):
            self._is_dead(file.name.split(".")[1])
        return [entry for entry in entries if entry.owner not in dead]

    def _is_dead(self, owner: str) -> bool:
        if owner == self._owner:
            return False
        lock = FileLock(self._lock_of(owner), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        # Before it is released, so that whoever gets it next sees that the file is gone.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        return True

    def _sign_of_life(self) -> FileLock:
        lock = FileLock(self._lock_of(self._owner), thread_local=False)
        while True:
            lock.acquire(timeout=_CENSUS)
            if Path(lock.lock_file).exists():
                return lock
            lock.release()  # somebody took it for a dead one's, in the moment before it was held

    def _lock_of(self, owner: str) -> Path:
        return self._file.parent / f"{self._stem}.{owner}.alive"

    def _version(self) -> tuple[int, int]:
        try:
            status = self._file.stat()
        except OSError:
            return (0, 0)
        return status.st_mtime_ns, status.st_ino

    def _read(self) -> list[_Entry]:
        """What is written down. A file that is torn or not ours counts as empty."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(self._file.read_text(encoding="utf-8"))
            if document["format"] == _FORMAT:
                return [_Entry(**entry) for entry in document["machines"]]
        return []

    def _write(self, entries: list[_Entry]) -> None:
        document = {"format": _FORMAT, "machines": [asdict(entry) for entry in entries]}
        temporary = self._file.with_suffix(f".{os.getpid()}.new")
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self._file)


def _next_ticket(entries: Iterable[_Entry]) -> int:
    return 1 + max((entry.ticket for entry in entries), default=0)
