"""Locks between processes of one user on one computer. The operating system gives them back when one dies."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership.lockfiles import Busy, LockFile, LockFolder

# Below what Linux, macOS and Windows hand out by themselves, so that no outgoing connection takes a port
# between its choice and the start of the machine.
_PORTS: Final = range(20000, 30000)
_TRIES: Final = 200
# Seconds between two attempts at a lock that somebody else holds, and how often whoever waits is asked.
_POLL, _SLICE = 0.02, 0.5
# The lock of the count of machines, which is always there.
_PERMANENT: Final = frozenset({"capacity.lock"})

_swept: set[Path] = set()
_sweeping: Final = threading.Lock()


@contextmanager
def held(
    folder: Path, name: str, deadline: Deadline, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold a named lock for the length of the block.

    Args:
        folder: The state folder.
        name: What the lock is for; any text.
        deadline: For how long to wait for it.
        on_wait: Called now and then meanwhile; what it raises ends the wait.

    Raises:
        Busy: Somebody else held it until the deadline.
    """
    locks, file = _locks_in(folder / "locks"), _file_name(name)
    asked = Deadline(_SLICE)
    while (lock := locks.take(file)) is None:
        if asked.expired or deadline.expired:
            on_wait()
            asked = Deadline(_SLICE)
        if deadline.expired:
            raise Busy(f"{name}: another process held the lock {locks.file(file)} for {deadline.elapsed:.0f} s")
        # Nothing tells when a file lock comes free, and waiting for one cannot be interrupted everywhere.
        threading.Event().wait(deadline.at_most(_POLL))
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class PortLock:
    """A port of this computer, TCP and UDP, that no other worker or run of pytest-vbox will choose."""

    port: int
    _lock: LockFile

    def release(self) -> None:
        """Let others have the port. Any thread may do it; twice does no harm."""
        self._lock.release()


def reserve_port(folder: Path, host: str = "127.0.0.1") -> PortLock:
    """Choose a port that is free for TCP and UDP; keep it from all users of this function until it is released.

    Args:
        folder: The state folder.
        host: The address the port has to be free on.

    Raises:
        Busy: No free port was found.
    """
    locks = _locks_in(folder / "ports")
    for port in random.sample(_PORTS, _TRIES):
        lock = locks.take(str(port))
        if lock is None:
            continue
        if _is_free(host, port):
            return PortLock(port, lock)
        lock.release()
    raise Busy(f"no free port on {host} among {_TRIES} tried between {_PORTS.start} and {_PORTS.stop}")


def sweep_locks(folder: Path) -> None:
    """Delete the files of locks and ports that processes held when they died.

    Args:
        folder: The state folder.
    """
    for name in ("locks", "ports"):
        LockFolder(folder / name, keep=_PERMANENT).sweep()


def _is_free(host: str, port: int) -> bool:
    # A machine's port for SSH is forwarded with its namesake of UDP, and forward() may want either.
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def _locks_in(path: Path) -> LockFolder:
    """A folder of locks; what the dead left in it is swept away when a process first comes there."""
    locks = LockFolder(path, keep=_PERMANENT)
    with _sweeping:
        new = path not in _swept
        _swept.add(path)
    if new:
        locks.sweep()
    return locks


def _file_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:32]
