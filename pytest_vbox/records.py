"""What became of each request for a machine: which way it came, how long each part took, what was waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

#: Seconds from which on somebody has waited.
_WORTH_TELLING: Final = 0.01


class Way(StrEnum):
    """How a machine came to be ready."""

    COLD = "cold"
    FORKED = "forked"
    PARKED = "parked hit"
    RESET = "reset"


@dataclass(frozen=True)
class Record:
    """One request for a machine that was answered.

    Attributes:
        machine: The machine's name in VirtualBox.
        image: The name of its image.
        profile: The name of its hardware profile.
        test: The id of the test that asked, or an empty string.
        way: How it came.
        seconds: From the call to the answer, with all that was waited for.
        phases: The seconds that each part of it took: golden, clone, launch, ssh, settle, resume and the like.
        waited: The seconds spent waiting for others, by what for: ``a free place`` or ``a golden machine``.
        cold_seconds: What a cold boot of the same machine took when it was last done, if that is known.
        purpose: ``test``, or ``golden`` for the machine that is booted once, to be forked.
    """

    machine: str
    image: str
    profile: str
    test: str
    way: Way
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)
    waited: Mapping[str, float] = field(default_factory=dict)
    cold_seconds: float | None = None
    purpose: str = "test"

    @property
    def saved(self) -> float:
        """The seconds that a cold boot would have taken longer."""
        return max(0.0, (self.cold_seconds or 0.0) - self.seconds) if self.way is not Way.COLD else 0.0

    def to_json(self) -> dict[str, Any]:
        """As it is written in reports, and sent from a worker to its controller."""
        return {**asdict(self), "way": str(self.way), "phases": dict(self.phases), "waited": dict(self.waited)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The other way round."""
        return cls(**{**document, "way": Way(document["way"])})


class Journal:
    """The records of one process. Thread-safe.

    Args:
        watch: Is told what the calling thread waits for, and None when it goes on.

    Attributes:
        records: One for each machine that was answered with.
        notes: Sentences for the summary, each once: a golden machine that was discarded, say, and why.
        peak: The most machines this process had at once.
        virtualbox: The version of VirtualBox, once it is known.
    """

    def __init__(self, watch: Callable[[str | None], None] = lambda _: None) -> None:
        self.watch = watch
        self.records: list[Record] = []
        self.notes: list[str] = []
        self.peak = 0
        self.virtualbox = ""
        self._count = 0
        self._mutex = threading.Lock()
        self._thread = threading.local()

    def add(self, record: Record) -> None:
        """Write one down."""
        with self._mutex:
            self.records.append(record)

    def note(self, sentence: str) -> bool:
        """Write a sentence down, once. Returns whether it is new."""
        with self._mutex:
            if sentence in self.notes:
                return False
            self.notes.append(sentence)
            return True

    def came(self) -> None:
        """One more machine is there."""
        with self._mutex:
            self._count += 1
            self.peak = max(self.peak, self._count)

    def went(self) -> None:
        """One less."""
        with self._mutex:
            self._count -= 1

    @contextmanager
    def doing(self, what: str, at_most: float | None = None) -> Iterator[None]:
        """Say what the caller waits for, for the length of the block.

        Args:
            what: ``SSH of pytest-x-1234``, say.
            at_most: The seconds that it may take, if that is known.
        """
        before = getattr(self._thread, "doing", None)
        self._thread.doing = what if at_most is None else f"{what}, at most {at_most:.0f} s"
        self.watch(self._thread.doing)
        try:
            yield
        finally:
            self._thread.doing = before
            self.watch(before)

    @contextmanager
    def waiting(self, what: str, detail: str = "") -> Iterator[None]:
        """The same for waiting for others, which is counted too.

        Args:
            what: ``a free place`` or ``a golden machine``: the key in :attr:`Record.waited`.
            detail: What to say besides.
        """
        started = time.monotonic()
        try:
            with self.doing(f"{what}{detail and f' ({detail})'}"):
                yield
        finally:
            seconds, waited = time.monotonic() - started, self._waited()
            if seconds >= _WORTH_TELLING:
                waited[what] = waited.get(what, 0.0) + seconds

    def take_waited(self) -> dict[str, float]:
        """What the calling thread has waited for since it was last asked."""
        waited = self._waited()
        taken = dict(waited)
        waited.clear()
        return taken

    def _waited(self) -> dict[str, float]:
        waited: dict[str, float] | None = getattr(self._thread, "waited", None)
        if waited is None:
            waited = self._thread.waited = {}
        return waited
