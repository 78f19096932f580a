"""Folders that belong to one process, for files that must not outlive it.

Beside each is a lock that the process holds as long as it lives, as with ledgers: a folder whose lock is free
belongs to somebody dead. (A process number may have been given to another process meanwhile; a lock cannot.)
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


class OwnFolder:
    """A folder of this process, made when it is first asked for. Thread-safe.

    Args:
        state: The state folder.
        kind: What it is for, such as ``keys``: the folder's folder.
        run: The id of the run, shared by all its workers; for people.
    """

    def __init__(self, state: Path, kind: str, run: str) -> None:
        self._folder = state / kind / f"{run}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock = FileLock(_lock_of(self._folder))
        self._mutex = threading.Lock()

    @property
    def place(self) -> Path:
        """Where the folder is, or would be."""
        return self._folder

    @property
    def path(self) -> Path:
        """The folder; only its owner may look inside."""
        with self._mutex:
            if not self._lock.is_locked:
                self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                # Held before there is a folder, so that nobody takes it for an abandoned one.
                self._lock.acquire(timeout=0)
            self._folder.mkdir(exist_ok=True, mode=0o700)
            return self._folder

    def close(self) -> None:
        """Delete it. Twice does no harm."""
        with self._mutex:
            if self._lock.is_locked:
                _delete(self._folder, self._lock)


def remove_abandoned(state: Path, kind: str) -> list[Path]:
    """Delete the folders of processes that died. Returns which.

    Args:
        state: The state folder.
        kind: As for `OwnFolder`.
    """
    removed = []
    for folder in _folders(state / kind):
        lock = FileLock(_lock_of(folder))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _delete(folder, lock)
        removed.append(folder)
    return removed


def _folders(parent: Path) -> Iterator[Path]:
    """The folders, those too of which only the lock was made or is left."""
    for lock in sorted(parent.glob("*.lock")):
        yield lock.with_suffix("")


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _delete(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    if not folder.exists():
        Path(lock.lock_file).unlink(missing_ok=True)
