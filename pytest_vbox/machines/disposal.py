"""Taking machines away while others go on, and knowing in the end that all are gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

_THREADS: Final = 2


class _Once:
    """Something that is done by whoever comes first."""

    def __init__(self, task: Callable[[], None]) -> None:
        self._task = task
        self._taken = threading.Lock()

    def __call__(self) -> None:
        if self._taken.acquire(blocking=False):
            self._task()


class Disposal:
    """A few threads for what nobody has to wait for."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pytest-vbox-removal")
        self._mutex = threading.Lock()
        self._problems: list[tuple[str, Exception]] = []

    def submit(self, name: str, task: Callable[[], None]) -> None:
        """Have something done with a machine.

        Args:
            name: Its name.
            task: Does it; what it raises is kept.
        """
        once = _Once(lambda: self._run(name, task))
        try:
            self._threads.submit(once)
        except RuntimeError:
            # No thread can be started any more. It may be in the queue all the same, so whoever is first does it.
            once()

    def problems(self) -> list[tuple[str, Exception]]:
        """The names of the machines with which something went wrong, and what; each is told once."""
        with self._mutex:
            problems, self._problems = self._problems, []
            return problems

    def close(self) -> None:
        """Wait until everything is done, and take no more."""
        self._threads.shutdown(wait=True)

    def _run(self, name: str, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - whoever asks for the problems shall hear of it
            with self._mutex:
                self._problems.append((name, error))
