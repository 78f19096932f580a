"""The reaper's own side: it watches the processes of a run, and has what they leave behind cleaned up."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import meeting
from pytest_vbox.ownership.disk import write_synced
from pytest_vbox.ownership.ledger import run_folder
from pytest_vbox.ownership.locks import held
from pytest_vbox.ownership.reaper import READY, address_file

# Seconds for the process that started it to say hello, and for a hello to be said.
_PATIENCE: Final = 30.0
_RETIRING: Final = 60.0
_LONGEST_HELLO: Final = 64 * 1024

CleanUp = Callable[[Path, int, Mapping[str, Any]], None]
"""Cleans up after a process: given its part of the ledger, its number, and how VirtualBox is reached."""


class Watch:
    """Watches the processes of a run until the last one is gone.

    Args:
        state: The state folder.
        run: The run.
        clean_up: Is called, one at a time, for each process that left something behind.
    """

    def __init__(self, state: Path, run: str, clean_up: CleanUp) -> None:
        self._state = state
        self._run = run
        self._clean_up = clean_up
        self._token = secrets.token_urlsafe(32)
        self._listener, self._address = meeting.listen(run_folder(state, run))
        self._changed = threading.Condition()
        self._watched = 0
        self._had_any = False
        self._cleaning = threading.Lock()

    def run(self) -> None:
        """Announce itself, watch, and come back when nobody is left."""
        document = {"address": self._address, "token": self._token, "pid": os.getpid()}
        write_synced(address_file(self._state, self._run), json.dumps(document) + "\n")
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()
        with self._changed:
            self._changed.wait_for(lambda: self._had_any, _PATIENCE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched == 0)
            # Nobody is on the way to us while we hold this.
            with held(self._state, f"reaper {self._run}", Deadline(_RETIRING)), self._changed:
                if self._watched == 0:
                    self._listener.close()
                    meeting.remove(run_folder(self._state, self._run))
                    return

    def _accept(self) -> None:
        with suppress(OSError):  # closed at the end
            while True:
                connection, _ = self._listener.accept()
                try:
                    threading.Thread(target=self._attend, args=(connection,), daemon=True).start()
                except RuntimeError:
                    # No thread can be started. It hears so at once; if it was the first, nobody is to be watched.
                    connection.close()
                    with self._changed:
                        self._had_any = True
                        self._changed.notify_all()

    def _attend(self, connection: socket.socket) -> None:
        with connection:
            hello = self._greet(connection)
            if hello is None:
                return
            with self._changed:
                self._watched += 1
                self._had_any = True
                self._changed.notify_all()
            try:
                with suppress(OSError):
                    connection.sendall(READY)
                    connection.settimeout(None)
                    while connection.recv(1):
                        pass
                self._bury(Path(hello["ledger"]), int(hello["pid"]), hello["access"])
            finally:
                with self._changed:
                    self._watched -= 1
                    self._changed.notify_all()

    def _greet(self, connection: socket.socket) -> dict[str, Any] | None:
        """What a process says of itself; None for somebody who does not know the token."""
        connection.settimeout(_PATIENCE)
        said = b""
        try:
            while said.count(b"\n") < 2 and len(said) < _LONGEST_HELLO:
                part = connection.recv(4096)
                if not part:
                    return None
                said += part
            token, _, hello = said.partition(b"\n")
            if not hmac.compare_digest(token, self._token.encode()):
                return None
            document: dict[str, Any] = json.loads(hello)
        except (OSError, ValueError):
            return None
        return document

    def _bury(self, ledger: Path, pid: int, access: Mapping[str, Any]) -> None:
        if ledger.exists():
            with self._cleaning:
                self._clean_up(ledger, pid, access)


def serve(state: Path, run: str, clean_up: CleanUp) -> int:
    """Be the reaper of a run, unless there is one. Returns an exit code."""
    for number in (signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())):
        signal.signal(number, signal.SIG_IGN)
    folder = run_folder(state, run)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(folder / "reaper.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return 1
    try:
        Watch(state, run, clean_up).run()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            folder.rmdir()
    return 0
