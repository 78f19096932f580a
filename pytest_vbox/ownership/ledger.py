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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from pytest_vbox.ownership.disk import listing, remove_if_empty, write_synced
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
        self.path, self._lock = _hold(run_folder(state, run))
        self._mutex = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._session = ""
        self._session_objects: list[str] = []
        self._process = ProcessId.mine()
        self._command = " ".join(sys.argv)[:_LONGEST_COMMAND]

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
                remove_if_empty(self.path.parent)

    def _write(self) -> None:
        _write(
            self.path,
            run=self.run,
            process=self._process,
            command=self._command,
            session=self._session,
            session_objects=self._session_objects,
            entries=self._entries.values(),
        )


@dataclass
class Abandoned:
    """A part of a ledger whose process is dead, held so that nobody else cleans it up at the same time.

    Attributes:
        path: Its file.
        run: The run it belongs to.
        pid: The number of the process.
        process: The process, if the file says so.
        command: How it was started.
        session: The web session that it did not end.
        session_objects: What it locked machines with.
        entries: What is left.
        unreadable: Why nobody can tell now what is in it; empty if that is known. It is not to be deleted then.
    """

    path: Path
    run: str = ""
    pid: int = 0
    process: ProcessId | None = None
    command: str = ""
    session: str = ""
    session_objects: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    unreadable: str = ""

    def strike(self, entry: Entry) -> None:
        """Take an entry out once what it names is gone; the last one takes the file with it."""
        self.entries.remove(entry)
        if not self.entries:
            self.done()
            return
        # With all else that it said: whoever takes the others away may have to unlock them first.
        _write(
            self.path,
            run=self.run,
            process=self.process,
            command=self.command,
            session=self.session,
            session_objects=self.session_objects,
            entries=self.entries,
        )

    def done(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".new").unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ledger. One that is torn counts as empty: VirtualBox's extra data says the same.

        One that another version wrote does not: it may list what only that version can take away.

        Args:
            path: Its file.
        """
        pid = path.stem.partition("-")[0]
        found = cls(path, path.parent.name, int(pid) if pid.isascii() and pid.isdigit() else 0)
        # The second where the first was torn by a crash of the system.
        for file in (path, path.with_suffix(".new")):
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                continue
            except (OSError, RecursionError) as error:
                found.unreadable = str(error)
                break
            try:
                found._take(document)
            except (ValueError, TypeError, KeyError, AttributeError):
                found.unreadable = "another version of pytest-vbox has written it"
            break
        return found

    def _take(self, document: dict[str, Any]) -> None:
        if document["format"] != _FORMAT:
            raise ValueError("another format")
        self.entries = [Entry.from_json(entry) for entry in document["entries"]]
        self.process = ProcessId.from_json(document.get("process"))
        self.command = str(document.get("command", ""))[:_LONGEST_COMMAND]
        self.session = str(document.get("session", ""))
        self.session_objects = [str(one) for one in document.get("session_objects", [])]


@contextmanager
def abandoned(
    state: Path, only: Path | None = None, patience: float = 0.0, *, run: str | None = None
) -> Iterator[list[Abandoned]]:
    """The ledgers of dead processes, locked for the length of the block.

    Args:
        state: The state folder.
        only: The file of one of them, if the others are not of interest.
        patience: Seconds to wait for a lock: a process that dies just now gives its own back a moment later.
        run: A run, if the others are not of interest.
    """
    locks: list[FileLock] = []
    found: list[Abandoned] = []
    try:
        for path in _locks(state, run) if only is None else [only.with_suffix(".lock")]:
            ledger = path.with_suffix(".json")
            if not ledger.stem[:1].isdigit():
                continue
            lock = FileLock(path)
            try:
                lock.acquire(timeout=patience, poll_interval=0.02)
            except (
                OSError
            ):  # it is somebody's who lives (a `Timeout`), or has gone meanwhile, or is for the next time
                continue
            locks.append(lock)
            if ledger.exists():
                found.append(Abandoned.read(ledger))
            else:
                # Whoever is just making it shall not have to wait for us.
                _give_back(locks.pop())
        yield found
    finally:
        for lock in locks:
            _give_back(lock)


def _locks(state: Path, run: str | None) -> list[Path]:
    """The locks of all ledgers, or of those of a run."""
    folders = listing(state / "runs") if run is None else [run_folder(state, run)]
    return [file for folder in folders for file in listing(folder) if file.suffix == ".lock"]


def _give_back(lock: FileLock) -> None:
    """Give back the lock of somebody dead; with its ledger, its file goes too."""
    path = Path(lock.lock_file)
    gone = not path.with_suffix(".json").exists()
    if gone:
        path.unlink(missing_ok=True)
    lock.release()
    if gone:
        remove_if_empty(path.parent)


def run_folder(state: Path, run: str) -> Path:
    """The folder of a run."""
    safe = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in run)[:64]
    return state / "runs" / (safe or "-")


def _hold(folder: Path) -> tuple[Path, FileLock]:
    """A place for this process's ledger, and the lock beside it, which is held.

    Raises:
        OSError: Others were in the way again and again, or nothing can be written there.
    """
    for tried in range(_TRIES):
        path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock.acquire(timeout=0)
        # Another process took the folder away just now, which was empty (mkdir has two errors for that), or looks
        # whether the lock is somebody's who died (`Timeout`).
        except (FileNotFoundError, FileExistsError, Timeout):
            if tried == _TRIES - 1:
                raise
            continue
        # Older versions of filelock do not see that whoever looked has deleted the file before it was ours.
        if Path(lock.lock_file).exists():
            return path, lock
        lock.release()
    raise FileNotFoundError(f"no ledger can be kept in {folder}: others delete it again and again")


def _write(
    path: Path,
    *,
    run: str,
    process: ProcessId | None,
    command: str,
    session: str,
    session_objects: list[str],
    entries: Iterable[Entry],
) -> None:
    document = {
        "format": _FORMAT,
        "run": run,
        "process": process.to_json() if process is not None else None,
        "command": command,
        "session": session,
        "session_objects": session_objects,
        "entries": [asdict(entry) for entry in entries],
    }
    write_synced(path, json.dumps(document, indent=1) + "\n")
