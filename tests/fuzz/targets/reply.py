"""What answers at the service's address, whatever it is: a result, or a `VirtualBoxError`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path

import requests

from pytest_vbox.virtualbox.api import Api, Wire
from pytest_vbox.virtualbox.errors import VirtualBoxError

WORDS = [
    *(b"<SOAP-ENV:Fault>", b"<faultcode>", b"<faultstring>", b"<detail>", b"<vbox:RuntimeFault>", b"<resultCode>"),
    *(b"<returnval>", b"</returnval>", b"<vbox:InvalidObjectFault>", b"<badObjectID>", b"xsi:type='xsd:int'"),
    *(b"xsi:nil='true'", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"-2135228415", b"\xff\xfe", b"href='#1'"),
    b"<xop:Include href='cid:1' xmlns:xop='http://www.w3.org/2004/08/xop/include'/>",
]
_ENVELOPE = (
    b'<?xml version="1.0" encoding="UTF-8"?><SOAP-ENV:Envelope '
    b'xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" xmlns:vbox="http://www.virtualbox.org/">'
    b"<SOAP-ENV:Body>%s</SOAP-ENV:Body></SOAP-ENV:Envelope>"
)
_FAULT = (
    b"<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode><faultstring>VirtualBox error: apirc=0x80bb0001 no "
    b"(0x80bb0001)</faultstring><detail>%s</detail></SOAP-ENV:Fault>"
)
_KINDS = (
    "text/xml; charset=utf-8",
    "text/html",
    "multipart/related; boundary=a",
    "application/soap+xml",
    "",
    "text/xml; charset=x",
)


class _Answers(requests.Session):
    """Answers everything with the same."""

    status, kind, content = 200, "", b""

    def post(self, url: str, *_: object, **__: object) -> requests.Response:  # type: ignore[override]
        response = requests.Response()
        response.status_code, response._content, response.url = self.status, self.content, url
        response.headers["Content-Type"] = self.kind
        response.encoding = requests.utils.get_encoding_from_headers(response.headers)
        return response


class _Wire(Wire):
    """A wire without a network."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.answers = _Answers()

    @property
    def session(self) -> requests.Session:
        return self.answers


@cache
def _api() -> tuple[Api, _Answers]:
    wire = _Wire()
    return Api(
        wire, resources.files("pytest_vbox.virtualbox").joinpath("bootstrap.wsdl").read_bytes()
    ), wire.answers


_CALLS: Mapping[str, Mapping[str, object]] = {
    "IVirtualBox_getVersion": {"_this": "a"},
    "IVirtualBox_getRevision": {"_this": "a"},
    "IWebsessionManager_logon": {"username": "a", "password": "b"},
}


def seeds() -> Iterator[bytes]:
    runtime = (
        b"<vbox:RuntimeFault><resultCode>-2135228415</resultCode><returnval>a-1</returnval></vbox:RuntimeFault>"
    )
    invalid = b"<vbox:InvalidObjectFault><badObjectID>a-1</badObjectID></vbox:InvalidObjectFault>"
    for name in _CALLS:
        response = f"<vbox:{name}Response><returnval>7.2.22</returnval></vbox:{name}Response>".encode()
        yield b"\0\0" + _ENVELOPE % response
    for detail in (runtime, invalid, b""):
        yield b"\1\0" + _ENVELOPE % (_FAULT % detail)
    yield b"\0\1<html><body>It works!</body></html>"
    yield b"\0\2--a\r\nContent-Type: text/xml\r\n\r\n" + _ENVELOPE % b"" + b"\r\n--a--\r\n"


def run(data: bytes, folder: Path) -> None:  # noqa: ARG001
    api, answers = _api()
    answers.status = (200, 500, 404, 301, 202, 100)[data[0] % 6] if data else 200
    answers.kind = _KINDS[data[1] % len(_KINDS)] if data[1:] else ""
    answers.content = data[2:]
    for operation, arguments in _CALLS.items():
        with suppress(VirtualBoxError):
            str(api.call(operation, **arguments))
