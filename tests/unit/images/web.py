"""A web server on loopback that misbehaves as it is told."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable
from typing import Any, Self


class Web:
    """A server; a context manager.

    Attributes:
        requests: Path and ``Range`` of each request.
    """

    def __init__(self, answer: Callable[[Web, Any], None], tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.stopped = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.requests.append((self.path, self.headers.get("Range", "")))
                self.close_connection = True
                answer(web, self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def send(
    handler: Any,
    body: bytes,
    status: int = 200,
    length: int | None = None,
    stop_at: int | None = None,
    **headers: str,
) -> None:
    """Answer a request.

    Args:
        handler: The request's handler.
        body: What is sent.
        status: HTTP's.
        length: What is said of its length; by default the truth.
        stop_at: How much of it is sent before the connection is cut.
        headers: Others; names have ``_`` for a hyphen.
    """
    handler.send_response(status)
    handler.send_header("Connection", "close")
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body if stop_at is None else body[:stop_at])
    handler.wfile.flush()


def ranged(handler: Any, body: bytes, stop_at: int | None = None, etag: str = '"1"') -> None:
    """Answer a request as servers do that know ranges."""
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range") == etag:
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            send(handler, b"", 416, Content_Range=f"bytes */{len(body)}", ETag=etag)
            return
        rest = body[start:]
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        send(handler, rest, 206, stop_at=stop_at, Content_Range=span, ETag=etag)
        return
    send(handler, body, stop_at=stop_at, ETag=etag)
