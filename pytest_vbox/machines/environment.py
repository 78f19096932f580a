"""What a machine needs of its host, looked at before the machine exists."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.models import HostOnlyOptions, MachineModel, ModelError, NetworkAdapter, Problem
from pytest_vbox.virtualbox import VirtualBox
from pytest_vbox.virtualbox.enums import HostNetworkInterfaceType
from pytest_vbox.virtualbox.errors import VirtualBoxError

# Making an interface starts a helper of VirtualBox's with root's rights; it takes about a second.
_PATIENCE: Final = 60.0
_FIRST_LEASE: Final = 101
_LAST_LEASE: Final = 254
_DHCP_SERVER: Final = 100
_NEW_NETWORK: Final = "pytest-vbox"


def fit(virtualbox: VirtualBox, model: MachineModel, capacity: tuple[int, int], *, local: bool) -> MachineModel:
    """See that the host has what the model asks for; make host-only networks that are to be made.

    Args:
        virtualbox: The VirtualBox of the host.
        model: The machine's model.
        capacity: The host's memory in MiB and its processor cores.
        local: Whether the host's files are on this computer.

    Returns:
        The model, with the names of networks that it left to the host.

    Raises:
        ModelError: With everything that the host does not have, and what it has instead.
    """
    problems = list(_too_much(model, *capacity))
    if local:
        problems += _missing_files(model)
    adapters = list(model.hardware.network)
    for slot, adapter in enumerate(adapters):
        if adapter is None or not adapter.enabled or adapter.attachment not in _NETWORKS:
            continue
        try:
            adapters[slot] = _NETWORKS[adapter.attachment](virtualbox, model, slot, adapter)
        except _Missing as missing:
            problems.append(missing.problem)
    if problems:
        raise ModelError(problems)
    if tuple(adapters) == model.hardware.network:
        return model
    return replace(model, hardware=model.hardware.model_copy(update={"network": tuple(adapters)}))


class _Missing(Exception):
    """The host does not have what a key asks for."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def _too_much(model: MachineModel, memory: int, cores: int) -> Iterable[Problem]:
    if model.hardware.cpus > cores:
        yield model.problem(
            ("cpus",), f"must be at most {cores}, the host's number of CPUs, not {model.hardware.cpus}"
        )
    if model.hardware.memory > memory:
        yield model.problem(
            ("memory",), f"must be at most {memory} MiB, all that the host has, not {model.hardware.memory}"
        )


def _missing_files(model: MachineModel) -> Iterable[Problem]:
    hardware = model.hardware
    for index, folder in enumerate(hardware.shared_folders):
        if not folder.path.is_dir():
            yield model.problem(("shared_folders", index, "path"), f"there is no folder {folder.path}")
    for index, controller in enumerate(hardware.storage):
        for position, device in enumerate(controller.devices):
            if device is not None and device.medium is not None and not device.medium.is_file():
                key = ("storage", index, "devices", position, "medium")
                yield model.problem(key, f"there is no file {device.medium}")
    logo = hardware.boot_logo.image
    if logo is not None and not logo.is_file():
        yield model.problem(("boot_logo", "image"), f"there is no file {logo}")


def _bridged(virtualbox: VirtualBox, model: MachineModel, slot: int, adapter: NetworkAdapter) -> NetworkAdapter:
    there = _interfaces(virtualbox, HostNetworkInterfaceType.BRIDGED)
    if adapter.bridged_interface not in there:
        raise _unknown(model, slot, "bridged_interface", adapter.bridged_interface, there)
    return adapter


def _nat_network(
    virtualbox: VirtualBox, model: MachineModel, slot: int, adapter: NetworkAdapter
) -> NetworkAdapter:
    there = [network.network_name for network in virtualbox.nat_networks]
    if adapter.nat_network not in there:
        hint = "make one: VBoxManage natnetwork add --netname NAME --network 10.0.9.0/24 --enable"
        raise _unknown(model, slot, "nat_network", adapter.nat_network, there, hint)
    return adapter


def _host_only(virtualbox: VirtualBox, model: MachineModel, slot: int, adapter: NetworkAdapter) -> NetworkAdapter:
    there = _interfaces(virtualbox, HostNetworkInterfaceType.HOST_ONLY)
    wanted = adapter.host_only_interface
    if wanted is None and there:
        return adapter.model_copy(update={"host_only_interface": there[0]})
    if wanted in there:
        return adapter
    if not adapter.host_only.create:
        raise _unknown(model, slot, "host_only_interface", wanted, there, "host_only: {create: true} makes one")
    try:
        name = _new_interface(virtualbox, adapter)
    except VirtualBoxError as error:
        text = f"VirtualBox could not make a host-only interface: {error.text}"
        raise _Missing(model.problem(("network", slot, "host_only"), text)) from error
    if wanted not in {None, name}:
        raise _Missing(
            model.problem(
                ("network", slot, "host_only_interface"),
                f"VirtualBox names the next new interface {name!r}, and cannot be told to take {wanted!r}",
                f"write {name!r}, or leave the name out",
            )
        )
    return adapter.model_copy(update={"host_only_interface": name})


def _new_interface(virtualbox: VirtualBox, adapter: NetworkAdapter) -> str:
    """Make a host-only interface, with its DHCP server. Returns its name.

    VirtualBox chooses the name. One that is not the wanted one is removed again: to try until the name fits would
    go on for ever where interfaces are named otherwise.
    """
    progress, interface = virtualbox.host.create_host_only_network_interface()
    progress.wait(Deadline(_PATIENCE))
    name = interface.name
    if adapter.host_only_interface not in {None, name}:
        virtualbox.host.remove_host_only_network_interface(interface.id).wait(Deadline(_PATIENCE))
        return name
    options, network = adapter.host_only, interface.network_name
    interface.enable_static_ip_config(options.ip, options.netmask)
    if options.dhcp:
        known = [server for server in virtualbox.dhcp_servers if server.network_name == network]
        server = known[0] if known else virtualbox.create_dhcp_server(network)
        first, last, own = _leases(options)
        server.set_configuration(own, options.netmask, first, last)
        server.enabled = True
    return name


def _host_only_network(
    virtualbox: VirtualBox, model: MachineModel, slot: int, adapter: NetworkAdapter
) -> NetworkAdapter:
    wanted = adapter.host_only_network
    try:
        there = [network.network_name for network in virtualbox.host_only_networks]
        if wanted is None and there:
            return adapter.model_copy(update={"host_only_network": there[0]})
        if wanted in there:
            return adapter
        if not adapter.host_only.create:
            hint = "host_only: {create: true} makes one"
            raise _unknown(model, slot, "host_only_network", wanted, there, hint)
        name = wanted or _NEW_NETWORK
        network = virtualbox.create_host_only_network(name)
        network.network_mask = adapter.host_only.netmask
        network.lower_ip, network.upper_ip, _ = _leases(adapter.host_only)
        network.enabled = True
    except VirtualBoxError as error:
        problem = model.problem(
            ("network", slot, "attachment"),
            f"this VirtualBox has no host-only networks: {error.text}",
            "they are macOS's; elsewhere take the attachment 'host-only'",
        )
        raise _Missing(problem) from error
    return adapter.model_copy(update={"host_only_network": name})


def _interfaces(virtualbox: VirtualBox, kind: HostNetworkInterfaceType) -> list[str]:
    return [interface.name for interface in virtualbox.host.find_host_network_interfaces_of_type(kind)]


def _unknown(
    model: MachineModel, slot: int, key: str, name: str | None, there: Sequence[str], hint: str = ""
) -> _Missing:
    listed = f"the host has: {', '.join(there)}" if there else "the host has none"
    message = f"there is no {name!r}" if name is not None else "there is none to take"
    return _Missing(model.problem(("network", slot, key), message, f"{listed}; {hint}" if hint else listed))


def _leases(options: HostOnlyOptions) -> tuple[str, str, str]:
    """First and last address for guests, and the DHCP server's own: .101, .254 and .100 of the network."""
    base = ipaddress.IPv4Interface(f"{options.ip}/{options.netmask}").network.network_address
    return str(base + _FIRST_LEASE), str(base + _LAST_LEASE), str(base + _DHCP_SERVER)


_NETWORKS: Final[Mapping[str, Callable[[VirtualBox, MachineModel, int, NetworkAdapter], NetworkAdapter]]] = {
    "bridged": _bridged,
    "nat-network": _nat_network,
    "host-only": _host_only,
    "host-only-network": _host_only_network,
}
