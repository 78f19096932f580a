"""Where the processes of a run meet their reaper: a socket that only this user's processes can reach."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

Address = str | list[object]
"""The path of a socket; where there are none, a host and a port."""

#: In the folder of a run: how its reaper is reached.
ADDRESS_FILE: Final = "reaper.json"
SOCKET: Final = "reaper.sock"
# What the operating system allows for the path of a socket, at the least.
_LONGEST_PATH: Final = 100
_FOLDER: Final = "pytest-vbox-reaper-"


def listen(folder: Path) -> tuple[socket.socket, Address]:
    """A socket in a folder of this user's; where the system has none, a port, and the reaper's token has to do.

    Args:
        folder: The folder; if its path is too long for a socket, a temporary one is made for it.
    """
    if hasattr(socket, "AF_UNIX"):
        path = folder / SOCKET
        if len(os.fsencode(path)) > _LONGEST_PATH:
            path = Path(tempfile.mkdtemp(prefix=_FOLDER)) / SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        return listener, str(path)
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, list(listener.getsockname()[:2])


def connect(address: object, patience: float) -> socket.socket:
    """A connection.

    Args:
        address: An `Address`, as it was read from a file.
        patience: Seconds for a connection by port.

    Raises:
        ValueError: It is none.
        OSError: Nobody listens there.
    """
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection
    if isinstance(address, list) and len(address) == 2:
        return socket.create_connection((str(address[0]), int(address[1])), timeout=patience)
    raise ValueError(f"no address: {address!r}")


def remove(folder: Path) -> None:
    """Delete what says how a reaper is reached, its socket, and the temporary folder that was made for that.

    Args:
        folder: The folder of the run.
    """
    try:
        address = json.loads((folder / ADDRESS_FILE).read_text(encoding="utf-8"))["address"]
    except (OSError, ValueError, KeyError, TypeError):
        address = None
    for name in (ADDRESS_FILE, Path(ADDRESS_FILE).with_suffix(".new"), SOCKET):
        (folder / name).unlink(missing_ok=True)
    if isinstance(address, str):
        elsewhere = Path(address).parent
        if elsewhere.name.startswith(_FOLDER):
            with suppress(OSError):
                (elsewhere / SOCKET).unlink(missing_ok=True)
                elsewhere.rmdir()
