"""The socket under an SSH connection: when something last came, and an end to sending what nobody takes."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Final

#: Seconds for which a guest may take nothing of what is sent, until the connection is given up.
PATIENCE: Final = 60.0


class Wire:
    """A connected socket, as paramiko uses it.

    paramiko tries to send for ever, in whichever thread wanted something, and all others queue behind it: a guest
    that stands still would hang every one of them, whatever limits they have.

    Args:
        sock: The socket.

    Attributes:
        patience: Seconds for which nothing may be taken; then the connection is shut down.
        heard: When something last came, as `time.monotonic` counts.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stuck_since: float | None = None
        self.patience = PATIENCE
        self.heard = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def stuck(self) -> bool:
        """Whether somebody tries to send and the guest does not take it."""
        return self._stuck_since is not None

    def recv(self, size: int) -> bytes:
        """What came, at most so many bytes."""
        data = self._sock.recv(size)
        if data:
            self.heard = time.monotonic()
        return data

    def send(self, data: bytes) -> int:
        """Send as much as is taken; returns how much.

        Raises:
            TimeoutError: Nothing was taken yet.
            ConnectionAbortedError: Nothing was taken for too long.
        """
        try:
            sent = self._sock.send(data)
        except TimeoutError:
            now = time.monotonic()
            if self._stuck_since is None:
                self._stuck_since = now
            if now - self._stuck_since < self.patience:
                raise
            # The thread that reads then ends the connection for everybody.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError(f"the guest took nothing for {self.patience:.0f} s") from None
        self._stuck_since = None
        return sent
