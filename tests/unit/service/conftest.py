"""A VirtualBox that is two small scripts, for the tests of the private service."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_vbox.service.endpoint import stop

# Starts in 30 ms. What it is told to do stands in files beside it.
VBOXWEBSRV = """
import os, socket, sys, time
from pathlib import Path

here = Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(f"vboxwebsrv {os.getpid()} {' '.join(sys.argv[1:])}\\n")
if (here / "dies").exists():
    print("[main] failed to create the VirtualBox object!", file=sys.stderr)
    print("last words", file=sys.stderr)
    sys.exit(int((here / "dies").read_text()))
if (here / "dying").exists():
    left = int((here / "dying").read_text())
    (here / "dying").write_text(str(left - 1))
    if left:
        sys.exit("NS_ERROR_FACTORY_NOT_REGISTERED")
while (here / "slow").exists():
    time.sleep(0.01)
server = socket.create_server((sys.argv[sys.argv.index("-H") + 1], int(sys.argv[sys.argv.index("-p") + 1])))
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    body = b'<definitions targetNamespace="http://www.virtualbox.org/"/>'
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    connection.close()
"""
VBOXMANAGE = """\
#!/bin/sh
here=${0%/*}
echo "VBoxManage $*" >> "$here/calls"
case "$2" in
    getextradata) if [ -e "$here/no-driver" ]; then echo "No value set!"; else echo "Value: 1"; fi ;;
    setextradata)
        # What takes the user away again hangs.
        if [ -e "$here/hangs" ] && [ $# -eq 4 ]; then exec sleep 5; fi
        if [ -e "$here/read-only" ]; then echo "VBoxManage: error: cannot save" >&2; exit 1; fi ;;
esac
"""


class Programs:
    """The scripts, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "calls").touch()
        (folder / "service.py").write_text(textwrap.dedent(VBOXWEBSRV))
        self._script("VBoxManage", VBOXMANAGE)
        self._script("vboxwebsrv", f'#!/bin/sh\nexec "{sys.executable}" -S -E "{folder}/service.py" "$@"\n')

    def _script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def tell(self, name: str, text: str = "") -> None:
        """Change what they do: ``dies``, ``dying`` (so many times), ``slow``, ``hangs``, ``no-driver``,
        ``read-only``.
        """
        (self.folder / name).write_text(text)

    def calls(self, program: str) -> list[list[str]]:
        """The command lines of one of them, without its name."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.split()[1:] for line in lines if line.split()[0] == program]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """The state folder; a private service in it is ended after the test, and nothing of it may be left."""
    folder = tmp_path / "state"
    folder.mkdir()
    yield folder
    stop(folder)
    left = [(process.pid, process.info["cmdline"]) for process in _processes_about(tmp_path)]
    assert left == []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A VirtualBox on the path, whose private service lives for long without users."""
    found = Programs(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(found.folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTEST_VBOX_SERVICE_IDLE", "60")
    # Where the driver is there, nobody would ask VBoxManage whether it may be missing.
    monkeypatch.setattr("pytest_vbox.service.installation.Installation.check_driver.__defaults__", _no_driver())
    return found


def _no_driver() -> tuple[Any, ...]:
    return (Path("/no/such/device"), "linux")


def _processes_about(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            yield process


def every_command_line() -> str:
    """The command lines of all processes there are."""
    return json.dumps([process.info["cmdline"] for process in psutil.process_iter(["cmdline"])])
