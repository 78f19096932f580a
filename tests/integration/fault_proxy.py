"""A proxy between the plugin and the real web service, at which any call can go wrong in any way.

    with FaultProxy(url) as proxy:
        proxy.on("IVirtualBox_registerMachine", drop_after)          # the first such call
        proxy.on("IMachine_lockMachine", virtualbox_error(0x80bb0007), nth=2)
        host = connect_host(Settings(url=proxy.url, …))

What goes through is written down in ``calls``, so that a test can take the steps of a machine's life from it.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

_OPERATION: Final = re.compile(rb"Body>\s*<(?:\w+:)?(\w+)")
_FAULT: Final = (
    '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:vbox="http://www.virtualbox.org/"><SOAP-ENV:Body><SOAP-ENV:Fault>'
    "<faultcode>SOAP-ENV:Client</faultcode>"
    "<faultstring>VirtualBox error: apirc=0x{code:x} injected by a test (0x{code:x})</faultstring>"
    "<detail><vbox:RuntimeFault><resultCode>{signed}</resultCode><returnval></returnval></vbox:RuntimeFault></detail>"
    "</SOAP-ENV:Fault></SOAP-ENV:Body></SOAP-ENV:Envelope>"
)


@dataclass
class Reply:
    """What the service answered, or what is said in its place."""

    status: int
    body: bytes
    kind: str = "text/xml; charset=utf-8"


class Dropped(Exception):
    """The connection is closed without an answer; or with the first part of one."""

    def __init__(self, part: bytes = b"") -> None:
        self.part = part


Action = Callable[[Callable[[], Reply]], Reply]
"""What becomes of a call: it is given what has the server act and gives its reply, and gives the client's."""


def drop_before(_: Callable[[], Reply]) -> Reply:
    """The server never hears of it."""
    raise Dropped


def drop_after(forward: Callable[[], Reply]) -> Reply:
    """The server acts, and its reply is lost."""
    forward()
    raise Dropped


def cut(forward: Callable[[], Reply]) -> Reply:
    """The server acts, and half of its reply arrives."""
    raise Dropped(forward().body[:40])


def http_error(status: int) -> Action:
    """Something between us and the server answers."""
    return lambda _: Reply(status, b"<html><body>no luck</body></html>", "text/html")


def virtualbox_error(code: int) -> Action:
    """VirtualBox refuses with a result code, and does nothing."""
    signed = code - 0x1_0000_0000 if code & 0x8000_0000 else code
    return lambda _: Reply(500, _FAULT.format(code=code, signed=signed).encode())


def delay(seconds: float) -> Action:
    """The answer takes its time."""

    def wait(forward: Callable[[], Reply]) -> Reply:
        threading.Event().wait(seconds)
        return forward()

    return wait


def before(do: Callable[[], object]) -> Action:
    """Something happens when the call arrives; then the server gets it."""

    def act(forward: Callable[[], Reply]) -> Reply:
        do()
        return forward()

    return act


def instead(do: Callable[[], object]) -> Action:
    """Something happens when the call arrives, and the server never hears of it."""

    def act(_: Callable[[], Reply]) -> Reply:
        do()
        raise Dropped

    return act


def after(do: Callable[[], object]) -> Action:
    """Something happens when the server has acted, and before its reply goes back."""

    def act(forward: Callable[[], Reply]) -> Reply:
        reply = forward()
        do()
        return reply

    return act


#: What may become of one call, by its name.
FAULTS: Final[dict[str, Action]] = {
    "refused": virtualbox_error(0x80004005),
    "not-found": virtualbox_error(0x80BB0001),
    "http-500": http_error(500),
    "slow": delay(1),
    "never-arrived": drop_before,
    "reply-lost": drop_after,
    "reply-cut": cut,
}


@dataclass
class _Rule:
    operation: str
    nth: int | None
    action: Action
    seen: int = 0


@dataclass
class _State:
    host: str
    port: int
    rules: list[_Rule] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def action_for(self, operation: str) -> Action | None:
        with self.lock:
            self.calls.append(operation)
            for rule in self.rules:
                if rule.operation == operation:
                    rule.seen += 1
                    if rule.nth is None or rule.seen == rule.nth:
                        self.hits[operation] += 1
                        return rule.action
        return None


class FaultProxy:
    """The proxy, listening on loopback for the length of the block.

    Args:
        url: The real service.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._state = _State(parts.hostname, parts.port or 80)
        self._server = _Server(("127.0.0.1", 0), _handler(self._state))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault-proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What to connect to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def calls(self) -> list[str]:
        """The operations that were called, in their order."""
        with self._state.lock:
            return list(self._state.calls)

    @property
    def hits(self) -> int:
        """How often a rule applied."""
        with self._state.lock:
            return self._state.hits.total()

    def on(self, operation: str, action: Action, *, nth: int | None = 1) -> None:
        """Have something become of a call.

        Args:
            operation: Its name, such as ``IMachine_lockMachine``.
            action: What becomes of it.
            nth: Of which call of that operation from now on, counted from 1; None for all of them.
        """
        with self._state.lock:
            self._state.rules.append(_Rule(operation, nth, action))

    def reset(self) -> None:
        """Drop all rules, and what was written down."""
        with self._state.lock:
            self._state.rules.clear()
            self._state.calls.clear()
            self._state.hits.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what some tests are about."""


def _handler(state: _State) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Without these, each answer takes 40 ms: its body waits for the acknowledgement of its head.
        disable_nagle_algorithm = True
        wbufsize = -1

        def setup(self) -> None:
            super().setup()
            self.service = http.client.HTTPConnection(state.host, state.port, timeout=300)

        def finish(self) -> None:
            self.service.close()
            super().finish()

        def do_GET(self) -> None:
            self._answer(self._forward("GET", b""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = _OPERATION.search(body)
            action = state.action_for(found[1].decode() if found else "")
            try:
                reply = action(lambda: self._forward("POST", body)) if action else self._forward("POST", body)
            except Dropped as dropped:
                self._answer_with_a_part(dropped.part)
                return
            self._answer(reply)

        def _forward(self, method: str, body: bytes) -> Reply:
            kept = ("Content-Type", "SOAPAction")
            headers = {name: self.headers[name] for name in kept if name in self.headers}
            # VirtualBox's service closes a connection after some requests, so each has its own.
            self.service.close()
            self.service.request(method, self.path, body or None, headers)
            answer = self.service.getresponse()
            return Reply(answer.status, answer.read(), answer.getheader("Content-Type", "text/xml"))

        def _answer(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def _answer_with_a_part(self, part: bytes) -> None:
            self.close_connection = True
            if part:
                self.send_response(200)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(part) + 1000))
                self.end_headers()
                self.wfile.write(part)
            self.wfile.flush()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as it is called
            """Nobody reads it."""

    return Handler
