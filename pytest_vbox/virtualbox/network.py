"""Network adapters, NAT and serial ports."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vbox.virtualbox.enums import NATProtocol, NetworkAdapterType, NetworkAttachmentType, PortMode
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


class NATEngine(Interface):
    """INATEngine. Rules may be added and removed while the machine runs, through its session's machine."""

    interface = "INATEngine"

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

    @property
    def nat_engine(self) -> NATEngine:
        return NATEngine(self.api, str(self._call("getNATEngine")))


class SerialPort(Interface):
    """ISerialPort."""

    interface = "ISerialPort"
    enabled = Attribute("enabled", bool)
    host_mode = Attribute("hostMode", PortMode)
    path = Attribute("path", text)
