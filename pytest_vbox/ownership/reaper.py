"""The reaper: a small process for each run that outlives it and cleans up after whichever of its processes dies.

This is the side of those it watches: the way to it, and its start. A process of the run is connected with it from
before its first machine until its end. The operating system closes that connection however the process ends, and
so tells the reaper. (Its own side is in `pytest_vbox.ownership.reaping`.)
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import background, meeting
from pytest_vbox.ownership.ledger import run_folder
from pytest_vbox.ownership.lockfiles import Busy
from pytest_vbox.ownership.locks import held
from pytest_vbox.ownership.reports import log_file
from pytest_vbox.ownership.runs import remove_ended_run
from pytest_vbox.secret import Secret, Unseen

#: What a reaper says when it listens, and when it has taken somebody in.
READY: Final = b"ready\n"
_MODULE: Final = "pytest_vbox.reaper"
_PATIENCE: Final = 30.0
# How often a reaper that was killed is replaced at once; any later one is when the next thing is made.
_MOST_REPLACED: Final = 10


class ReaperUnavailable(background.NotStarted):
    """There is nobody who would clean up after this process, so nothing is made."""


class Reaper:
    """The way of this process to the reaper of its run. Thread-safe.

    Args:
        state: The state folder.
        run: The id of the run, shared by all its workers.
        access: What the reaper needs to reach VirtualBox; goes to it directly, and is never written down.
    """

    def __init__(self, state: Path, run: str, access: Mapping[str, Any]) -> None:
        self._state = state
        self._run = run
        self._access = dict(access)
        self._mutex = threading.Lock()
        self._connection: socket.socket | None = None
        self._watched = False
        self._closed = False
        self._replaced = 0

    def prepare(self, ledger: Path) -> None:
        """Begin what `attend` does while the caller goes on, who then has to wait less; it tells of no errors.

        Args:
            ledger: This process's part of the ledger.
        """

        threading.Thread(target=self._try, args=(ledger,), name="pytest-vbox-reaper", daemon=True).start()

    def attend(self, ledger: Path) -> None:
        """See that the reaper watches this process; start it if there is none, or none any more.

        Args:
            ledger: This process's part of the ledger.

        Raises:
            ReaperUnavailable: It cannot be started.
        """
        with self._mutex:
            if self._closed or (self._connection is not None and _is_open(self._connection)):
                return
            self._hang_up()
            # One at a time, so that all processes of a run find the same one.
            with held(self._state, f"reaper {self._run}", Deadline(_PATIENCE)):
                connection = self._reach(ledger)
                if connection is None:
                    self._start()
                    connection = self._reach(ledger)
                if connection is None:
                    raise ReaperUnavailable(f"the reaper of this run does not answer; see {log_file(self._state)}")
            _close_in_children(connection)
            self._connection = connection
            self._watched = self._watch(connection, ledger)

    def close(self) -> None:
        """Take leave. It goes by itself when nobody is left; what is still in the ledger, it cleans up."""
        with self._mutex:
            self._closed = True
            died = self._connection is not None and not _is_open(self._connection)
            self._hang_up()
        if died:
            remove_ended_run(run_folder(self._state, self._run))

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):  # its other end is gone already
                connection.shutdown(socket.SHUT_RDWR)
            # Where somebody waits for its end, he hears of it, and would not if it were closed before.
            if not self._watched:
                connection.close()

    def _try(self, ledger: Path) -> None:
        # RuntimeError: no thread can be started.
        with suppress(ReaperUnavailable, Busy, OSError, RuntimeError):
            self.attend(ledger)

    def _watch(self, connection: socket.socket, ledger: Path) -> bool:
        try:
            threading.Thread(
                target=self._miss, args=(connection, ledger), name="pytest-vbox-reaper", daemon=True
            ).start()
        except RuntimeError:  # no thread can be started: it is missed when the next thing is made
            return False
        return True

    def _miss(self, connection: socket.socket, ledger: Path) -> None:
        """Wait until the reaper dies, and see that there is another one: this process may be the next to die."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(connection, selectors.EVENT_READ)
                selector.select()
        except OSError:
            # No handle to wait with: the reaper watches all the same, and is missed when the next thing is made.
            with self._mutex:
                if self._connection is connection:
                    self._watched = False
                    return
        connection.close()
        with self._mutex:
            if self._connection is not connection or self._replaced >= _MOST_REPLACED:
                return
            self._replaced += 1
        self._try(ledger)

    def _reach(self, ledger: Path) -> socket.socket | None:
        """A connection with a reaper that has taken us in, or None if there is none."""
        try:
            address, token = self._where()
            connection = meeting.connect(address, _PATIENCE)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        try:
            connection.settimeout(_PATIENCE)
            with Unseen():
                # In no variable, where a traceback would show it: there is a password in it.
                connection.sendall(f"{token}\n{self._hello(ledger)}\n".encode())
            if connection.recv(len(READY), socket.MSG_WAITALL) == READY:
                connection.setblocking(False)
                return connection
        except OSError:
            pass
        except BaseException:
            connection.close()
            raise
        connection.close()
        return None

    def _where(self) -> tuple[object, Secret]:
        known = json.loads(address_file(self._state, self._run).read_text(encoding="utf-8"))
        return known["address"], Secret(known["token"])

    def _hello(self, ledger: Path) -> str:
        return json.dumps({"ledger": str(ledger), "pid": os.getpid(), "access": self._access})

    def _start(self) -> None:
        with log_file(self._state).open("ab") as log:
            try:
                process = background.start(
                    _MODULE, str(self._state), self._run, folder=self._state, output=subprocess.PIPE, errors=log
                )
            except OSError as error:
                raise ReaperUnavailable(f"the reaper of this run cannot be started: {error}") from error
        # Whatever it does, its first line comes, or the end of its output.
        impatience = threading.Timer(_PATIENCE, process.kill)
        impatience.daemon = True
        try:
            impatience.start()
        except RuntimeError:
            process.kill()
            process.communicate()
            raise
        with cast("IO[bytes]", process.stdout) as output:
            said = output.readline()
        impatience.cancel()
        if said != READY:
            code = process.wait()
            raise ReaperUnavailable(
                f"the reaper of this run ended (exit code {code}) before it watched; see {log_file(self._state)}"
            )
        # It goes on without us, so Popen shall not warn of a process that nobody waited for.
        process.returncode = 0


def address_file(state: Path, run: str) -> Path:
    """Where the reaper of a run writes down how it is reached."""
    return run_folder(state, run) / meeting.ADDRESS_FILE


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""  # it says nothing any more, so this is its end
    except BlockingIOError:
        return True
    except OSError:
        return False


def _close_in_children(connection: socket.socket) -> None:
    """See that a child made with ``fork`` does not keep the connection open when this process dies."""
    if hasattr(os, "register_at_fork"):
        descriptor, identity = connection.fileno(), os.fstat(connection.fileno())

        def close() -> None:
            # It may have been closed, and its number given to something else.
            with suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), identity):
                    os.close(descriptor)

        os.register_at_fork(after_in_child=close)
