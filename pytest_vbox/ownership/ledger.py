"""The ledger of a run: what it made, written down before it comes into being and struck after it is gone.

A run has a folder, in which each of its processes (the workers of pytest-xdist) has a part: a JSON file that is
replaced whole (temporary name, fsync, rename), beside a lock that the process holds as long as it lives. A part
whose lock is free belongs to somebody dead: its entries are leftovers.

    runs/<run>/<process>.json    what there is
    runs/<run>/<process>.lock    held while the process lives
"""

from __future__ import annotations

import json
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from pytest_vbox.ownership import meeting
from pytest_vbox.ownership.process import ProcessId

_FORMAT: Final = 2
_TRIES: Final = 10
_LONGEST_COMMAND: Final = 500


class Kind(StrEnum):
    """What an entry is of."""

    MACHINE = "machine"
    DISK = "disk"
    FILE = "file"
    SERVICE = "service"


@dataclass(frozen=True)
class Entry:
    """One thing that this process made or is about to make.

    Attributes:
        id: A machine's UUID in VirtualBox, chosen by us; a file's or disk's path; what else it is.
        name: A machine's name in VirtualBox, or what the thing is.
        host: Which VirtualBox it is in (see ``VirtualBoxHost.identity``); empty for what is not in any.
        test: The test it was made for, or an empty string.
        since: When, as ISO 8601 in UTC.
        kind: What it is.
        ports: The ports of this computer that lead to a machine.
    """

    id: str
    name: str
    host: str
    test: str = ""
    since: str = ""
    kind: Kind = Kind.MACHINE
    ports: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" of {self.test}" if self.test else "")

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """From what is written down.

        Raises:
            TypeError, ValueError, KeyError: It is not what `Ledger` writes.
        """
        texts = {key: document[key] for key in ("id", "name", "host", "test", "since")}
        for key, text in texts.items():
            if not isinstance(text, str):
                raise TypeError(f"{key}: {text!r}")
        ports = document.get("ports", [])
        if not isinstance(ports, list) or not all(type(port) is int for port in ports):
            raise TypeError(f"ports: {ports!r}")
        return cls(**texts, kind=Kind(document["kind"]), ports=tuple(ports))


class Ledger:
    """This process's part of its run's ledger. Thread-safe.

    Args:
        state: The state folder.
        run: The id of the run, shared by all its workers.

    Attributes:
        path: The file.
        before_add: Called before anything is written down: whoever looks after what is left has to be there.
    """

    def __init__(self, state: Path, run: str) -> None:
        self.run = run
        self.before_add: Callable[[], None] = lambda: None
        self.path = run_folder(state, run) / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self._lock = FileLock(self.path.with_suffix(".lock"), thread_local=False)
        self._hold()
        self._mutex = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._session = ""
        self._session_objects: list[str] = []
        self._process = ProcessId.mine().to_json()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is written down now."""
        with self._mutex:
            return tuple(self._entries.values())

    def add(self, *entries: Entry) -> None:
        """Write entries down, in the place of those of the same id. They are on the disk when this returns."""
        self.before_add()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._mutex:
            known = dict(self._entries)
            self._entries.update(
                (entry.id, entry if entry.since else replace(entry, since=now)) for entry in entries
            )
            try:
                self._write()
            except BaseException:
                self._entries = known  # what cannot be written down does not come into being
                raise

    def strike(self, *ids: str) -> None:
        """Take entries out, once what they name is gone."""
        with self._mutex:
            known = [self._entries.pop(entry_id, None) for entry_id in ids]
            if any(entry is not None for entry in known):
                self._write()

    @contextmanager
    def holding(self, entry: Entry) -> Iterator[None]:
        """Have a file written down while it is being made. It stays so if the block leaves it after an error."""
        self.add(entry)
        try:
            yield
        except BaseException:
            if Path(entry.id).exists():
                raise
            self.strike(entry.id)
            raise
        self.strike(entry.id)

    def ports(self, entry_id: str, ports: tuple[int, ...]) -> None:
        """Write down which ports lead to a machine that is written down."""
        with self._mutex:
            entry = self._entries.get(entry_id)
            if entry is not None and entry.ports != ports:
                self._entries[entry_id] = replace(entry, ports=ports)
                self._write()

    def logged_on(self, session: str) -> None:
        """Write down the web session of this process, which somebody has to end if it cannot do so itself.

        As long as it lasts, VirtualBox keeps what was begun in it, such as the disks of half-made machines.
        """
        with self._mutex:
            self._session = session
            self._session_objects.clear()
            if self._entries:
                self._write()

    def locks_with(self, session_object: str) -> None:
        """Write down a session object of the web session, before this process locks a machine with it.

        VirtualBox keeps a machine locked, whoever died, until somebody unlocks it with the same object.
        """
        with self._mutex:
            self._session_objects.append(session_object)
            # Machines can be removed all the same where no more can be written, and removing them takes locks.
            with suppress(OSError):
                self._write()

    def close(self) -> None:
        """Give the ledger up. It stays on the disk, for whoever cleans up, if anything is still written in it."""
        with self._mutex:
            if not self._entries:
                self.path.unlink(missing_ok=True)
                self.path.with_suffix(".new").unlink(missing_ok=True)
            if self._lock.is_locked:
                if not self._entries:
                    Path(self._lock.lock_file).unlink(missing_ok=True)
                self._lock.release()
                _remove_if_empty(self.path.parent)

    def _hold(self) -> None:
        for tried in range(_TRIES):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._lock.acquire(timeout=0)
            except FileNotFoundError:
                # The folder was empty, and another process of the run took it away just now.
                if tried == _TRIES - 1:
                    raise
            else:
                return

    def _write(self) -> None:
        document = {
            "format": _FORMAT,
            "run": self.run,
            "process": self._process,
            "command": " ".join(sys.argv)[:_LONGEST_COMMAND],
            "session": self._session,
            "session_objects": self._session_objects,
            "entries": [asdict(entry) for entry in self._entries.values()],
        }
        write_synced(self.path, json.dumps(document, indent=1) + "\n")


@dataclass
class Abandoned:
    """A part of a ledger whose process is dead, held so that nobody else cleans it up at the same time.

    Attributes:
        path: Its file.
        run: The run it belongs to.
        pid: The number of the process.
        session: The web session that it did not end.
        session_objects: What it locked machines with.
        entries: What is left.
    """

    path: Path
    run: str = ""
    pid: int = 0
    session: str = ""
    session_objects: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def strike(self, entry: Entry) -> None:
        """Take an entry out once what it names is gone; the last one takes the file with it."""
        self.entries.remove(entry)
        if not self.entries:
            self.done()
            return
        entries = [asdict(left) for left in self.entries]
        document = {"format": _FORMAT, "run": self.run, "entries": entries}
        write_synced(self.path, json.dumps(document, indent=1) + "\n")

    def done(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".new").unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ledger. One that is torn or not ours counts as empty: VirtualBox's extra data says the same."""
        pid = path.stem.partition("-")[0]
        found = cls(path, path.parent.name, int(pid) if pid.isascii() and pid.isdigit() else 0)
        # The second where the first was torn by a crash of the system.
        for file in (path, path.with_suffix(".new")):
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                if document["format"] == _FORMAT:
                    found.entries = [Entry.from_json(entry) for entry in document["entries"]]
                    found.session = str(document.get("session", ""))
                    found.session_objects = [str(one) for one in document.get("session_objects", [])]
                    break
            except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue
        return found


@contextmanager
def abandoned(state: Path, only: Path | None = None, patience: float = 0.0) -> Iterator[list[Abandoned]]:
    """The ledgers of dead processes, locked for the length of the block.

    Args:
        state: The state folder.
        only: The file of one of them, if the others are not of interest.
        patience: Seconds to wait for a lock: a process that dies just now gives its own back a moment later.
    """
    locks: list[FileLock] = []
    found: list[Abandoned] = []
    try:
        for path in sorted((state / "runs").glob("*/*.lock")) if only is None else [only.with_suffix(".lock")]:
            ledger = path.with_suffix(".json")
            if not ledger.stem[:1].isdigit():
                continue
            lock = FileLock(path)
            try:
                lock.acquire(timeout=patience, poll_interval=0.02)
            except (Timeout, FileNotFoundError):
                continue
            locks.append(lock)
            if ledger.exists():
                found.append(Abandoned.read(ledger))
        yield found
    finally:
        for lock in locks:
            path = Path(lock.lock_file)
            gone = not path.with_suffix(".json").exists()
            if gone:
                path.unlink(missing_ok=True)
            lock.release()
            if gone:
                _remove_if_empty(path.parent)


def names_written_down(state: Path) -> frozenset[str]:
    """The names of all that any ledger lists, of the living and of the dead: somebody sees to it.

    Args:
        state: The state folder.
    """
    ledgers = (Abandoned.read(path) for path in (state / "runs").glob("*/[0-9]*.json"))
    return frozenset(entry.name for ledger in ledgers for entry in ledger.entries)


def remove_ended_runs(state: Path) -> None:
    """Delete the folders of runs in which nobody has a ledger any more, such as a reaper leaves that was killed.

    Args:
        state: The state folder.
    """
    for folder in (state / "runs").glob("*"):
        remove_ended_run(folder)


def remove_ended_run(folder: Path) -> None:
    """Delete the folder of a run, if nobody has a ledger there any more.

    Args:
        folder: The folder.
    """
    # Whoever lives, the reaper too, has a lock there; a process of the run has its own before all else.
    if any(folder.glob("[0-9]*")):
        return
    lock = FileLock(folder / "reaper.lock")
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return
    meeting.remove(folder)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
    _remove_if_empty(folder)


def run_folder(state: Path, run: str) -> Path:
    """The folder of a run."""
    safe = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in run)[:64]
    return state / "runs" / (safe or "-")


def write_synced(path: Path, text: str) -> None:
    """Replace a file whole: whoever reads it sees what was there before, or all of this; after a crash too."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    # The new name is only then on the disk when the folder is; where a folder cannot be opened, as on Windows, the
    # system sees to it.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
