"""HTTP whose answers come to an end: in time, without more being read than was asked for; from who was looked at.

A timeout of ``requests`` is one of silence: whoever sends a byte of a header now and then, or ``100 Continue``
again and again, is waited for for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pytest_vbox.deadline import Deadline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: Looks at who is at the other end of a connection.
Look = Callable[[tuple[str, int], tuple[str, int]], None]


class Patience:
    """How long an answer is waited for: as a whole, unless whoever reads it sees that it gets on.

    Args:
        seconds: After which it has to be there, or to have got on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = Deadline(seconds)

    def renew(self) -> None:
        """The answer has got on, or another one is asked for: the seconds begin again."""
        self._deadline = Deadline(self._seconds)

    def check(self) -> None:
        """See whether there is still time.

        Raises:
            TimeoutError: There is none.
        """
        if self._deadline.expired:
            raise TimeoutError(f"timed out: the answer was not done after {self._deadline.elapsed:.0f} s")


class _Timed(io.RawIOBase):
    """What comes from a socket, until patience is at its end."""

    def __init__(self, raw: io.RawIOBase, patience: Patience) -> None:
        self._raw = raw
        self._patience = patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._patience.check()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Session(requests.Session):
    """A session that follows nothing.

    ``requests`` looks where a redirect leads even if it is not to be followed, and for that reads its body, of
    whatever size, into memory.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - as it is called there
        return None


def session(patience: Callable[[], Patience], look: Look = lambda _, __: None) -> requests.Session:
    """A session of ``requests`` whose answers are bounded in time, and that follows no redirect.

    Through a SOCKS proxy the time is not bounded.

    Args:
        patience: Gives that of an answer, at its first byte.
        look: Is told of each new connection without https, before anything is sent: address and port of the other
            end, and of this one. What it raises ends the connection, and goes to whoever made the request.
    """
    made = _Session()
    # What is compressed could become any number of bytes.
    made.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        made.mount(scheme, _adapter(patience, look))
    return made


def _adapter(patience: Callable[[], Patience], look: Look) -> requests.adapters.HTTPAdapter:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp.close()
            self.fp = io.BufferedReader(_Timed(sock.makefile("rb", buffering=0), patience()))

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

    pools = {"http": PlainPool, "https": EncryptedPool}

    class Adapter(requests.adapters.HTTPAdapter):
        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*arguments, **options)
            # One for SOCKS has pools of its own, without which it would be no proxy.
            if type(manager) is urllib3.ProxyManager:
                manager.pool_classes_by_scheme = pools
            return manager

    made = Adapter()
    made.poolmanager.pool_classes_by_scheme = pools
    return made
