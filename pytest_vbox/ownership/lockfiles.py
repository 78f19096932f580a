"""Lock files that are deleted again: a folder holds those of locks that are held, and few others.

A lock file can't simply be deleted at release: on Unix, somebody else may have opened it just before, and would
then hold a lock that no later comer sees. So files of a folder are opened and deleted only under the folder's own
lock, which is held for the moment of an attempt alone, and whose file stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

_GUARD: Final = ".lock"
# Seconds to wait for the folder's own lock, which is held for less than a millisecond at a time.
_GUARD_SECONDS: Final = 30.0
_POLL: Final = 0.002
#: How many files of dead processes are deleted at a time.
_MOST_SWEPT: Final = 100


class Busy(TimeoutError):
    """Another process did not give a lock back in time."""


class LockFile:
    """A lock that is held. Any thread may give it back.

    Args:
        folder: Where it is.
        lock: The lock itself.
    """

    def __init__(self, folder: LockFolder, lock: FileLock) -> None:
        self._folder, self._lock = folder, lock

    def release(self) -> None:
        """Let others have it. Twice does no harm."""
        self._folder._release(self._lock)


class LockFolder:
    """The lock files in one folder, which is made when it is first used.

    Args:
        path: The folder.
        keep: Names of files in it that are somebody else's.
    """

    def __init__(self, path: Path, keep: frozenset[str] = frozenset()) -> None:
        self._path = path
        self._keep = keep | {_GUARD}

    def file(self, name: str) -> Path:
        """The file of a lock.

        Args:
            name: Fit for a file's name, without its ending.
        """
        return self._path / f"{name}.lock"

    def take(self, name: str) -> LockFile | None:
        """Hold a lock, unless somebody else does. Never waits for the holder.

        Args:
            name: Fit for a file's name, without its ending.

        Raises:
            Busy: Another process sits on the folder.
        """
        with self._guarded():
            return self._take(self.file(name))

    def sweep(self) -> int:
        """Delete files that processes left behind when they died, at most a hundred. Returns how many."""
        if not self._path.is_dir():
            return 0
        with os.scandir(self._path) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".lock")]
        swept = 0
        for name in names:
            if name in self._keep:
                continue
            # One at a time, so that nobody waits for long.
            with self._guarded():
                lock = self._take(self._path / name)
                if lock is not None:
                    self._drop(lock._lock)
                    swept += 1
            if swept >= _MOST_SWEPT:
                break
        return swept

    def _take(self, path: Path) -> LockFile | None:
        # Not bound to the thread: a machine is made in one and removed in another.
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return LockFile(self, lock)

    def _release(self, lock: FileLock) -> None:
        if not lock.is_locked:
            return
        # A file that can't be deleted now is swept away another time.
        with suppress(OSError), self._guarded():
            self._drop(lock)
        lock.release()

    def _drop(self, lock: FileLock) -> None:
        # Windows deletes no open file, so it is given back first: nobody opens it before it is gone.
        lock.release()
        with suppress(OSError):
            Path(lock.lock_file).unlink()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        guard = FileLock(self._path / _GUARD, thread_local=False)
        try:
            guard.acquire(timeout=_GUARD_SECONDS, poll_interval=_POLL)
        except Timeout:
            raise Busy(f"another process held the lock {guard.lock_file} for {_GUARD_SECONDS:.0f} s") from None
        try:
            yield
        finally:
            guard.release()
