"""The processes of a rig: VirtualBox's server behind it all, and its web service."""

from __future__ import annotations

import hashlib
import re
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vboxrig import files
from vboxrig.errors import ProcessDiedError
from vboxrig.namespace import entering, environment
from vboxrig.places import Places
from vboxrig.processes import Process
from vboxrig.progress import tail
from vboxrig.record import Record

# What makes VirtualBox run guests in its interpreter instead of refusing to start them.
EXTRA_DATA = {
    "VBoxInternal/HM/FallbackToIEM": "1",
    "VBoxInternal/EM/IemExecutesAll": "1",
}
START_SECONDS = 30.0


def log_of(places: Places, name: str) -> Path:
    """Return the file that gets what the process `name` prints."""
    return places.logs / f"{name}.log"


def variables(places: Places) -> dict[str, str]:
    """Return the environment variables by which VirtualBox's programs find this rig's own server."""
    return {
        "VBOX_USER_HOME": str(places.home),
        "VBOX_IPC_SOCKETID": places.ipc_id,
        "HOME": str(places.home),
        "XDG_RUNTIME_DIR": str(places.home),
    }


def _start(places: Places, record: Record, name: str, command: Sequence[str]) -> Process:
    with log_of(places, name).open("w") as output:
        child = subprocess.Popen(
            [*entering(record.holder), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(variables(places)),
            start_new_session=True,
        )
    process = Process.of(child.pid)
    child.returncode = 0  # it outlives this program: nothing to wait for
    if process is None:
        raise _died(places, name)
    record.processes[name] = process
    record.save(places.record)
    return process


def _died(places: Places, name: str, why: str = "ended as soon as it was started") -> ProcessDiedError:
    return ProcessDiedError(f"{name} {why}", tail(log_of(places, name).read_text(errors="replace")))


def manage(places: Places, record: Record, *arguments: str, seconds: float = 60) -> str:
    """Run VBoxManage inside the rig and return what it printed.

    Raises:
        ProcessDiedError: it failed, or did not end in time.
    """
    command = [*entering(record.holder), "VBoxManage", "-q", *arguments]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment(variables(places)),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessDiedError(f"VBoxManage {arguments[0]} did not answer within {seconds:.0f} s") from None
    if result.returncode:
        raise ProcessDiedError(f"VBoxManage {arguments[0]} failed", tail(result.stdout + result.stderr))
    return result.stdout


def seed(places: Places, record: Record) -> None:
    """Give VirtualBox the settings that the rig needs, and the web service a password of its own."""
    if not places.password.exists():
        files.write(places.password, secrets.token_urlsafe(24) + "\n", 0o600)
    password = places.password.read_text().rstrip("\n")
    digest = hashlib.sha256(password.encode()).hexdigest()
    settings = {**EXTRA_DATA, f"VBoxAuthSimple/users/{files.USER}": digest}
    marker = "\n".join(f"{key}={value}" for key, value in settings.items())
    seeded = places.home / "seeded"
    if seeded.exists() and seeded.read_text() == marker:
        return
    for key, value in settings.items():
        manage(places, record, "setextradata", "global", key, value)
    manage(places, record, "setproperty", "machinefolder", str(places.machines))
    files.write(seeded, marker, 0o600)


def start_web_service(places: Places, record: Record) -> None:
    """Start vboxwebsrv on a free port of the loopback interface, and wait until it answers.

    Raises:
        ProcessDiedError: it ended, or did not answer in time.
    """
    record.port = _free_port(record.port)
    command = ["vboxwebsrv", "-H", "127.0.0.1", "-p", str(record.port), "-A", "VBoxAuthSimple"]
    process = _start(places, record, "vboxwebsrv", command)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(record.port):
        if not process.alive:
            raise _died(places, "vboxwebsrv")
        if time.monotonic() > deadline:
            raise _died(places, "vboxwebsrv", f"did not answer within {START_SECONDS:.0f} s")
        time.sleep(0.05)


def _free_port(wanted: int) -> int:
    """Return `wanted` if it can be had (a rig keeps its port over a restart of its service), else another."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ProcessDiedError("no free port on the loopback interface")


def _answers(port: int) -> bool:
    """Tell whether the web service speaks HTTP on this port."""
    try:
        # A plain GET is refused with an error page: that is an answer, and quicker than the 4 MB of WSDL.
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def power_off_machines(places: Places, record: Record) -> None:
    """Switch every running machine off in VirtualBox's own way, so that none is left as aborted.

    What does not answer is left for the end of its process.
    """
    with suppress(ProcessDiedError):
        running = manage(places, record, "list", "runningvms", seconds=10)
        for machine in re.findall(r"{([0-9a-f-]+)}$", running, re.MULTILINE):
            with suppress(ProcessDiedError):
                manage(places, record, "controlvm", machine, "poweroff", seconds=20)
