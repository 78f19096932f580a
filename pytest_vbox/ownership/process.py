"""Which process on which computer: written down so that others can tell later whether it still lives."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

import psutil

# Where Linux keeps when a process was started: behind the name, which may have blanks and brackets in it.
_START_FIELD: Final = 19
_STATE_FIELD: Final = 0
# Seconds by which the time that a system gives for the start of a process may waver.
_TOLERANCE: Final = 2.0
_HIGHEST_PID: Final = 2**31 - 1  # what the system's own calls take
_LATEST: Final = 1e15  # more than either kind of time will ever be


@dataclass(frozen=True)
class ProcessId:
    """A process, told from every other one, earlier and later ones of the same number too.

    Attributes:
        computer: A digest of which computer it is on, and which of its containers.
        boot: Which start of that computer, where the system tells.
        pid: Its number there.
        started: When it was started: in clock ticks since the boot on Linux, where no change of the clock moves
            it, else in seconds of the calendar.
    """

    computer: str
    boot: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """A process of this computer, or None if there is none of this number."""
        started = _started(pid)
        return cls(_computer(), _boot(), pid, started) if started is not None else None

    @classmethod
    def mine(cls) -> Self:
        """This process."""
        return cls(_computer(), _boot(), os.getpid(), _started(os.getpid()) or 0.0)

    @property
    def is_gone(self) -> bool:
        """Whether it certainly does not live any more. Of processes on other computers nobody here can say."""
        if self.computer != _computer():
            return False
        if self.boot != _boot():
            return True
        started = _started(self.pid)
        return started is None or abs(started - self.started) >= _TOLERANCE

    def find(self) -> psutil.Process | None:
        """The process, or None if it has ended, or is on another computer."""
        if self.computer != _computer() or self.is_gone:
            return None
        with suppress(psutil.Error):
            return psutil.Process(self.pid)
        return None

    def to_json(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> Self | None:
        """The other way round; None for anything else."""
        if not isinstance(document, Mapping):
            return None
        try:
            computer, boot = document["computer"], document["boot"]
            pid, started = document["pid"], document["started"]
        except KeyError:
            return None
        if not isinstance(computer, str) or not isinstance(boot, str) or type(started) not in {int, float}:
            return None
        if type(pid) is not int or not 0 < pid <= _HIGHEST_PID or not abs(started) <= _LATEST:
            return None
        return cls(computer, boot, pid, float(started))


@cache
def _computer() -> str:
    parts = [platform.node()]
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError):
            parts.append(Path(file).read_text(encoding="ascii", errors="replace").strip())
            break
    with suppress(OSError):
        # The numbers of processes mean something else in each container.
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _started(pid: int) -> float | None:
    """When a process was started; None if there is none, or only what its parent has not fetched yet."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        rest = fields.rpartition(")")[2].split()
        return float(rest[_START_FIELD]) if rest[_STATE_FIELD] not in {"Z", "X"} else None
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return process.create_time() if process.status() != psutil.STATUS_ZOMBIE else None
    return None
