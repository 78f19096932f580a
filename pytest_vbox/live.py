"""A line on the terminal that says what a test is waiting for, once that has taken a second."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_PATIENCE: Final = 1.0
_EVERY: Final = 1.0
_LEAST: Final = 20
# Save the cursor, and back to where it was; clear from there to the end of the line.
_SAVE, _RESTORE, _CLEAR = "\x1b7", "\x1b8", "\x1b[K"


class LiveLine:
    """Writes behind pytest's own progress, and takes it away again.

    pytest captures the terminal's file descriptors while tests run, so this one has a copy, made before.

    Args:
        terminal: A file descriptor of the terminal, which this object closes.
        column: Tells where on the line pytest has stopped writing.
        patience: Seconds before the line appears, and between two versions of it.
    """

    def __init__(self, terminal: int, column: Callable[[], int], patience: float = _PATIENCE) -> None:
        self._terminal = terminal
        self._column = column
        self._patience = patience
        self._main = threading.main_thread()
        self._changed = threading.Condition()
        self._what: str | None = None
        self._since = 0.0
        self._shown = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def watch(self, what: str | None) -> None:
        """The calling thread waits for something, or goes on (None). Only the main thread is of interest."""
        if threading.current_thread() is not self._main:
            return
        with self._changed:
            self._erase()
            if self._closed:
                return
            self._what, self._since = what, time.monotonic()
            if what is not None and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pytest-vbox-live", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Take the line away, for good."""
        with self._changed:
            if self._closed:
                return
            self._erase()
            self._closed, self._what = True, None
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_EVERY)
        with suppress(OSError):
            os.close(self._terminal)

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if self._what is None:
                    self._changed.wait()
                    continue
                seconds = time.monotonic() - self._since
                if seconds >= self._patience:
                    self._show(f" … waiting for {self._what}: {seconds:.0f} s")
                self._changed.wait(self._patience if seconds < self._patience else _EVERY)

    def _show(self, text: str) -> None:
        room = shutil.get_terminal_size().columns - self._column() - 1
        if room >= _LEAST:
            self._shown = True
            self._write(f"{_SAVE}{text[:room]}{_CLEAR}{_RESTORE}")

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a terminal that was closed shows nothing
            os.write(self._terminal, text.encode())
