"""Locks between processes of one user on one computer. The operating system gives them back when one dies."""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from pytest_vbox.deadline import Deadline

# Below what Linux, macOS and Windows hand out by themselves, so that no outgoing connection takes a port
# between its choice and the start of the machine.
_PORTS: Final = range(20000, 30000)
_TRIES: Final = 200
_SLICE: Final = 0.5


class Busy(TimeoutError):
    """Another process did not give a lock back in time."""


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
    lock = FileLock(_file(folder / "locks", name))
    while True:
        try:
            # In slices, since waiting for a file lock cannot be interrupted on every platform.
            lock.acquire(timeout=deadline.at_most(_SLICE), poll_interval=0.02)
            break
        except Timeout:
            on_wait()
            if deadline.expired:
                raise Busy(
                    f"{name}: another process held the lock {lock.lock_file} for {deadline.elapsed:.0f} s"
                ) from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class PortLock:
    """A TCP port of this computer that no other worker or run of pytest-vbox will choose."""

    port: int
    _lock: FileLock

    def release(self) -> None:
        """Let others have the port."""
        self._lock.release()


def reserve_port(folder: Path, host: str = "127.0.0.1") -> PortLock:
    """Choose a free port and keep it from all other users of this function until it is released.

    Args:
        folder: The state folder.
        host: The address the port has to be free on.

    Raises:
        Busy: No free port was found.
    """
    for port in random.sample(_PORTS, _TRIES):
        lock = FileLock(_file(folder / "ports", str(port)), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        if _is_free(host, port):
            return PortLock(port, lock)
        lock.release()
    raise Busy(f"no free port on {host} among {_TRIES} tried between {_PORTS.start} and {_PORTS.stop}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _file(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        name = hashlib.sha256(name.encode()).hexdigest()[:32]
    return folder / f"{name}.lock"
