"""Network adapters, NAT and serial ports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from pytest_vbox.virtualbox.devices import BandwidthGroup
from pytest_vbox.virtualbox.enums import (
    HostNetworkInterfaceType,
    NATProtocol,
    NetworkAdapterPromiscModePolicy,
    NetworkAdapterType,
    NetworkAttachmentType,
)
from pytest_vbox.virtualbox.interface import Attribute, Interface, ReadOnly, text, texts


@dataclass(frozen=True)
class Redirect:
    """One port forwarding rule of a NAT engine."""

    name: str
    protocol: NATProtocol
    host_ip: str
    host_port: int
    guest_ip: str
    guest_port: int


class NATAliasMode(IntFlag):
    """How NAT treats connections (SDK: NATAliasMode, whose values are added up)."""

    ALIAS_LOG = 1
    ALIAS_PROXY_ONLY = 2
    ALIAS_USE_SAME_PORTS = 4


class NATEngine(Interface):
    """INATEngine. Rules may be added and removed while the machine runs, through its session's machine."""

    interface = "INATEngine"
    network = Attribute("network", text)
    host_ip = Attribute("hostIP", text)
    alias_mode = Attribute("aliasMode", NATAliasMode)
    dns_pass_domain = Attribute("DNSPassDomain", bool)
    dns_proxy = Attribute("DNSProxy", bool)
    dns_use_host_resolver = Attribute("DNSUseHostResolver", bool)
    localhost_reachable = Attribute("localhostReachable", bool)
    tftp_prefix = Attribute("TFTPPrefix", text)
    tftp_boot_file = Attribute("TFTPBootFile", text)
    tftp_next_server = Attribute("TFTPNextServer", text)

    @property
    def redirects(self) -> list[Redirect]:
        """The port forwarding rules. (SDK: ``name,protocol id,host ip,host port,guest ip,guest port``.)"""
        rules = []
        for line in texts(self._call("getRedirects")):
            name, protocol, host_ip, host_port, guest_ip, guest_port = line.split(",")
            kind = NATProtocol.TCP if protocol == "1" else NATProtocol.UDP
            rules.append(Redirect(name, kind, host_ip, int(host_port), guest_ip, int(guest_port)))
        return rules

    def add_redirect(self, rule: Redirect) -> None:
        self._call(
            "addRedirect",
            name=rule.name,
            proto=rule.protocol,
            hostIP=rule.host_ip,
            hostPort=rule.host_port,
            guestIP=rule.guest_ip,
            guestPort=rule.guest_port,
        )

    def remove_redirect(self, name: str) -> None:
        self._call("removeRedirect", name=name)


class NetworkAdapter(Interface):
    """INetworkAdapter."""

    interface = "INetworkAdapter"
    slot = ReadOnly("slot", int)
    enabled = Attribute("enabled", bool)
    attachment_type = Attribute("attachmentType", NetworkAttachmentType)
    adapter_type = Attribute("adapterType", NetworkAdapterType)
    mac_address = Attribute("MACAddress", text)
    cable_connected = Attribute("cableConnected", bool)
    nat_network = Attribute("NATNetwork", text)
    bridged_interface = Attribute("bridgedInterface", text)
    internal_network = Attribute("internalNetwork", text)
    host_only_interface = Attribute("hostOnlyInterface", text)
    host_only_network = Attribute("hostOnlyNetwork", text)
    generic_driver = Attribute("genericDriver", text)
    line_speed = Attribute("lineSpeed", int)
    promisc_mode_policy = Attribute("promiscModePolicy", NetworkAdapterPromiscModePolicy)
    boot_priority = Attribute("bootPriority", int)
    trace_enabled = Attribute("traceEnabled", bool)
    trace_file = Attribute("traceFile", text)

    @property
    def nat_engine(self) -> NATEngine:
        return NATEngine(self.api, str(self._call("getNATEngine")))

    @property
    def bandwidth_group(self) -> BandwidthGroup | None:
        """The limit that it shares."""
        reference = self._call("getBandwidthGroup")
        return BandwidthGroup(self.api, str(reference)) if reference else None

    @bandwidth_group.setter
    def bandwidth_group(self, group: BandwidthGroup) -> None:
        self._call("setBandwidthGroup", bandwidthGroup=group.reference)

    def get_property(self, key: str) -> str:
        return text(self._call("getProperty", key=key))

    def set_property(self, key: str, value: str) -> None:
        """Set what a generic driver wants."""
        self._call("setProperty", key=key, value=value)


class HostNetworkInterface(Interface):
    """IHostNetworkInterface."""

    interface = "IHostNetworkInterface"
    id = ReadOnly("id", text)
    name = ReadOnly("name", text)
    network_name = ReadOnly("networkName", text)
    interface_type = ReadOnly("interfaceType", HostNetworkInterfaceType)

    def enable_static_ip_config(self, ip_address: str, network_mask: str) -> None:
        self._call("enableStaticIPConfig", IPAddress=ip_address, networkMask=network_mask)


class HostOnlyNetwork(Interface):
    """IHostOnlyNetwork (since 7.0, on macOS)."""

    interface = "IHostOnlyNetwork"
    network_name = ReadOnly("networkName", text)
    enabled = Attribute("enabled", bool)
    network_mask = Attribute("networkMask", text)
    lower_ip = Attribute("lowerIP", text)
    upper_ip = Attribute("upperIP", text)


class NATNetwork(Interface):
    """INATNetwork."""

    interface = "INATNetwork"
    network_name = ReadOnly("networkName", text)


class DHCPServer(Interface):
    """IDHCPServer."""

    interface = "IDHCPServer"
    enabled = Attribute("enabled", bool)
    network_name = ReadOnly("networkName", text)

    def set_configuration(self, ip_address: str, network_mask: str, from_address: str, to_address: str) -> None:
        self._call(
            "setConfiguration",
            IPAddress=ip_address,
            networkMask=network_mask,
            FromIPAddress=from_address,
            ToIPAddress=to_address,
        )
