"""Taking machines away while others go on, and knowing in the end that all are gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

_THREADS: Final = 2


class Disposal:
    """A few threads that remove machines.

    Args:
        remove: Removes one; what it raises is kept.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pytest-vbox-removal")
        self._mutex = threading.Lock()
        self._going: set[Future[None]] = set()
        self._problems: list[tuple[str, Exception]] = []

    def submit(self, name: str, remove: Callable[[], None]) -> None:
        """Have a machine removed.

        Args:
            name: Its name.
            remove: Does it.
        """
        future = self._threads.submit(self._run, name, remove)
        with self._mutex:
            self._going.add(future)
        future.add_done_callback(self._gone)

    def problems(self) -> list[tuple[str, Exception]]:
        """The names of the machines that could not be removed, and why; each is told once."""
        with self._mutex:
            problems, self._problems = self._problems, []
            return problems

    def finish(self) -> None:
        """Wait until all are gone."""
        with self._mutex:
            going = list(self._going)
        wait(going)

    def close(self) -> None:
        """Wait until all are gone, and take no more."""
        self._threads.shutdown(wait=True)

    def _run(self, name: str, remove: Callable[[], None]) -> None:
        try:
            remove()
        except Exception as error:  # noqa: BLE001 - whoever asks for the problems shall hear of it
            with self._mutex:
                self._problems.append((name, error))

    def _gone(self, future: Future[None]) -> None:
        with self._mutex:
            self._going.discard(future)
