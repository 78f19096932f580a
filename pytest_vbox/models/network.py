"""Network adapters and the port forwards of their NAT."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from pytest_vbox.models.fields import (
    NOT_BOOLEAN,
    VIRTUALBOX_S,
    Ipv4,
    Ipv4Network,
    Ipv4OrEmpty,
    Line,
    LocalPath,
    Model,
    Name,
    OptionalPort,
    Port,
    Term,
)
from pytest_vbox.models.problems import shown

T = TypeVar("T")

RESERVED_RULE = "ssh"
"""The name of the forward by which pytest-vbox itself reaches the guest."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:.-]?)[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")


class Attachment(Term):
    """What an adapter is attached to."""

    NAT = "nat"
    NAT_NETWORK = "nat-network"
    BRIDGED = "bridged"
    INTERNAL = "internal"
    HOST_ONLY = "host-only"
    HOST_ONLY_NETWORK = "host-only-network"
    GENERIC = "generic"
    NULL = "null"


class AdapterType(Term):
    """The card that the guest sees, in VirtualBox's spelling."""

    AM79C970A = "Am79C970A"
    AM79C973 = "Am79C973"
    I82540EM = "I82540EM"
    I82543GC = "I82543GC"
    I82545EM = "I82545EM"
    I82583V = "I82583V"
    VIRTIO = "Virtio"
    USB_NET = "UsbNet"


class PromiscuousMode(Term):
    """Which frames that are not its own an adapter may see."""

    DENY = "deny"
    ALLOW_NETWORK = "allow-network"
    ALLOW_ALL = "allow-all"


class AliasMode(Term):
    """How NAT treats connections."""

    LOG = "log"
    PROXY_ONLY = "proxy-only"
    USE_SAME_PORTS = "use-same-ports"


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


class NatSettings(Model):
    """VirtualBox's NAT, of one adapter. What is not given stays as VirtualBox has it."""

    network: Ipv4Network | None = Field(
        default=None,
        description="The guest's network; its addresses follow from it.",
        json_schema_extra={"x-default": "`10.0.2.0/24`, and the slot added to the 2"},
    )
    host_ip: Ipv4OrEmpty | None = Field(
        default=None,
        description="The host's address that the guest's connections come from.",
        json_schema_extra=VIRTUALBOX_S,
    )
    dns_pass_domain: bool | None = Field(
        default=None,
        description="Whether DHCP tells the guest the host's DNS domain.",
        json_schema_extra=VIRTUALBOX_S,
    )
    dns_proxy: bool | None = Field(
        default=None,
        description="Whether VirtualBox passes the guest's DNS queries on.",
        json_schema_extra=VIRTUALBOX_S,
    )
    dns_use_host_resolver: bool | None = Field(
        default=None, description="Whether the host's resolver answers them.", json_schema_extra=VIRTUALBOX_S
    )
    localhost_reachable: bool | None = Field(
        default=None,
        description="Whether the guest reaches the host's own 127.0.0.1, as 10.0.2.2 (VirtualBox 7.0).",
        json_schema_extra=VIRTUALBOX_S,
    )
    alias_mode: tuple[AliasMode, ...] | None = Field(
        default=None, description="How connections are treated.", json_schema_extra=VIRTUALBOX_S
    )
    tftp_prefix: Line | None = Field(
        default=None, description="The host's folder for booting from the network.", json_schema_extra=VIRTUALBOX_S
    )
    tftp_boot_file: Line | None = Field(
        default=None, description="The file in it that is booted.", json_schema_extra=VIRTUALBOX_S
    )
    tftp_next_server: Line | None = Field(
        default=None,
        description="Another server that the guest is sent to for it.",
        json_schema_extra=VIRTUALBOX_S,
    )


class HostOnlyOptions(Model):
    """How a host-only network is made, where there is none of that name."""

    create: bool = Field(
        default=False, description="Whether it is made if it is missing. It stays after the test."
    )
    ip: Ipv4 = Field(default="192.168.56.1", description="The host's address in it.")
    netmask: Ipv4 = Field(default="255.255.255.0", description="Its netmask.")
    dhcp: bool = Field(
        default=True, description="Whether a DHCP server gives guests addresses, from .101 to .254 of the network."
    )


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
    nat_network: Line | None = Field(
        default=None, description="With attachment `nat-network`: the name of the NAT network."
    )
    bridged_interface: Line | None = Field(
        default=None,
        description="With attachment `bridged`: the host's interface. A wrong one is answered by those there are.",
    )
    internal_network: Line | None = Field(
        default=None,
        description="With attachment `internal`: any name; adapters with the same one see each other.",
        json_schema_extra={"x-default": "VirtualBox's, `intnet`"},
    )
    host_only_interface: Line | None = Field(
        default=None,
        description="With attachment `host-only`: the host's interface, such as `vboxnet0`.",
        json_schema_extra={"x-default": "the first there is"},
    )
    host_only_network: Line | None = Field(
        default=None,
        description="With attachment `host-only-network` (macOS, VirtualBox 7.0): its name.",
        json_schema_extra={"x-default": "the first there is"},
    )
    host_only: HostOnlyOptions = Field(
        default_factory=HostOnlyOptions,
        description="With attachment `host-only` and `host-only-network`: how it is made if it is missing.",
        json_schema_extra={"x-default": "not at all"},
    )
    generic_driver: Line | None = Field(
        default=None, description="With attachment `generic`: the driver, such as `UDPTunnel`."
    )
    generic_properties: Mapping[Line, Line] = Field(
        default={},
        description="With attachment `generic`: what the driver wants, such as `dest`, `sport` and `dport`.",
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
    line_speed: Annotated[int, Field(ge=0, le=4_000_000_000), NOT_BOOLEAN] | None = Field(
        default=None, description="The speed that the guest is told, in kbit/s.", json_schema_extra=VIRTUALBOX_S
    )
    promiscuous_mode: PromiscuousMode | None = Field(
        default=None,
        description="Which frames that are not its own the guest may see.",
        json_schema_extra=VIRTUALBOX_S,
    )
    boot_priority: Annotated[int, Field(ge=0, le=4), NOT_BOOLEAN] | None = Field(
        default=None,
        description="When it is tried by a boot from the network: 1 first, 4 last, 0 never told apart.",
        json_schema_extra=VIRTUALBOX_S,
    )
    bandwidth_group: Name | None = Field(
        default=None, description="The limit that it shares, one of `bandwidth_groups` of the type `network`."
    )
    trace_file: LocalPath | None = Field(
        default=None,
        description="Where all frames are recorded (pcap), on the computer that VirtualBox runs on. Every machine "
        "made from the model writes there.",
    )
    nat: NatSettings = Field(
        default_factory=NatSettings,
        description="With attachment `nat`: its settings.",
        json_schema_extra={"x-default": "VirtualBox's"},
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
    def _keys_fit_the_attachment(self) -> NetworkAdapter:
        for key, attachments in _BELONGS_TO.items():
            if key in self.model_fields_set and self.attachment not in attachments:
                wanted = " or ".join(f"'{attachment}'" for attachment in attachments)
                raise ValueError(f"{key} is for the attachment {wanted}, and it is '{self.attachment}'")
        for attachment, key in _NEEDS.items():
            if self.attachment is attachment and getattr(self, key) is None:
                raise ValueError(f"the attachment '{attachment}' needs {key}")
        return self


_BELONGS_TO: Mapping[str, tuple[Attachment, ...]] = {
    "nat": (Attachment.NAT,),
    "nat_rules": (Attachment.NAT,),
    "nat_network": (Attachment.NAT_NETWORK,),
    "bridged_interface": (Attachment.BRIDGED,),
    "internal_network": (Attachment.INTERNAL,),
    "host_only_interface": (Attachment.HOST_ONLY,),
    "host_only_network": (Attachment.HOST_ONLY_NETWORK,),
    "host_only": (Attachment.HOST_ONLY, Attachment.HOST_ONLY_NETWORK),
    "generic_driver": (Attachment.GENERIC,),
    "generic_properties": (Attachment.GENERIC,),
}
_NEEDS: Mapping[Attachment, str] = {
    Attachment.NAT_NETWORK: "nat_network",
    Attachment.BRIDGED: "bridged_interface",
    Attachment.GENERIC: "generic_driver",
}
