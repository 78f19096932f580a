"""Descriptions of the service: distilled or refused, cached or dropped, and usable or refused by zeep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

from pytest_vbox.virtualbox.api import Api, Wire
from pytest_vbox.virtualbox.errors import VirtualBoxError
from pytest_vbox.virtualbox.wsdl import VBOX, WsdlCache, WsdlError, distil, wanted_operations

WORDS = [
    *(b"<xsd:element ", b"<xsd:complexType ", b"<xsd:sequence>", b"<xsd:extension ", b"<xsd:simpleType "),
    *(b"<xsd:include schemaLocation='/etc/passwd'/>", b"<xsd:import namespace='a' schemaLocation='b'/>"),
    *(b"<wsdl:import namespace='a' location='file:///etc/passwd'/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;"),
    *(b"<!ENTITY b SYSTEM 'file:///etc/passwd'>", b'type="vbox:', b'base="vbox:', b'name="', b'type="xsd:int"'),
    *(b"IVirtualBox_getVersion", b"IWebsessionManager_logon", b"RequestMsg", b"Response", b"<!--", b"-->"),
]


def seeds() -> Iterator[bytes]:
    whole = resources.files("pytest_vbox.virtualbox").joinpath("bootstrap.wsdl").read_bytes()
    yield whole
    yield distil(whole, ["IVirtualBox_getVersion"])
    yield b'<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" targetNamespace="%s"/>' % VBOX.encode()


def run(data: bytes, folder: Path) -> None:
    cache = WsdlCache(folder)
    # What was stored has its digest, what was damaged has not.
    cache.path("1").write_bytes(data)
    assert cache.load("1") is None or hashlib.sha256(data.partition(b"\n")[2]).hexdigest().encode() in data
    cache.store("2", data)
    assert cache.load("2") == data
    with suppress(WsdlError):
        _use(distil(data, wanted_operations()))
    with suppress(VirtualBoxError):  # from the cache it comes as it is
        Api(Wire("http://127.0.0.1:1"), data)


def _use(small: bytes) -> None:
    assert distil(small, wanted_operations()), "what was distilled can be distilled"
    wire = Wire("http://127.0.0.1:1")
    with suppress(VirtualBoxError):
        api = Api(wire, small)
        for operation in wanted_operations():
            names = api.parameters(operation)
            assert names is None or all(isinstance(name, str) for name in names)
