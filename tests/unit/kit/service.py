"""VirtualBox's web service on a loopback port, as much of it as a test gives it to do."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from xml.sax.saxutils import escape

from lxml import etree

from pytest_vbox.virtualbox import Credentials, WebSession
from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.wire import Wire
from unit.kit.descriptions import NAMESPACE, NEWEST, Field, Signature, description

Arguments = dict[str, Any]
Handler = Callable[[Arguments], object]

_ENVELOPE: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" '
    f'xmlns:vbox="{NAMESPACE}"><SOAP-ENV:Body>{{}}</SOAP-ENV:Body></SOAP-ENV:Envelope>'
)


class Refusal(Exception):
    """What a handler raises to be answered with a RuntimeFault.

    Args:
        code: VirtualBox's result code, unsigned.
        texts: The texts of its IVirtualBoxErrorInfo and of those behind it; none for no error info at all.
    """

    def __init__(self, code: int, *texts: str) -> None:
        super().__init__(code, *texts)
        self.code = code
        self.texts = texts


class UnknownObject(Exception):
    """What a handler raises where a reference is not known (any more)."""


class Silence(Exception):
    """What a handler raises to be answered with a fault that says nothing."""


class Garbage(Exception):
    """What a handler raises to be answered with something that is not SOAP."""

    def __init__(self, status: int, body: str, kind: str = "text/html") -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.kind = kind


class HangUp(Exception):
    """What a handler raises to close the connection without an answer."""


class FakeService:
    """A web service that knows objects with attributes, and calls functions for all else.

    Use it as a context manager.

    Args:
        version: Whose description it serves, such as ``7.2``.

    Attributes:
        objects: By reference, the attributes of each object; ``getX`` and ``setX`` work on them.
        handlers: By operation, what answers a call of it; goes before the objects.
        calls: Every call: the operation and its arguments.
        wsdl: What is served as description.
    """

    def __init__(self, version: str = NEWEST) -> None:
        self.version = version
        self._server = _Server(("127.0.0.1", 0), _Request)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._api: Api | None = None
        self._session: WebSession | None = None
        self.objects: dict[str, dict[str, Any]] = {}
        self.handlers: dict[str, Handler] = {}
        self.calls: list[tuple[str, Arguments]] = []
        self.wsdl = description(version).wsdl()
        self.reset()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            self._session.close()
        if self._api is not None:
            self._api.wire.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        return int(self._server.server_address[1])

    @property
    def api(self) -> Api:
        """A connection to it that knows its description; the same for all tests, since that takes a moment."""
        if self._api is None:
            self._api = Api(Wire(self.url), description(self.version).wsdl())
        return self._api

    @property
    def session(self) -> WebSession:
        """A logged-on connection to it that knows its description; the same for all tests."""
        if self._session is None:
            major, minor = self.version.split(".")
            self._session = WebSession(
                self.api, Credentials("me", "hush"), "virtualbox", f"{self.version}.99", (int(major), int(minor))
            )
        return self._session

    def reset(self) -> None:
        """Forget everything but the version: a service that lets everybody in and has no machines."""
        self.objects.clear()
        self.handlers.clear()
        self.calls.clear()
        self.wsdl = description(self.version).wsdl()
        self.add(
            "virtualbox",
            Version=f"{self.version}.99",
            APIVersion=self.version.replace(".", "_"),
            Revision=170000,
            HomeFolder="/home/me/.config/VirtualBox",
            EventSource="events",
        )
        self.answer("IWebsessionManager_logon", "virtualbox")
        self.answer("IWebsessionManager_logoff", None)
        self.answer("IManagedObjectRef_release", None)

    def add(self, reference: str, **attributes: object) -> str:
        """Add an object with these attributes, named as in ``getNAME``. Returns its reference."""
        self.objects[reference] = dict(attributes)
        return reference

    def answer(self, operation: str, *values: object) -> None:
        """Answer an operation with these values, one after the other; the last one for good.

        A value that is an exception is raised.
        """
        waiting = list(values)

        def handler(_: Arguments) -> object:
            value = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(value, Exception):
                raise value
            return value

        self.handlers[operation] = handler

    def called(self, operation: str) -> list[Arguments]:
        """The arguments of every call of an operation."""
        return [arguments for name, arguments in self.calls if name == operation]

    @property
    def names(self) -> list[str]:
        """The operations that were called, in their order."""
        return [name for name, _ in self.calls]

    # For the server's threads

    def dispatch(self, body: bytes) -> tuple[int, str, str]:
        """Answer one request: status, content type, content."""
        request = etree.fromstring(body).find(".//{*}Body")[0]  # type: ignore[index]
        operation = etree.QName(request).localname
        signature = description(self.version).operations[operation]
        arguments = _arguments(request, signature)
        self.calls.append((operation, arguments))
        try:
            result = self._perform(operation, arguments)
        except (Refusal, UnknownObject, Silence) as refusal:
            fault = _ENVELOPE.format(self._fault(refusal))
            return HTTPStatus.INTERNAL_SERVER_ERROR, "text/xml; charset=utf-8", fault
        except Garbage as garbage:
            return garbage.status, garbage.kind, garbage.body
        content = _results(result, signature.results)
        answer = f"<vbox:{operation}Response>{content}</vbox:{operation}Response>"
        return HTTPStatus.OK, "text/xml; charset=utf-8", _ENVELOPE.format(answer)

    def _perform(self, operation: str, arguments: Arguments) -> object:
        handler = self.handlers.get(operation)
        if handler is not None:
            return handler(arguments)
        attributes = self.objects.get(arguments.get("_this", ""))
        if attributes is None:
            raise UnknownObject(arguments.get("_this", ""))
        method = operation.partition("_")[2]
        verb, name = method[:3], method[3:]
        if verb == "set":
            attributes[name] = next(value for key, value in arguments.items() if key != "_this")
            return None
        if verb == "get" and name in attributes:
            return attributes[name]
        raise Refusal(0x80004001, f"{operation} is not in this test")

    def _fault(self, refusal: Exception) -> str:
        words, detail = "", ""
        if isinstance(refusal, UnknownObject):
            words = f'VirtualBox error: Invalid managed object reference "{refusal}"'
            detail = f"<vbox:InvalidObjectFault><badObjectID>{refusal}</badObjectID></vbox:InvalidObjectFault>"
        elif isinstance(refusal, Refusal):
            reference = self.error_info(*refusal.texts)
            text = refusal.texts[0] if refusal.texts else ""
            words = f"VirtualBox error: apirc=0x{refusal.code:08x} {text} (0x{refusal.code:08x})"
            detail = (
                f"<vbox:RuntimeFault><resultCode>{signed(refusal.code)}</resultCode>"
                f"<returnval>{reference}</returnval></vbox:RuntimeFault>"
            )
        return (
            f"<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode><faultstring>{escape(words)}</faultstring>"
            f"<detail>{detail}</detail></SOAP-ENV:Fault>"
        )

    def error_info(self, *texts: str) -> str:
        """Make a chain of IVirtualBoxErrorInfo, and return the reference of the first one."""
        reference = ""
        for text in reversed(texts):
            reference = self.add(f"error-{len(self.objects)}", Text=text, Next=reference)
        return reference


def signed(code: int) -> int:
    """A result code as SOAP sends it."""
    return code - (1 << 32) if code & 0x80000000 else code


class _Server(http.server.ThreadingHTTPServer):
    fake: FakeService
    # Connections that a test leaves open must not hold up its end.
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are nothing to print a traceback for."""


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        if self.path.rstrip("=") == "/?wsdl":
            self._send(HTTPStatus.OK, "text/xml", self.server.fake.wsdl)
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"no such page")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, kind, content = self.server.fake.dispatch(body)
        except HangUp:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._send(status, kind, content.encode())

    def _send(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
        """Tests look at `calls`."""


def _arguments(request: etree._Element, signature: Signature) -> Arguments:
    unknown = {etree.QName(child).localname for child in request} - set(signature.names)
    if unknown:
        raise AssertionError(f"{etree.QName(request).localname} has no {unknown}")
    arguments: Arguments = {}
    for parameter in signature.parameters:
        values = [_value(child.text, parameter) for child in request.iterfind(parameter.name)]
        if parameter.many:
            arguments[parameter.name] = values
        elif values:
            arguments[parameter.name] = values[0]
    return arguments


def _value(text: str | None, parameter: Field) -> object:
    if parameter.kind == "boolean":
        return text == "true"
    if parameter.kind.lower().endswith(("int", "long", "short")):
        return int(text or "")
    return text or ""


def _results(result: object, fields: Sequence[Field]) -> str:
    if not fields:
        return ""
    values = result if isinstance(result, Mapping) and len(fields) > 1 else {fields[0].name: result}
    return "".join(_result(values.get(field.name), field) for field in fields)


def _result(value: object, field: Field) -> str:
    values: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    if field.many and value is None:
        values = []
    return "".join(f"<{field.name}>{_content(entry)}</{field.name}>" for entry in values)


def _content(value: object) -> str:
    if isinstance(value, Mapping):
        return "".join(f"<{key}>{_content(entry)}</{key}>" for key, entry in value.items())
    if isinstance(value, bool):
        return "true" if value else "false"
    # What is not there is an empty string on VirtualBox's wire.
    return "" if value is None else escape(str(value))
