"""The ledger: what a process made, written down before it comes into being and struck after it is gone.

One JSON file for each process, replaced whole (temporary name, fsync, rename), beside a lock that the process
holds as long as it lives. A ledger whose lock is free belongs to somebody dead: its entries are leftovers.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock, Timeout

_FORMAT: Final = 1


@dataclass(frozen=True)
class Entry:
    """One machine that this process made or is about to make.

    Attributes:
        id: Its UUID in VirtualBox, chosen by us.
        name: Its name in VirtualBox.
        host: Which VirtualBox it is in (see ``VirtualBoxHost.identity``).
        test: The test it was made for, or an empty string.
        since: When, as ISO 8601 in UTC.
    """

    id: str
    name: str
    host: str
    test: str = ""
    since: str = ""


class Ledger:
    """The ledger of this process. Thread-safe.

    Args:
        folder: The state folder; ledgers live in ``ledgers`` in it.
        run: The id of the run, shared by all its workers.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.run = run
        self._folder = _ledgers(folder)
        self._path = self._folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self._lock = FileLock(self._path.with_suffix(".lock"))
        self._lock.acquire(timeout=0)
        self._mutex = threading.Lock()
        self._entries: dict[str, Entry] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What is written down now."""
        with self._mutex:
            return tuple(self._entries.values())

    def add(self, entry: Entry) -> None:
        """Write an entry down. It is on the disk when this returns."""
        stamped = entry if entry.since else _stamped(entry)
        with self._mutex:
            self._entries[entry.id] = stamped
            self._write()

    def strike(self, entry_id: str) -> None:
        """Take an entry out, once what it names is gone."""
        with self._mutex:
            if self._entries.pop(entry_id, None) is not None:
                self._write()

    def close(self) -> None:
        """Give the ledger up. It stays on the disk, for whoever cleans up, if anything is still written in it."""
        with self._mutex:
            if not self._entries:
                self._path.unlink(missing_ok=True)
            self._lock.release()
            if not self._entries:
                Path(self._lock.lock_file).unlink(missing_ok=True)

    def _write(self) -> None:
        document = {
            "format": _FORMAT,
            "run": self.run,
            "pid": os.getpid(),
            "machines": [asdict(entry) for entry in self._entries.values()],
        }
        _replace(self._path, json.dumps(document, indent=1) + "\n")


class Abandoned:
    """A ledger whose process is dead, held so that nobody else cleans it up at the same time."""

    def __init__(self, path: Path, entries: list[Entry]) -> None:
        self._path = path
        self.entries = entries

    def strike(self, entry: Entry) -> None:
        """Take an entry out once what it names is gone; the last one takes the file with it."""
        self.entries.remove(entry)
        if not self.entries:
            self._path.unlink(missing_ok=True)
            return
        document = {"format": _FORMAT, "run": "", "pid": 0, "machines": [asdict(left) for left in self.entries]}
        _replace(self._path, json.dumps(document, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ledger. One that is torn or not ours counts as empty: VirtualBox's extra data says the same."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            machines: list[dict[str, Any]] = document["machines"] if document.get("format") == _FORMAT else []
            entries = [Entry(**machine) for machine in machines]
            sound = all(isinstance(value, str) for entry in entries for value in asdict(entry).values())
            return cls(path, entries if sound else [])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls(path, [])


@contextmanager
def abandoned(folder: Path) -> Iterator[list[Abandoned]]:
    """The ledgers of dead processes, locked for the length of the block.

    Args:
        folder: The state folder.
    """
    locks: list[FileLock] = []
    found: list[Abandoned] = []
    try:
        for path in sorted(_ledgers(folder).glob("*.json")):
            lock = FileLock(path.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            locks.append(lock)
            if path.exists():
                found.append(Abandoned.read(path))
        yield found
    finally:
        for lock in locks:
            lock.release()
            if not Path(lock.lock_file).with_suffix(".json").exists():
                Path(lock.lock_file).unlink(missing_ok=True)


def _ledgers(folder: Path) -> Path:
    ledgers = folder / "ledgers"
    ledgers.mkdir(parents=True, exist_ok=True, mode=0o700)
    return ledgers


def _stamped(entry: Entry) -> Entry:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Entry(entry.id, entry.name, entry.host, entry.test, now)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
