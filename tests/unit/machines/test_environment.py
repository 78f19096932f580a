"""Host-only networks: taken where they are, made when asked to, never in a loop. The rig cannot make any."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pytest_vbox.machines.environment import fit
from pytest_vbox.models import MachineModel, ModelError
from unit.kit.models import machine_model
from unit.kit.service import FakeService, Refusal

CAPACITY = (8192, 4)
LINUX, WINDOWS = "vboxnet0", "VirtualBox Host-Only Ethernet Adapter"


def host_only(**keys: object) -> MachineModel:
    """A model with one adapter, attached to a host-only network."""
    return machine_model({"network": [{"attachment": "host-only", **keys}]})


@pytest.fixture
def host(service: FakeService) -> FakeService:
    """A host without any host-only interface, on which they can be made."""
    service.answer("IVirtualBox_getHost", service.add("host"))
    service.answer("IHost_findHostNetworkInterfacesOfType", [])
    service.answer("IVirtualBox_getDHCPServers", [])
    service.answer("IVirtualBox_createDHCPServer", service.add("dhcp"))
    service.answer("IHost_removeHostOnlyNetworkInterface", service.add("progress", Completed=True, ResultCode=0))
    for operation in (
        "IHostNetworkInterface_enableStaticIPConfig",
        "IDHCPServer_setConfiguration",
        "IProgress_waitForCompletion",
    ):
        service.answer(operation, None)
    return service


def makes(service: FakeService, name: str) -> None:
    """The next interface that is made has this name."""
    interface = service.add("new", Name=name, Id="id-new", NetworkName=f"HostInterfaceNetworking-{name}")
    service.handlers["IHost_createHostOnlyNetworkInterface"] = lambda _: {
        "hostInterface": interface,
        "returnval": "progress",
    }


def has(service: FakeService, *names: str) -> None:
    """These interfaces are there."""
    references = [service.add(f"if-{index}", Name=name) for index, name in enumerate(names)]
    service.answer("IHost_findHostNetworkInterfacesOfType", references)


def interface_of(service: FakeService, model: MachineModel) -> str | None:
    """The interface that the model is given."""
    fitted = fit(service.session.virtualbox, model, CAPACITY, local=True)
    (adapter,) = fitted.hardware.network
    assert adapter is not None
    return adapter.host_only_interface


@pytest.mark.parametrize("name", [LINUX, WINDOWS])
def test_without_a_name_the_first_is_taken(host: FakeService, name: str) -> None:
    has(host, name, "another")
    assert interface_of(host, host_only()) == name
    assert "IHost_createHostOnlyNetworkInterface" not in host.names


def test_one_that_is_there_is_taken_by_its_name(host: FakeService) -> None:
    has(host, "vboxnet0", "vboxnet1")
    assert interface_of(host, host_only(host_only_interface="vboxnet1")) == "vboxnet1"


def test_nothing_is_made_unasked(host: FakeService) -> None:
    has(host, "vboxnet0")
    with pytest.raises(
        ModelError, match=r"there is no 'vboxnet7'; the host has: vboxnet0; host_only: {create: true}"
    ):
        interface_of(host, host_only(host_only_interface="vboxnet7"))


@pytest.mark.parametrize(("wanted", "made"), [(None, LINUX), (LINUX, LINUX), (None, WINDOWS), (WINDOWS, WINDOWS)])
def test_a_missing_one_is_made_with_its_dhcp_server(host: FakeService, wanted: str | None, made: str) -> None:
    makes(host, made)
    options = {"create": True, "ip": "10.9.8.1", "netmask": "255.255.255.0"}
    keys = {"host_only_interface": wanted} if wanted else {}
    assert interface_of(host, host_only(host_only=options, **keys)) == made
    (address,) = host.called("IHostNetworkInterface_enableStaticIPConfig")
    assert (address["IPAddress"], address["networkMask"]) == ("10.9.8.1", "255.255.255.0")
    (dhcp,) = host.called("IDHCPServer_setConfiguration")
    assert (dhcp["IPAddress"], dhcp["FromIPAddress"], dhcp["ToIPAddress"]) == (
        "10.9.8.100",
        "10.9.8.101",
        "10.9.8.254",
    )
    assert host.objects["dhcp"]["Enabled"] is True
    (server,) = host.called("IVirtualBox_createDHCPServer")
    assert server["name"] == f"HostInterfaceNetworking-{made}"


def test_a_name_that_virtualbox_does_not_choose_is_an_error_and_what_was_made_is_taken_back(
    host: FakeService,
) -> None:
    makes(host, "vboxnet1")
    with pytest.raises(ModelError, match=r"names the next new interface 'vboxnet1'.*'vboxnet7'; write 'vboxnet1'"):
        interface_of(host, host_only(host_only_interface="vboxnet7", host_only={"create": True}))
    assert len(host.called("IHost_createHostOnlyNetworkInterface")) == 1
    assert [call["id"] for call in host.called("IHost_removeHostOnlyNetworkInterface")] == ["id-new"]
    assert "IHostNetworkInterface_enableStaticIPConfig" not in host.names


def test_no_dhcp_server_is_made_where_none_is_wanted(host: FakeService) -> None:
    makes(host, LINUX)
    interface_of(host, host_only(host_only={"create": True, "dhcp": False}))
    assert "IVirtualBox_createDHCPServer" not in host.names


def test_a_dhcp_server_that_is_there_is_used(host: FakeService) -> None:
    makes(host, LINUX)
    host.answer("IVirtualBox_getDHCPServers", [host.add("old", NetworkName=f"HostInterfaceNetworking-{LINUX}")])
    interface_of(host, host_only(host_only={"create": True}))
    assert "IVirtualBox_createDHCPServer" not in host.names
    assert host.objects["old"]["Enabled"] is True


def test_a_network_of_macos_is_made_by_its_name(host: FakeService) -> None:
    host.answer("IVirtualBox_getHostOnlyNetworks", [])
    host.answer("IVirtualBox_createHostOnlyNetwork", host.add("network"))
    keys: Mapping[str, object] = {"attachment": "host-only-network", "host_only": {"create": True}}
    fitted = fit(host.session.virtualbox, machine_model({"network": [keys]}), CAPACITY, local=True)
    (adapter,) = fitted.hardware.network
    assert adapter is not None
    assert adapter.host_only_network == "pytest-vbox"
    assert host.objects["network"] == {
        "NetworkMask": "255.255.255.0",
        "LowerIP": "192.168.56.101",
        "UpperIP": "192.168.56.254",
        "Enabled": True,
    }


def test_everything_that_is_missing_is_told_at_once(host: FakeService) -> None:
    host.answer("IVirtualBox_getHostOnlyNetworks", Refusal(0x80004001, "not here"))
    model = machine_model({"cpus": 9, "memory": 9000, "network": [{"attachment": "host-only-network"}]})
    with pytest.raises(ModelError) as caught:
        fit(host.session.virtualbox, model, CAPACITY, local=True)
    assert [problem.key.rpartition(": ")[2] for problem in caught.value.problems] == [
        "cpus",
        "memory",
        "network[0].attachment",
    ]


def test_an_adapter_that_is_switched_off_needs_nothing(host: FakeService) -> None:
    assert interface_of(host, host_only(enabled=False)) is None
    assert "IHost_findHostNetworkInterfacesOfType" not in host.names
