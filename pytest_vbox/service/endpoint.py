"""Find the web service to use; start a private one if there is none."""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import psutil

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import ProcessId, background, held
from pytest_vbox.service.installation import VirtualBoxUnusable, find_installation
from pytest_vbox.service.listener import is_trusted
from pytest_vbox.service.record import Lease, Record

#: Where VirtualBox's service listens if it is started without options.
USUAL_PORT: Final = 18083
_START_TIMEOUT: Final = 60.0
_END_TIMEOUT: Final = 10.0
_LOG_LINES: Final = 10
# What a service says that is started in the moment in which VirtualBox's server dies, and how often to try then.
_DYING: Final = "NS_ERROR_FACTORY_NOT_REGISTERED"
_STARTS: Final = 3


@dataclass(frozen=True)
class Endpoint:
    """A web service, and how to log on to it (empty where that is the user's to say)."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    lease: Lease | None = field(default=None, repr=False, compare=False)

    def release(self) -> None:
        """Say that the service is not used any more; a private one ends itself some time after the last user."""
        if self.lease is not None:
            self.lease.release()


def find(url: str | None, *, state: Path, usual_port: int = USUAL_PORT) -> Endpoint:
    """The service to use: the one named, else the one on the usual port, else a private one.

    On the usual port that of this user or of root: another user of this computer could wait there for somebody.

    Args:
        url: What the user named, or None.
        state: The state folder.
        usual_port: The port to look at on this computer.

    Raises:
        VirtualBoxNotFound: There is no VirtualBox here.
        VirtualBoxUnusable: There is, but its service cannot run.
        Busy: Another process was starting the private service for too long.
    """
    if url is not None:
        return Endpoint(url)
    if is_trusted(usual_port) and answers("127.0.0.1", usual_port):
        return Endpoint(f"http://127.0.0.1:{usual_port}")
    deadline = Deadline(_START_TIMEOUT)
    with held(state, "service", deadline):
        # The lease first: from here on the keeper of a running service will not end it.
        lease = Lease(state)
        try:
            record = _running(state) or _start(state, deadline)
        except BaseException:
            lease.release()
            raise
    return Endpoint(record.url, record.user, record.password, lease)


def answers(host: str, port: int, timeout: float = 2.0) -> bool:
    """Whether a VirtualBox web service answers at an address (only the start of its description is read)."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/?wsdl")
        reply = connection.getresponse()
        return reply.status == http.client.OK and b"virtualbox.org" in reply.read(4096)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(state: Path) -> bool:
    """End the private service, whoever uses it. Returns whether there was one."""
    with held(state, "service", Deadline(_START_TIMEOUT)):
        record = Record.read(state)
        if record is None:
            return False
        _end_recorded(state, record)
    return True


def renew(broken: Endpoint, *, state: Path, usual_port: int = USUAL_PORT) -> Endpoint:
    """Another private service in the place of one that takes nobody any more, as when VirtualBox's server died.

    Args:
        broken: The private service, released already.
        state: The state folder.
        usual_port: As for `find`.
    """
    with held(state, "service", Deadline(_START_TIMEOUT)):
        record = Record.read(state)
        # Somebody else may have been quicker.
        if record is not None and (record.url, record.password) == (broken.url, broken.password):
            _end_recorded(state, record)
    for _ in range(_STARTS - 1):
        try:
            return find(None, state=state, usual_port=usual_port)
        except VirtualBoxUnusable as error:
            if _DYING not in str(error):
                raise
    return find(None, state=state, usual_port=usual_port)


def tidy(state: Path) -> None:
    """End the private service if its keeper is dead, which would have done so."""
    with held(state, "service", Deadline(_START_TIMEOUT)):
        _running(state)


def _running(state: Path) -> Record | None:
    record = Record.read(state)
    if record is None:
        return None
    host, _, port = record.url.removeprefix("http://").partition(":")
    # Nobody is starting it any more, since the lock is ours; so one that is not ready has nobody either.
    alive = record.ready and record.keeper.find() and record.service.find()
    if alive and is_trusted(int(port)) and answers(host, int(port), timeout=10.0):
        return record
    # Its keeper was killed, or it hangs: nobody would end it any more, so it is ended here.
    _end_recorded(state, record)
    return None


def _end_recorded(state: Path, record: Record) -> None:
    _end(record.keeper)
    _end(record.service)
    Record.erase(state)


def _end(identity: ProcessId) -> None:
    process = identity.find()
    if process is None:
        return
    deadline = Deadline(_END_TIMEOUT)
    pause = threading.Event()
    with suppress(psutil.NoSuchProcess):  # it may end by itself at any moment
        process.terminate()
        # Not psutil's wait(), for which an orphan lives on in a container whose first process reaps nobody.
        while identity.find() is not None:
            if deadline.expired:
                process.kill()
                return
            pause.wait(0.02)


def _start(state: Path, deadline: Deadline) -> Record:
    installation = find_installation()
    installation.check_driver()
    log = state / "service.log"
    with _own_file(log) as output:
        keeper = background.start(
            "pytest_vbox.service.keeper",
            str(state),
            *vars(installation).values(),
            folder=state,
            output=output,
            errors=subprocess.STDOUT,
        )
    pause = threading.Event()
    while (record := Record.read(state)) is None or not record.ready:
        pause.wait(0.05)  # nothing tells of a file that another process writes
        if keeper.poll() is not None or deadline.expired:
            _end_unready(keeper, state)
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
            raise VirtualBoxUnusable(
                f"VirtualBox's web service did not start ({deadline.elapsed:.0f} s); the end of {log}:\n{tail}"
            )
    # It goes on without us, so Popen shall not warn of a process that nobody waited for.
    keeper.returncode = 0
    return record


def _own_file(path: Path) -> BinaryIO:
    """An empty file that only the user may read, from the first moment."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _end_unready(keeper: subprocess.Popen[bytes], state: Path) -> None:
    if keeper.poll() is None:
        keeper.terminate()
        try:
            keeper.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
    record = Record.read(state)
    if record is not None:
        _end_recorded(state, record)
