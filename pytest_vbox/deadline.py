"""One deadline for a whole operation, handed down instead of timeouts that are summed by hand."""

from __future__ import annotations

import math
import time


class Deadline:
    """A point in time, on the monotonic clock, by which an operation has to be over.

    Args:
        seconds: How long from now; ``None`` means no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = math.inf if seconds is None else float(seconds)
        self._start = time.monotonic()

    def __repr__(self) -> str:
        return f"Deadline({self.seconds:g} s, {self.remaining:.1f} s left)"

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._start

    @property
    def remaining(self) -> float:
        """Seconds left, never negative; ``inf`` without a limit."""
        return max(0.0, self.seconds - self.elapsed)

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining <= 0.0

    def at_most(self, seconds: float) -> float:
        """The time one step may take: ``seconds``, or what is left if that is less."""
        return min(seconds, self.remaining)

    def sooner(self, seconds: float) -> Deadline:
        """A deadline for a part: ``seconds`` from now, but never later than this one."""
        return Deadline(self.at_most(seconds))
