"""Network adapters and the port forwards of their NAT."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from pytest_vbox.models.fields import Ipv4OrEmpty, Model, Name, OptionalPort, Port, Term
from pytest_vbox.models.problems import shown

T = TypeVar("T")

RESERVED_RULE = "ssh"
"""The name of the forward by which pytest-vbox itself reaches the guest."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:.-]?)[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")


class Attachment(Term):
    """What an adapter is attached to."""

    NAT = "nat"
    NULL = "null"


class AdapterType(Term):
    """The card that the guest sees, in VirtualBox's spelling."""

    AM79C970A = "Am79C970A"
    AM79C973 = "Am79C973"
    I82540EM = "I82540EM"
    I82543GC = "I82543GC"
    I82545EM = "I82545EM"
    VIRTIO = "Virtio"


class Protocol(Term):
    """What a NAT rule forwards."""

    TCP = "tcp"
    UDP = "udp"


def _virtualbox_mac(value: object) -> object:
    """A MAC address as VirtualBox writes it: twelve upper-case hexadecimal digits."""
    if value is None:
        return None
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise ValueError(f"must be 12 hexadecimal digits, such as 08:00:27:12:34:56, not {shown(value)}")
    address = re.sub(r"[:.-]", "", value).upper()
    # VirtualBox refuses it too, but only with "Invalid MAC address format".
    if int(address[:2], 16) & 1:
        raise ValueError(f"must not be a multicast address (the second digit is odd): {shown(value)}")
    return address


def _none_is_null(value: object) -> object:
    # The term is VirtualBox's "Null"; in YAML the bare word is null. Taking it for the default would connect an
    # adapter that is meant to be connected to nothing.
    return Attachment.NULL if value is None else value


def _most_common(items: Iterable[T]) -> tuple[T | None, int]:
    counted = Counter(items).most_common(1)
    return counted[0] if counted else (None, 0)


def _default_rule_name(data: dict[str, Any]) -> str:
    return f"{data.get('protocol')}-{data.get('guest_port')}"


class NatRule(Model):
    """A port of the host that is forwarded to a port of the guest."""

    protocol: Protocol = Field(default=Protocol.TCP, description="What is forwarded.")
    host_ip: Ipv4OrEmpty = Field(
        default="127.0.0.1", description="The host's address that listens; empty for all of its addresses."
    )
    host_port: OptionalPort = Field(default=0, description="The host's port; 0: pytest-vbox picks a free one.")
    guest_ip: Ipv4OrEmpty = Field(
        default="", description="The guest's address; empty for the one that DHCP gave it."
    )
    guest_port: Port = Field(description="The guest's port.")
    name: Name = Field(
        default_factory=_default_rule_name,
        description="The rule's name, no other rule of the adapter has it; `ssh` is reserved for pytest-vbox.",
        json_schema_extra={"x-default": "such as `tcp-8080`, from protocol and guest port"},
    )

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name.lower() == RESERVED_RULE:
            raise ValueError(f"the name {shown(name)} is reserved for pytest-vbox; take another one")
        return name


class NetworkAdapter(Model):
    """One network adapter."""

    enabled: bool = Field(default=True, description="Whether the guest sees the adapter at all.")
    attachment: Annotated[
        Attachment,
        BeforeValidator(_none_is_null),
        WithJsonSchema({"anyOf": [{"type": "string", "enum": list(Attachment)}, {"type": "null"}]}),
    ] = Field(
        default=Attachment.NAT,
        description="What it is attached to; `null`: to nothing, like a card without a network.",
    )
    adapter_type: AdapterType = Field(default=AdapterType.I82540EM, description="The card that the guest sees.")
    cable_connected: bool = Field(default=True, description="Whether the guest sees a link.")
    mac_address: Annotated[
        str | None,
        BeforeValidator(_virtualbox_mac),
        WithJsonSchema({"type": ["string", "null"], "x-values": "12 hexadecimal digits, separated or not"}),
    ] = Field(
        default=None,
        description="The card's address. Every machine made from the model gets the same one.",
        json_schema_extra={"x-default": "a new one for each machine"},
    )
    nat_rules: tuple[NatRule, ...] = Field(default=(), description="Port forwards; only with attachment `nat`.")

    @field_validator("nat_rules")
    @classmethod
    def _no_clash(cls, rules: tuple[NatRule, ...]) -> tuple[NatRule, ...]:
        name, times = _most_common(rule.name.lower() for rule in rules)
        if times > 1:
            raise ValueError(f"{times} rules are named '{name}'; give each a name of its own")
        taken, times = _most_common((r.protocol, r.host_ip, r.host_port) for r in rules if r.host_port)
        if taken and times > 1:
            raise ValueError(f"{times} rules use the host's {taken[0]} port {taken[2]} on '{taken[1]}'")
        return rules

    @model_validator(mode="after")
    def _rules_need_nat(self) -> NetworkAdapter:
        if self.nat_rules and self.attachment is not Attachment.NAT:
            raise ValueError(f"nat_rules need the attachment 'nat', and it is '{self.attachment}'")
        return self
