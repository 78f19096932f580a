"""Where the processes of a run meet their reaper: a socket that only this user's processes can reach."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
# Where Linux has the handles of a process, by which a folder has a short path too.
_HANDLES: Final = Path("/proc/self/fd")


def listen(folder: Path) -> tuple[socket.socket, Address]:
    """A socket in a folder of this user's; where the system has none, a port, and the reaper's token has to do.

    Args:
        folder: The folder; if its path is too long for a socket, and cannot be shortened as on Linux, a temporary
            one is made for it.
    """
    if hasattr(socket, "AF_UNIX"):
        path = folder / SOCKET
        if _is_too_long(path) and not _HANDLES.is_dir():
            path = Path(tempfile.mkdtemp(prefix=_FOLDER)) / SOCKET
        try:
            path.unlink(missing_ok=True)
            return _listen(path), str(path)
        except BaseException:
            _remove_temporary(path)
            raise
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, list(listener.getsockname()[:2])


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as name:
            listener.bind(name)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _is_too_long(path: Path) -> bool:
    return len(os.fsencode(path)) > _LONGEST_PATH


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path of a socket that is short enough for the operating system."""
    if not _is_too_long(path):
        yield str(path)
        return
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_HANDLES / str(handle) / path.name)
    finally:
        os.close(handle)


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
            with _short(Path(address)) as name:
                connection.connect(name)
        except BaseException:
            connection.close()
            raise
        return connection
    if isinstance(address, list) and len(address) == 2:
        return socket.create_connection((str(address[0]), int(address[1])), timeout=patience)
    raise ValueError(f"no address: {address!r}")


def remove(folder: Path, address: Address | None = None) -> None:
    """Delete what says how a reaper is reached, its socket, and the temporary folder that was made for that.

    Args:
        folder: The folder of the run.
        address: How the reaper was reached, if that may not have been written down.
    """
    if address is None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            address = json.loads((folder / ADDRESS_FILE).read_text(encoding="utf-8"))["address"]
    for name in (ADDRESS_FILE, Path(ADDRESS_FILE).with_suffix(".new"), SOCKET):
        (folder / name).unlink(missing_ok=True)
    if isinstance(address, str):
        _remove_temporary(Path(address))


def _remove_temporary(path: Path) -> None:
    if path.parent.name.startswith(_FOLDER):
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()
