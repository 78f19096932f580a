"""HTTP whose answers have to be there as a whole after some time, from somebody who was looked at.

A timeout of ``requests`` is one of silence: whoever sends a byte of a header now and then, or ``100 Continue``
again and again, is waited for for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pytest_vbox.deadline import Deadline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Looks at who is at the other end of a connection.
Look = Callable[[tuple[str, int], tuple[str, int]], None]


class _Timed(io.RawIOBase):
    """What comes from a socket, until the deadline."""

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        self._raw = raw
        self._deadline = Deadline(seconds)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self._deadline.expired:
            raise TimeoutError(f"timed out: the answer was not done after {self._deadline.elapsed:.0f} s")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def adapter(seconds: float, look: Look = lambda _, __: None) -> requests.adapters.HTTPAdapter:
    """A transport for a ``requests`` session.

    Args:
        seconds: After which an answer, headers and all, has to be there.
        look: Is told of each new connection without https, before anything is sent: address and port of the other
            end, and of this one. What it raises ends the connection, and goes to whoever made the request.
    """

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp.close()
            self.fp = io.BufferedReader(_Timed(sock.makefile("rb", buffering=0), seconds))

    class Plain(HTTPConnection):
        response_class = Response

        def connect(self) -> None:
            super().connect()
            # Now, since who had looked before could have seen somebody else.
            sock = cast("socket.socket", self.sock)
            look(sock.getpeername()[:2], sock.getsockname()[:2])

    class Encrypted(HTTPSConnection):
        response_class = Response

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    made = requests.adapters.HTTPAdapter()
    made.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return made
