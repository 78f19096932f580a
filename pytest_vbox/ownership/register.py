"""The files of the count: one ledger for each VirtualBox host, and a lock for each participant that lives.

All is changed under one lock of the state folder, which also holds while participants come and go; so a file
that is nobody's can be deleted without anybody having it for theirs the next moment.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership.counting import Count
from pytest_vbox.ownership.lockfiles import Busy

# For how long to wait for the lock, which is held for less than a millisecond at a time.
_LOCK_SECONDS: Final = 30.0
_POLL: Final = 0.002
# The smallest step that common file systems can tell two times apart by.
_TICK: Final = 1000

Version = tuple[int, int, int] | None
"""What tells one version of a ledger from the next, without reading it. None if there is none."""


@dataclass
class OpenCount(Count):
    """A count while its ledger is locked.

    Attributes:
        version: Which version of the ledger it is; current once the block is over.
    """

    version: Version = None


class Register:
    """All ledgers of one state folder, as one process sees them. Thread-safe.

    Args:
        state: The state folder.
    """

    _all: Final[weakref.WeakValueDictionary[Path, Register]] = weakref.WeakValueDictionary()
    _all_lock: Final = threading.Lock()

    def __init__(self, state: Path) -> None:
        self._folder = state / "capacity"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (state / "locks").mkdir(exist_ok=True, mode=0o700)
        self._file_lock = FileLock(state / "locks" / "capacity.lock", thread_local=False)
        # Threads of this process queue here, so that at most one of them polls the file lock.
        self._mutex = threading.Lock()
        self._seen: dict[str, tuple[Version, Count]] = {}
        self._living: dict[str, FileLock] = {}
        self._waiters: set[threading.Event] = set()

    @classmethod
    def at(cls, state: Path) -> Register:
        """The one register of this process for a state folder."""
        with cls._all_lock:
            key = state.resolve()
            register = cls._all.get(key)
            if register is None:
                register = cls._all[key] = cls(state)
            return register

    def join(self, host: str) -> str:
        """Become a participant; clears away what the dead left.

        Args:
            host: The name of the ledger.

        Returns:
            The participant's id.
        """
        participant = f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with self._locked():
            lock = FileLock(self._lock_of(participant), thread_local=False)
            lock.acquire(timeout=0)
            self._living[participant] = lock
            self._tidy()
        return participant

    def tidy(self) -> None:
        """Clear away what the dead left."""
        with self._locked():
            self._tidy()

    def leave(self, participant: str) -> None:
        """Be a participant no more."""
        with self._locked():
            lock = self._living.pop(participant, None)
            if lock is not None:
                lock.release()
                _unlink(self._lock_of(participant))
                self._tidy()

    @contextmanager
    def open(self, host: str) -> Iterator[OpenCount]:
        """The count of a host; what is changed in it is written at the end of the block.

        Raises:
            Busy: Another process did not give back the lock.
        """
        with self._locked():
            version, known = self._read(host)
            count = OpenCount(known.next, dict(known.parts), version)
            try:
                yield count
            finally:
                if count.parts != known.parts:
                    self._write(host, count)

    def version(self, host: str) -> Version:
        """Which version of the count is on the disk. Costs next to nothing."""
        return _version(self._ledger_of(host))

    def bury(self, count: Count) -> bool:
        """Drop the parts of participants that died from an open count. Returns whether there were any."""
        dead = [name for name in count.parts if name not in self._living and self._is_dead(name)]
        for name in dead:
            del count.parts[name]
        return bool(dead)

    @contextmanager
    def alarm(self) -> Iterator[threading.Event]:
        """An event that is set whenever this process changes a count."""
        event = threading.Event()
        self._waiters.add(event)
        try:
            yield event
        finally:
            self._waiters.discard(event)

    def wake(self) -> None:
        """Set all those events."""
        for event in tuple(self._waiters):
            event.set()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = Deadline(_LOCK_SECONDS)
        if not self._mutex.acquire(timeout=deadline.remaining):
            raise Busy(f"another thread kept the count of machines locked for {_LOCK_SECONDS:.0f} s")
        try:
            try:
                self._file_lock.acquire(timeout=deadline.remaining, poll_interval=_POLL)
            except Timeout:
                raise Busy(
                    f"another process held the lock {self._file_lock.lock_file} for {_LOCK_SECONDS:.0f} s"
                ) from None
            try:
                yield
            finally:
                self._file_lock.release()
        finally:
            self._mutex.release()

    def _read(self, host: str) -> tuple[Version, Count]:
        path = self._ledger_of(host)
        version = _version(path)
        seen = self._seen.get(host)
        if seen is None or seen[0] != version:
            text = path.read_text(encoding="utf-8", errors="replace") if version else ""
            seen = self._seen[host] = version, Count.load(text)
        return seen

    def _write(self, host: str, count: OpenCount) -> None:
        path = self._ledger_of(host)
        self._seen.pop(host, None)
        if count.parts:
            temporary = path.with_suffix(".new")
            temporary.write_text(count.dump(), encoding="utf-8")
            # A file system may give two versions the same time, and the second one the place of the one before.
            now = max(time.time_ns(), count.version[0] + _TICK if count.version else 0)
            os.utime(temporary, ns=(now, now))
            temporary.replace(path)
        else:
            path.unlink(missing_ok=True)
        count.version = _version(path)
        self._seen[host] = count.version, Count(count.next, dict(count.parts))
        self.wake()

    def _tidy(self) -> None:
        for lock in self._folder.glob("*.lock"):
            if lock.stem not in self._living:
                self._is_dead(lock.stem)
        hosts = {lock.stem.partition("-")[0] for lock in self._folder.glob("*.lock")}
        for path in (*self._folder.glob("*.json"), *self._folder.glob("*.new")):
            if path.suffix == ".new" or path.stem not in hosts:
                _unlink(path)

    def _is_dead(self, participant: str) -> bool:
        """Whether a participant's lock is free; then its file is deleted."""
        path = self._lock_of(participant)
        if not path.exists():
            return True
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        _unlink(path)
        return True

    def _ledger_of(self, host: str) -> Path:
        return self._folder / f"{host}.json"

    def _lock_of(self, participant: str) -> Path:
        return self._folder / f"{participant}.lock"


def _version(path: Path) -> Version:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _unlink(path: Path) -> None:
    # Where somebody looks into it just now (a virus scanner, on Windows), the next one deletes it.
    with contextlib.suppress(OSError):
        path.unlink()
