"""What is written down of the private service, for all processes of the user; and who uses it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import ProcessId, held

_NAME: Final = "service.json"
# Seconds; nobody sweeps for longer than a moment.
_PATIENCE: Final = 60.0


@dataclass(frozen=True)
class Record:
    """The private service as it runs. The file holds its password, so only the user may read it.

    Attributes:
        url: Its address.
        user: Whom it knows.
        password: That user's password.
        keeper: The process that ends it.
        service: Its own process.
        ready: Whether it has answered. It is written down before, so that it can be ended whoever dies meanwhile.
    """

    url: str
    user: str
    password: str = field(repr=False)
    keeper: ProcessId
    service: ProcessId
    ready: bool = True

    @classmethod
    def read(cls, state: Path) -> Self | None:
        """What is written down, or None if there is nothing, or nothing that makes sense."""
        try:
            document = json.loads((state / _NAME).read_text(encoding="utf-8"))
            if urlsplit(document["url"]).port is None:
                return None
            return cls(
                url=_text(document["url"]),
                user=_text(document["user"]),
                password=_text(document["password"]),
                keeper=_process(document["keeper"]),
                service=_process(document["service"]),
                ready=_flag(document.get("ready", True)),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None

    def write(self, state: Path) -> None:
        """Write it down, readable only for the user from the first moment."""
        temporary = state / f"{_NAME}.{uuid.uuid4().hex[:8]}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        temporary.replace(state / _NAME)

    @staticmethod
    def erase(state: Path) -> None:
        (state / _NAME).unlink(missing_ok=True)


class Lease:
    """Says that this process uses the private service; given back by the operating system when it dies."""

    def __init__(self, state: Path) -> None:
        with _sweeping(state) as folder:
            self._lock = FileLock(folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.lock")
            self._lock.acquire(timeout=0)

    def release(self) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def in_use(state: Path) -> bool:
    """Whether any process holds a lease; those of dead ones are swept away."""
    with _sweeping(state) as folder:
        for path in folder.glob("*.lock"):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return True
            lock.release()
            path.unlink(missing_ok=True)
    return False


@contextmanager
def _sweeping(state: Path) -> Iterator[Path]:
    """The folder of the leases, for one at a time: a lease is not swept away while it is being made."""
    folder = state / "leases"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with held(state, "leases", Deadline(_PATIENCE)):
        yield folder


def _process(document: object) -> ProcessId:
    process = ProcessId.from_json(document)
    if process is None:
        raise ValueError("no process")
    return process


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r:.60} is neither true nor false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value
