"""VirtualBox's descriptions of itself, by version, made from what `signatures.json` says about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Self

NAMESPACE: Final = "http://www.virtualbox.org/"
_BASIC: Final = frozenset({"string", "boolean", "int", "unsignedInt", "long", "short", "unsignedShort"})
# What the signatures name without saying what is in it: as much as is read of it.
_STRUCTS: Final[Mapping[str, str]] = {
    "IMediumAttachment": "machine: string, medium: string, controller: string, port: int, device: int, "
    "type: DeviceType",
    "IGuestOSType": "familyId: string, id: string",
    "ISharedFolder": "name: string",
}


@dataclass(frozen=True)
class Field:
    """One parameter or result."""

    name: str
    kind: str
    many: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        name, _, kind = text.partition(": ")
        return cls(name, kind.removesuffix("[]"), kind.endswith("[]"))


@dataclass(frozen=True)
class Signature:
    """What an operation takes and gives."""

    parameters: tuple[Field, ...]
    results: tuple[Field, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        takes, _, gives = text.partition("->")
        return cls(_fields(takes), _fields(gives))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(field.name for field in self.parameters)


def _fields(text: str) -> tuple[Field, ...]:
    return tuple(Field.parse(part.strip()) for part in text.split(",") if part.strip())


@cache
def _document() -> dict[str, Any]:
    text = resources.files("pytest_vbox.virtualbox").joinpath("signatures.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


VERSIONS: Final[tuple[str, ...]] = tuple(_document()["versions"])
NEWEST: Final = VERSIONS[-1]


class Description:
    """The operations and enumerations of one version of VirtualBox, as far as pytest-vbox has to do with them."""

    def __init__(self, version: str) -> None:
        self.version = version
        signatures = {name: _at(version, by_version) for name, by_version in _document()["operations"].items()}
        self.operations = {name: Signature.parse(text) for name, text in signatures.items() if text is not None}
        enumerations = {name: _at(version, by_version) for name, by_version in _document()["enumerations"].items()}
        self.enumerations: dict[str, list[str]] = {
            name: list(values) for name, values in enumerations.items() if values is not None
        }

    def parameters(self, operation: str) -> tuple[str, ...] | None:
        """As `Api.parameters`: the parameters of an operation, or None if this version does not have it."""
        signature = self.operations.get(operation)
        return signature.names if signature is not None else None

    @cache  # noqa: B019 - there are as many as versions
    def wsdl(self, extra: str = "") -> bytes:
        """The description as the service serves it.

        Args:
            extra: XML that goes among the types.
        """
        types = [*map(self._enumeration, self.enumerations), *map(_struct, _STRUCTS)]
        elements = [
            part
            for name, signature in self.operations.items()
            for part in (_element(name, signature.parameters), _element(f"{name}Response", signature.results))
        ]
        return _DOCUMENT.format(
            types="".join([*types, *elements, extra]),
            messages="".join(map(_messages, self.operations)),
            port="".join(map(_port_operation, self.operations)),
            binding="".join(map(_binding_operation, self.operations)),
        ).encode()

    def _enumeration(self, name: str) -> str:
        values = "".join(f'<xsd:enumeration value="{value}"/>' for value in self.enumerations[name])
        base = f'<xsd:restriction base="xsd:string">{values}</xsd:restriction>'
        return f'<xsd:simpleType name="{name}">{base}</xsd:simpleType>'


@cache
def description(version: str = NEWEST) -> Description:
    """The description of a version."""
    return Description(version)


def _at(version: str, by_version: Mapping[str, Any]) -> Any:
    """Only changes are written down: the last one up to a version counts."""
    value = None
    for known in VERSIONS[: VERSIONS.index(version) + 1]:
        if known in by_version:
            value = by_version[known]
    return value


def _sequence(fields: Iterable[Field]) -> str:
    parts = []
    for field in fields:
        prefix = "xsd" if field.kind in _BASIC else "vbox"
        many = ' minOccurs="0" maxOccurs="unbounded"' if field.many else ""
        parts.append(f'<xsd:element name="{field.name}" type="{prefix}:{field.kind}"{many}/>')
    return f"<xsd:sequence>{''.join(parts)}</xsd:sequence>"


def _struct(name: str) -> str:
    return f'<xsd:complexType name="{name}">{_sequence(_fields(_STRUCTS[name]))}</xsd:complexType>'


def _element(name: str, fields: Iterable[Field]) -> str:
    return f'<xsd:element name="{name}"><xsd:complexType>{_sequence(fields)}</xsd:complexType></xsd:element>'


def _messages(name: str) -> str:
    return "".join(
        f'<wsdl:message name="{name}{kind}Msg"><wsdl:part name="parameters" element="vbox:{name}{element}"/>'
        "</wsdl:message>"
        for kind, element in (("Request", ""), ("Result", "Response"))
    )


def _port_operation(name: str) -> str:
    return (
        f'<wsdl:operation name="{name}"><wsdl:input message="vbox:{name}RequestMsg"/>'
        f'<wsdl:output message="vbox:{name}ResultMsg"/>'
        '<wsdl:fault name="InvalidObjectFault" message="vbox:InvalidObjectFaultMsg"/>'
        '<wsdl:fault name="RuntimeFault" message="vbox:RuntimeFaultMsg"/></wsdl:operation>'
    )


def _binding_operation(name: str) -> str:
    body = '<soap:body use="literal"/>'
    faults = "".join(
        f'<wsdl:fault name="{kind}"><soap:fault name="{kind}" use="literal"/></wsdl:fault>'
        for kind in ("InvalidObjectFault", "RuntimeFault")
    )
    return (
        f'<wsdl:operation name="{name}"><soap:operation soapAction="" style="document"/>'
        f"<wsdl:input>{body}</wsdl:input><wsdl:output>{body}</wsdl:output>{faults}</wsdl:operation>"
    )


_DOCUMENT: Final = re.sub(
    r"\n\s*",
    " ",
    """<?xml version="1.0" encoding="UTF-8"?>
    <wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"
     xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:vbox="http://www.virtualbox.org/"
     name="VirtualBox" targetNamespace="http://www.virtualbox.org/">
    <!-- as the service serves it -->
    <wsdl:types><xsd:schema targetNamespace="http://www.virtualbox.org/">
    <xsd:element name="InvalidObjectFault"><xsd:complexType><xsd:sequence>
    <xsd:element name="badObjectID" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
    <xsd:element name="RuntimeFault"><xsd:complexType><xsd:sequence>
    <xsd:element name="resultCode" type="xsd:int"/>
    <xsd:element name="returnval" type="xsd:string"/></xsd:sequence></xsd:complexType></xsd:element>
    {types}</xsd:schema></wsdl:types>
    <wsdl:message name="InvalidObjectFaultMsg"><wsdl:part name="fault" element="vbox:InvalidObjectFault"/>
    </wsdl:message>
    <wsdl:message name="RuntimeFaultMsg"><wsdl:part name="fault" element="vbox:RuntimeFault"/></wsdl:message>
    {messages}<wsdl:portType name="vboxPortType">{port}</wsdl:portType>
    <wsdl:binding name="vboxBinding" type="vbox:vboxPortType">
    <soap:binding style="document" transport="http://schemas.xmlsoap.org/soap/http"/>
    {binding}</wsdl:binding></wsdl:definitions>""",
)
