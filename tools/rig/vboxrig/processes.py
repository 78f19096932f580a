"""Processes by identity: a pid alone can be given to another process, a pid and its start time cannot."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One process, told from a later one with the same pid by its start time (ticks since boot)."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has `pid` now, or None if there is none (a zombie counts as none)."""
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        # After the name in parentheses: the state is field 3 of proc(5), the start time field 22.
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        """True while this very process runs."""
        return Process.of(self.pid) == self

    @property
    def name(self) -> str:
        """What the kernel calls it; at most 15 characters, empty once it is gone."""
        try:
            return (PROC / str(self.pid) / "comm").read_text().strip()
        except OSError:
            return ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still the one meant."""
        # The descriptor belongs to one process for good: no other can get the signal in between.
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            if self.alive:
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def mount_namespace(pid: int) -> str | None:
    """Return what names the mount namespace of a process, or None if the process is gone."""
    try:
        return str((PROC / str(pid) / "ns" / "mnt").readlink())
    except OSError:
        return None


def members(namespace: str) -> Iterator[Process]:
    """Yield every process in a mount namespace."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and mount_namespace(int(entry.name)) == namespace:
            process = Process.of(int(entry.name))
            if process:
                yield process


def has_variable(process: Process, name: str, value: str) -> bool:
    """Tell whether a process was started with this environment variable."""
    try:
        variables = (PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{name}={value}".encode() in variables


def end(processes: Iterable[Process], patience: float) -> list[Process]:
    """Ask processes to end, wait, and kill those that stay; return those that even so did not go."""
    left = list(processes)
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        for process in left:
            process.send(number)
        left = wait_gone(left, seconds)
        if not left:
            break
    return left


def wait_gone(processes: Iterable[Process], seconds: float) -> list[Process]:
    """Wait until the processes are gone, for `seconds` at most; return those that are not."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if process.alive]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [process for process in left if process.alive]
    return left
