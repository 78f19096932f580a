"""HTTP to a web service that means harm, or is broken: it is bounded, and led nowhere."""

from __future__ import annotations

import http.server
import pickle
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from pytest_vbox.virtualbox import Credentials, connect, wire
from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.errors import ServiceUnavailable, VirtualBoxError
from pytest_vbox.virtualbox.wire import Wire
from unit.kit.descriptions import description
from unit.kit.service import FakeService, Garbage

WHO = Credentials("me", "hush-hush")
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class _Server:
    """Answers each request as the test wants it, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.answer: Answer = lambda _: None
        #: Set once the test is over, so that no answer goes on for longer.
        self.over = threading.Event()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.asked.append((self.command, self.path, body))
                try:
                    server.answer(self)
                except OSError:  # whoever asked has had enough
                    self.close_connection = True

            do_POST = do_GET  # noqa: N815 - as it is called there

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @contextmanager
    def running(self) -> Iterator[_Server]:
        self._thread.start()
        try:
            yield self
        finally:
            self.over.set()
            self._server.shutdown()
            self._server.server_close()


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server().running() as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[_Server]:
    with _Server().running() as server:
        yield server


def _redirect(to: str, status: int = 307) -> Answer:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Location", to)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_with_the_password(server: _Server, elsewhere: _Server, status: int) -> None:
    server.answer = _redirect(f"{elsewhere.url}/", status)
    with pytest.raises(ServiceUnavailable, match=f"sends us on to {elsewhere.url}/, which is not followed"):
        connect(server.url, WHO)
    assert [method for method, _, _ in server.asked] == ["POST"]
    assert elsewhere.asked == []


def test_the_description_is_not_fetched_from_elsewhere_either(server: _Server, elsewhere: _Server) -> None:
    server.answer = _redirect(f"{elsewhere.url}/?wsdl")
    with pytest.raises(ServiceUnavailable, match="give its address with --vbox-url"):
        Wire(server.url).get_wsdl()
    assert elsewhere.asked == []


def test_where_it_leads_is_shown_without_what_a_terminal_obeys(server: _Server) -> None:
    server.answer = _redirect("http://x/\x1b]0;owned\x07" + "\u202e".encode().decode("latin-1") + "y" * 500)
    with pytest.raises(ServiceUnavailable) as caught:
        connect(server.url, WHO)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def _endless(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "text/xml")
    request.send_header("Content-Length", str(10 * 1024**3))
    request.end_headers()
    while True:
        request.wfile.write(b"<x/>" * 64 * 1024)


def test_a_description_of_10_gb_is_not_read(server: _Server) -> None:
    server.answer = _endless
    with pytest.raises(ServiceUnavailable, match="more than 16 MiB at once: not VirtualBox's web service"):
        Wire(server.url).get_wsdl()


@pytest.mark.timeout(20)
def test_the_body_of_a_redirect_is_not_read(server: _Server) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(307)
        request.send_header("Location", "/elsewhere")
        request.end_headers()
        while not server.over.is_set():
            request.wfile.write(b"<x/>" * 64 * 1024)

    server.answer = answer
    with pytest.raises(ServiceUnavailable, match="sends us on to /elsewhere, which is not followed"):
        connect(server.url, WHO)


def test_an_answer_of_10_gb_is_not_read(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_ANSWER", 2 * 1024**2)
    server.answer = _endless
    with pytest.raises(ServiceUnavailable, match="more than 2 MiB at once"):
        connect(server.url, WHO)


def test_what_is_compressed_is_not_unpacked(server: _Server) -> None:
    import gzip

    packed = gzip.compress(b"\0" * 50 * 1024**2)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        assert request.headers["Accept-Encoding"] == "identity"
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Content-Length", str(len(packed)))
        request.end_headers()
        request.wfile.write(packed)

    server.answer = answer
    assert len(Wire(server.url).get_wsdl()) == len(packed)


_TRICKLES = {
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "status": (b"HTTP/1.1 200 ", b"O"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk-size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
}


@pytest.mark.slow
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", _TRICKLES)
def test_an_answer_that_trickles_has_an_end(server: _Server, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(wire, "ANSWER_TIMEOUT", 0.2)
    start, more = _TRICKLES[kind]

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.wfile.write(start)
        while not server.over.wait(0.01):
            request.wfile.write(more)

    server.answer = answer
    with pytest.raises(ServiceUnavailable, match="no answer in time"):
        connect(server.url, WHO)


@pytest.mark.slow
@pytest.mark.timeout(20)
def test_an_answer_that_does_not_come_has_an_end(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CALL_TIMEOUT", 0.2)

    def answer(_: http.server.BaseHTTPRequestHandler) -> None:
        server.over.wait(10)

    server.answer = answer
    with pytest.raises(ServiceUnavailable, match="no answer in time"):
        connect(server.url, WHO)


@pytest.mark.slow
@pytest.mark.timeout(20)
def test_an_answer_that_stops_in_the_middle_has_an_end(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "CALL_TIMEOUT", 0.2)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"<?xml")
        request.wfile.flush()
        server.over.wait(10)

    server.answer = answer
    with pytest.raises(ServiceUnavailable, match="no answer in time"):
        connect(server.url, WHO)


BILLION: str = (
    '<!DOCTYPE x [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + "]>"
)
FILE = '<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
DEEP = "<x>" * 100_000 + "</x>" * 100_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [f"{BILLION}<x>&a9;</x>", f'{BILLION}<x y="&a9;"/>', f"{FILE}<x>&x;</x>", DEEP, "<!DOCTYPE x><x/>"],
    ids=["billion-laughs", "in-an-attribute", "a-file", "deep", "a-document-type"],
)
def test_xml_that_is_a_bomb_is_no_answer(service: FakeService, body: str) -> None:
    service.answer("IWebsessionManager_logon", Garbage(200, body, "text/xml"))
    with pytest.raises(ServiceUnavailable, match="not VirtualBox's web service") as caught:
        connect(service.url, WHO)
    assert len(str(caught.value)) < 1000
    assert "root:" not in str(caught.value)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "body",
    [f"{BILLION}<x>&a9;</x>", f'{BILLION}<x y="&a9;"/>', f"{FILE}<x>&x;</x>", DEEP],
    ids=["billion-laughs", "in-an-attribute", "a-file", "deep"],
)
def test_a_description_that_is_a_bomb_is_refused(service: FakeService, body: str) -> None:
    service.wsdl = body.encode()
    with pytest.raises(ServiceUnavailable, match="serves is"):
        connect(service.url, WHO)


def test_an_answer_in_several_parts_is_none(service: FakeService) -> None:
    service.answer("IWebsessionManager_logon", Garbage(200, "--a--", "multipart/related; boundary=a"))
    with pytest.raises(ServiceUnavailable, match="not VirtualBox's web service"):
        connect(service.url, WHO)


def test_a_description_includes_no_file_and_no_address(
    service: FakeService, elsewhere: _Server, tmp_path: Path
) -> None:
    trap = tmp_path / "trap.xsd"
    # Nothing is wrong with it, so that whoever reads it notices nothing.
    trap.write_text(
        '<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema" targetNamespace="http://www.virtualbox.org/"/>'
    )
    for location in (str(trap), trap.as_uri(), f"{elsewhere.url}/more.xsd"):
        include = f'<xsd:include schemaLocation="{location}"/>'.encode()
        wsdl = description().wsdl()
        at = wsdl.index(b">", wsdl.index(b"<xsd:schema")) + 1
        with pytest.raises(ServiceUnavailable, match="cannot be used"):
            Api(Wire(service.url), wsdl[:at] + include + wsdl[at:])
    assert elsewhere.asked == []


def test_a_description_does_not_say_where_calls_go(service: FakeService, elsewhere: _Server) -> None:
    wsdl = service.wsdl.replace(b"http://localhost:18083", elsewhere.url.encode())
    api = Api(Wire(service.url), wsdl)
    assert api.call("IVirtualBox_getVersion", _this="virtualbox") == "7.2.99"
    assert elsewhere.asked == []


# What a failed logon shows


def _failing(service: FakeService, kind: str) -> str:
    if kind == "refused":
        service.answer("IWebsessionManager_logon", Garbage(500, "", "text/xml"))
    elif kind == "not there":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{probe.getsockname()[1]}"
    return service.url


@pytest.mark.parametrize("kind", ["refused", "not there", "interrupted"])
def test_a_logon_that_fails_has_the_password_in_no_variable_of_its_traceback_and_not_in_the_error(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "interrupted":

        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(requests.Session, "send", interrupt)
    with pytest.raises((VirtualBoxError, KeyboardInterrupt)) as caught:
        connect(_failing(service, kind), WHO)
    shown = []
    error: BaseException | None = caught.value
    while error is not None:
        shown += [
            repr(value) for frame, _ in traceback.walk_tb(error.__traceback__) for value in frame.f_locals.values()
        ]
        shown += [repr(error), str(error), repr(getattr(error, "__dict__", ""))]
        error = error.__cause__ or error.__context__
    # This test has it, as a name of this module.
    assert WHO.password not in "\n".join(shown)
    if isinstance(caught.value, Exception):
        assert WHO.password.encode() not in pickle.dumps(caught.value)
        assert caught.value.__cause__ is not None, "the original error is lost"


def test_the_connection_of_a_thread_that_ended_is_closed_when_another_asks(server: _Server) -> None:
    wire_of_all, sessions = Wire(server.url), []
    for _ in range(3):
        thread = threading.Thread(target=lambda: sessions.append(wire_of_all.session))
        thread.start()
        thread.join()
    assert wire_of_all.session not in sessions
    assert len(wire_of_all._sessions) == 1
