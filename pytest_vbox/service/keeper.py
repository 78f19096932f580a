"""The keeper: a small process that runs the private web service and ends it when nobody uses it any more.

    python -m pytest_vbox.service.keeper STATE VBOXMANAGE VBOXWEBSRV

Started by :mod:`pytest_vbox.service.endpoint`, and on its own from then on.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import ProcessId, held, reserve_port
from pytest_vbox.service.endpoint import answers
from pytest_vbox.service.installation import Installation, VirtualBoxUnusable
from pytest_vbox.service.listener import is_trusted
from pytest_vbox.service.record import Record, in_use

_HOST: Final = "127.0.0.1"
#: Seconds without a user after which the service is ended: within a minute nothing of a run is left.
IDLE: Final = 45.0
_LOOK: Final = 5.0
_START_TIMEOUT: Final = 45.0
_END_TIMEOUT: Final = 30.0
# VBoxManage hangs where VirtualBox's server does, and whoever ends the keeper does not wait for long.
_LAST_WORD_TIMEOUT: Final = 5.0


def keep(state: Path, installation: Installation, idle: float) -> int:
    """Start the service, write it down, and end it once it was idle for long enough. Returns an exit code."""
    password = secrets.token_urlsafe(32)
    # Only its hash is ever on a command line.
    digest = hashlib.sha256(password.encode()).hexdigest()
    user = user_of(state)
    place = f"VBoxAuthSimple/users/{user}"
    installation.run("setextradata", "global", place, digest)
    port = reserve_port(state, _HOST)
    stopping = threading.Event()
    # From here on to be asked to end is to end the service, too.
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    service = _start(installation, port.port)
    try:
        running = ProcessId.of(service.pid)
        if running is not None:  # it may have ended already, which is told below
            url = f"http://{_HOST}:{port.port}"
            record = Record(url, user, password, ProcessId.mine(), running, ready=False)
            record.write(state)
        if not _wait_until_it_answers(service, port.port, stopping) or running is None:
            return 1
        replace(record, ready=True).write(state)
        _wait_until_idle(state, service, stopping, idle)
        return 0
    finally:
        # While there is somebody to tell; without the service VirtualBox would be started just for this.
        with suppress(VirtualBoxUnusable):
            installation.run("setextradata", "global", place, timeout=_LAST_WORD_TIMEOUT)
        _end(service)
        port.release()


def user_of(state: Path) -> str:
    """The user's name for the service: another state folder with the same VirtualBox has a service of its own."""
    return f"pytest-vbox-{hashlib.sha256(str(state).encode()).hexdigest()[:8]}"


def _start(installation: Installation, port: int) -> subprocess.Popen[bytes]:
    # -t 0: no web session ends by itself. It would by the clock of the wall, so after each suspend of the
    # computer. Those of the dead are ended by who cleans up after them, or with the service.
    arguments = ["-H", _HOST, "-p", str(port), "-A", "VBoxAuthSimple", "-t", "0", "-k", "10000"]
    return subprocess.Popen([installation.vboxwebsrv, *arguments], stdin=subprocess.DEVNULL)


def _end(service: subprocess.Popen[bytes]) -> None:
    service.terminate()
    try:
        service.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()


def _wait_until_it_answers(service: subprocess.Popen[bytes], port: int, stopping: threading.Event) -> bool:
    deadline = Deadline(_START_TIMEOUT)
    while not (is_trusted(port) and answers(_HOST, port)):
        if service.poll() is not None:
            print(f"vboxwebsrv ended with exit code {service.returncode}", flush=True)  # noqa: T201 - our log
            return False
        if deadline.expired:
            print(f"vboxwebsrv did not answer within {deadline.elapsed:.0f} s", flush=True)  # noqa: T201 - our log
            return False
        if stopping.wait(0.05):
            return False
    return True


def _wait_until_idle(
    state: Path, service: subprocess.Popen[bytes], stopping: threading.Event, idle: float
) -> None:
    """Come back when the service has ended, when nobody used it for so long, or when asked to stop."""
    unused = Deadline(idle)
    while service.poll() is None and not stopping.wait(min(_LOOK, idle)):
        if in_use(state):
            unused = Deadline(idle)
        elif unused.expired and _retire(state):
            return
    if not stopping.is_set():
        Record.erase(state)


def _retire(state: Path) -> bool:
    """Erase the record, unless somebody came in the last moment; nobody new can find the service then."""
    with held(state, "service", Deadline(None)):
        if in_use(state):
            return False
        Record.erase(state)
        return True


def main() -> int:
    state, vboxmanage, vboxwebsrv = sys.argv[1:4]
    idle = float(os.environ.get("PYTEST_VBOX_SERVICE_IDLE", IDLE))
    return keep(Path(state), Installation(vboxmanage, vboxwebsrv), idle)


if __name__ == "__main__":
    sys.exit(main())
