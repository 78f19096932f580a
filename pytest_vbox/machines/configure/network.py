"""Network adapters, and their NAT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pytest_vbox.machines.configure.refusal import Keys
from pytest_vbox.machines.configure.terms import api_term
from pytest_vbox.models import Hardware, NatSettings, NetworkAdapter
from pytest_vbox.virtualbox import Machine, NATAliasMode, NATEngine, Redirect
from pytest_vbox.virtualbox import NetworkAdapter as ApiNetworkAdapter
from pytest_vbox.virtualbox.enums import (
    BandwidthGroupType,
    NetworkAdapterPromiscModePolicy,
    NetworkAdapterType,
    NetworkAttachmentType,
)

# Every resume holds the network link down for 5 s, so that guests renew their DHCP lease; behind NAT nothing
# changes for them. The key exists per device in VBoxDD.
_LINK_DEVICES: Final[Mapping[str, str]] = {
    "Am79C970A": "pcnet",
    "Am79C973": "pcnet",
    "I82540EM": "e1000",
    "I82543GC": "e1000",
    "I82545EM": "e1000",
    "I82583V": "e1000",
    "Virtio": "virtio-net",
}
_ALIAS_MODES: Final[Mapping[str, NATAliasMode]] = {
    "log": NATAliasMode.ALIAS_LOG,
    "proxy-only": NATAliasMode.ALIAS_PROXY_ONLY,
    "use-same-ports": NATAliasMode.ALIAS_USE_SAME_PORTS,
}
_NAT_ATTRIBUTES: Final = (
    *("network", "host_ip", "dns_pass_domain", "dns_proxy", "dns_use_host_resolver", "localhost_reachable"),
    *("tftp_prefix", "tftp_boot_file", "tftp_next_server"),
)
_ADAPTER_ATTRIBUTES: Final = (
    *("nat_network", "bridged_interface", "internal_network", "host_only_interface", "host_only_network"),
    *("generic_driver", "line_speed", "boot_priority", "mac_address"),
)


def configure(
    machine: Machine, hardware: Hardware, forwards: Mapping[int, Sequence[Redirect]], keys: Keys
) -> None:
    """Set the limits of bandwidth and all adapters, with their NAT rules."""
    for index, group in enumerate(hardware.bandwidth_groups):
        with keys.of("bandwidth_groups", index):
            kind = api_term(BandwidthGroupType, group.type)
            machine.bandwidth_control.create_bandwidth_group(group.name, kind, group.limit)
    for slot, model in enumerate(hardware.network):
        if model is None and slot > 0:
            continue  # only the first one is there unasked
        with keys.of("network", slot):
            adapter = machine.get_network_adapter(slot)
            adapter.enabled = model is not None and model.enabled
            if model is not None:
                _configure_adapter(machine, slot, adapter, model, keys)
                if forwards.get(slot):
                    engine = adapter.nat_engine
                    for rule in forwards[slot]:
                        engine.add_redirect(rule)


def _configure_adapter(
    machine: Machine, slot: int, adapter: ApiNetworkAdapter, model: NetworkAdapter, keys: Keys
) -> None:
    with keys.of("network", slot, "adapter_type"):
        adapter.adapter_type = NetworkAdapterType(model.adapter_type)
    with keys.of("network", slot, "attachment"):
        adapter.attachment_type = api_term(NetworkAttachmentType, model.attachment)
    for key in _ADAPTER_ATTRIBUTES:
        value = getattr(model, key)
        if value is not None:
            with keys.of("network", slot, key):
                setattr(adapter, key, value)
    for name, value in model.generic_properties.items():
        with keys.of("network", slot, "generic_properties", name):
            adapter.set_property(name, value)
    if not model.cable_connected:
        adapter.cable_connected = False
    if model.promiscuous_mode is not None:
        policy = api_term(NetworkAdapterPromiscModePolicy, model.promiscuous_mode)
        with keys.of("network", slot, "promiscuous_mode"):
            adapter.promisc_mode_policy = policy
    if model.bandwidth_group is not None:
        with keys.of("network", slot, "bandwidth_group"):
            adapter.bandwidth_group = machine.bandwidth_control.get_bandwidth_group(model.bandwidth_group)
    if model.trace_file is not None:
        with keys.of("network", slot, "trace_file"):
            adapter.trace_file = str(model.trace_file)
            adapter.trace_enabled = True
    _configure_nat(adapter, model.nat, slot, keys)
    device = _LINK_DEVICES.get(model.adapter_type)
    # A key of a device that is not there would bring it into being.
    if device is not None and model.enabled:
        machine.set_extra_data(f"VBoxInternal/Devices/{device}/{slot}/Config/LinkUpDelay", "0")


def _configure_nat(adapter: ApiNetworkAdapter, model: NatSettings, slot: int, keys: Keys) -> None:
    engine: NATEngine | None = None
    for key in model.model_fields_set & {*_NAT_ATTRIBUTES, "alias_mode"}:
        value = getattr(model, key)
        if value is None:
            continue
        engine = engine or adapter.nat_engine
        with keys.of("network", slot, "nat", key):
            if key == "alias_mode":
                engine.alias_mode = NATAliasMode(sum(_ALIAS_MODES[mode] for mode in value))
            else:
                setattr(engine, key, value)
