"""What the rig tells a person while it works: lines on standard error, never on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"rig: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce `what`, and say how many seconds it took once it is done."""
    say(f"{what} …")
    started = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - started:.0f} s")


def tail(text: str, lines: int = 15) -> str:
    """Return the last lines of a log, without the empty ones."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
