"""That something is quick, whatever else this computer does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quickly(seconds: float = 1.0) -> Iterator[None]:
    """What is done within takes less than so many seconds of the processor, in this thread."""
    started = time.thread_time()
    yield
    taken = time.thread_time() - started
    assert taken < seconds, f"it took {taken:.1f} s"
