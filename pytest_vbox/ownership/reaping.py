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
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import meeting
from pytest_vbox.ownership.disk import write_synced
from pytest_vbox.ownership.ledger import Abandoned, abandoned, run_folder
from pytest_vbox.ownership.locks import held
from pytest_vbox.ownership.reaper import READY, address_file

# Seconds for the process that started it to say hello, and for a hello to be said.
_PATIENCE: Final = 30.0
_RETIRING: Final = 60.0
_LONGEST_HELLO: Final = 64 * 1024
# Seconds before what went wrong is tried again, and how often at the end what is left is tried again.
_MOMENT: Final = 1.0
_ROUNDS: Final = 5

CleanUp = Callable[[Path, int, Mapping[str, Any]], None]
"""Cleans up after a process: given its part of the ledger, its number, and how VirtualBox is reached."""


class Watch:
    """Watches the processes of a run until the last one is gone.

    Args:
        state: The state folder.
        run: The run.
        clean_up: Is called, one at a time, for each process that left something behind, whichever reaper of the
            run was told of its death; and at the end once more for what is still there.
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
        # How VirtualBox is reached, as those said who were watched; all workers of pytest-xdist say the same.
        self._ways: list[Mapping[str, Any]] = []
        self._leaving = threading.Event()
        self._cleaning = threading.Lock()

    def run(self) -> None:
        """Announce itself, watch, and come back when nobody is left."""
        try:
            self._run_on()
        except BaseException:  # nobody can reach it, as when its address cannot be written to a full disk
            with suppress(OSError):
                self._withdraw()
            raise

    def _withdraw(self) -> None:
        self._leaving.set()
        self._listener.close()
        meeting.remove(run_folder(self._state, self._run), self._address)

    def _run_on(self) -> None:
        document = {"address": self._address, "token": self._token, "pid": os.getpid()}
        write_synced(address_file(self._state, self._run), json.dumps(document) + "\n")
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()
        with self._changed:
            self._changed.wait_for(lambda: self._had_any, _PATIENCE)
        # If there was a reaper before, it may have been killed just when it cleaned up after somebody.
        self._bury_left()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._watched == 0)
            self._bury_last()
            # Nobody is on the way to us while we hold this.
            with held(self._state, f"reaper {self._run}", Deadline(_RETIRING)), self._changed:
                if self._watched == 0:
                    self._withdraw()
                    return

    def _accept(self) -> None:
        while not self._leaving.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it was closed at the end, or there are no handles left just now
                self._leaving.wait(_MOMENT)
                continue
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
                if hello["access"] not in self._ways:
                    self._ways.append(hello["access"])
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
        with self._cleaning:
            if ledger.exists():
                try:
                    self._clean_up(ledger, pid, access)
                except Exception:  # noqa: BLE001 - the others are watched all the same
                    traceback.print_exc()

    def _bury_last(self) -> None:
        """Once nobody is watched: try again what could not be cleaned up, as long as that helps."""
        for _ in range(_ROUNDS):
            left = self._left(_MOMENT)
            if not left:
                return
            with self._changed:
                if self._changed.wait_for(lambda: self._watched > 0, _MOMENT):
                    return
            self._bury_left()
            if self._left() == left:
                return

    def _bury_left(self) -> None:
        """Clean up after all of the run that died."""
        with self._changed:
            ways = list(self._ways)
        for ledger in self._left():
            for access in ways:
                self._bury(ledger.path, ledger.pid, access)

    def _left(self, patience: float = 0.0) -> list[Abandoned]:
        """What the dead of the run have left; a process that dies just now may hold its lock for a moment more."""
        with suppress(OSError), self._cleaning, abandoned(self._state, patience=patience, run=self._run) as found:
            return [ledger for ledger in found if not ledger.unreadable]
        return []


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
        # Of one that was killed. (One that only stands still has the lock, and goes on later.)
        meeting.remove(folder)
        Watch(state, run, clean_up).run()
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):
            folder.rmdir()
    return 0
