"""A second account on this computer, for tests of what others can see; made for a test and removed after it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil


def other_address() -> str | None:
    """An IPv4 address of this computer that is not loopback, or None."""
    return next(
        (
            address.address
            for addresses in psutil.net_if_addrs().values()
            for address in addresses
            if address.family == socket.AF_INET and not address.address.startswith("127.")
        ),
        None,
    )


ADDRESS: Final = other_address()

#: Tries to log on, and to open every file and folder that is named on its input; says what it could.
AS_ANOTHER_USER: Final = '''
import http.client, os, sys

print("uid", os.getuid())
port = int(sys.argv[1])
known = sys.argv[2]
for user, password in (("", ""), (known, ""), (known, known), ("root", "")):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/", f"""<?xml version="1.0"?>
<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:v="http://www.virtualbox.org/"><e:Body>
<v:IWebsessionManager_logon><username>{user}</username><password>{password}</password></v:IWebsessionManager_logon>
</e:Body></e:Envelope>""", {"Content-Type": "text/xml"})
    reply = connection.getresponse()
    body = reply.read()
    print("logon", "refused" if reply.status == 500 and b"returnval" not in body else body)
for path in sys.stdin.read().splitlines():
    attempts = (os.listdir, lambda path: open(path, "rb"), lambda path: open(path, "ab"), os.unlink)
    for attempt in attempts:
        try:
            attempt(path)
        except OSError:
            continue
        print("could get at", path)
'''

#: Speaks as VirtualBox's web service does, as far as it takes to be found; prints its port.
_FAKE: Final = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'<definitions targetNamespace="http://www.virtualbox.org/"/>'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class SecondUser:
    """The account.

    Attributes:
        name: Its name.
        number: Its number.
        script: A file that it may read, with `AS_ANOTHER_USER`.
    """

    name: str
    number: int
    script: Path

    @contextmanager
    def fake_service(self) -> Iterator[int]:
        """A web service of this user's; gives its port."""
        command = ["runuser", "-u", self.name, "--", "/usr/bin/python3", "-c", _FAKE]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
            try:
                assert process.stdout is not None
                yield int(process.stdout.readline())
            finally:
                # The child too: runuser passes signals on only from its own.
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


def why_not() -> str:
    """Why there can be no second account, or an empty string."""
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        return "only root can make a second account"
    missing = [name for name in ("useradd", "userdel", "runuser") if shutil.which(name) is None]
    if missing or not Path("/usr/bin/python3").exists():
        return f"there is no {', '.join(missing) or '/usr/bin/python3'}"
    return ""


@contextmanager
def second_account(folder: Path) -> Iterator[SecondUser]:
    """Make an account, and remove it.

    Raises:
        RuntimeError: It cannot be made here.
    """
    import pwd

    name = f"vboxother{os.getpid()}"
    done = subprocess.run(
        ["useradd", "--no-create-home", name], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    try:
        script = folder / "another_user.py"
        script.write_text(AS_ANOTHER_USER)
        script.chmod(0o755)
        yield SecondUser(name, pwd.getpwnam(name).pw_uid, script)
    finally:
        subprocess.run(["userdel", name], capture_output=True, timeout=60, check=False)
