"""From a model to a machine: every supported version takes what is sent, and holds what the model says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import build
from pytest_vbox.machines.errors import HardwareRefused
from pytest_vbox.virtualbox import Machine, Medium, Redirect
from pytest_vbox.virtualbox.enums import NATProtocol
from pytest_vbox.virtualbox.errors import VirtualBoxError
from unit.kit.descriptions import VERSIONS
from unit.kit.models import machine_model, plan
from unit.kit.service import FakeService, HangUp, Refusal
from unit.kit.tracebacks import shown

from .workshop import NAME, workshop

EVERYTHING: dict[str, Any] = {
    "memory": 768,
    "cpus": 2,
    "description": "for tests",
    "rtc_utc": True,
    "vram": 16,
    "graphics_controller": "vmsvga",
    "firmware": "efi64",
    "boot_order": ["network", "hard-disk"],
    "extra_data": {"A/B": "c"},
    "network": [{"mac_address": "080027123456", "cable_connected": False}, None, {"adapter_type": "Virtio"}],
    "storage": [{"bus": "scsi", "type": "LsiLogic", "name": "disks", "host_io_cache": True, "bootable": False}],
}
SSH = Redirect("ssh", NATProtocol.TCP, "127.0.0.1", 20022, "", 22)


@pytest.fixture
def made(service: FakeService) -> Callable[..., Machine]:
    """Makes a machine in the newest VirtualBox from keys of the hardware model."""
    workshop(service)

    def make(hardware: dict[str, Any] | None = None, *, record_serial: bool = False) -> Machine:
        model = machine_model(hardware)
        return build.create(service.session, plan(model), {0: [SSH]}, record_serial=record_serial)

    return make


def _boot_order(service: FakeService) -> list[str]:
    calls = service.called("IMachine_setBootOrder")
    assert [call["position"] for call in calls] == [1, 2, 3, 4]
    return [call["device"] for call in calls]


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_takes_everything(service_of: Callable[[str], FakeService], version: str) -> None:
    service = workshop(service_of(version))
    machine = build.create(service.session, plan(machine_model(EVERYTHING)), {0: [SSH]}, record_serial=True)
    assert machine.reference == "m"
    objects = service.objects
    # Where a version keeps things on the machine itself, there they are.
    whole = {
        key: value for part in ("m", "platform", "graphics", "firmware") for key, value in objects[part].items()
    }
    assert (
        whole
        | {
            "MemorySize": 768,
            "CPUCount": 2,
            "Description": "for tests",
            "RTCUseUTC": True,
            "VRAMSize": 16,
            "GraphicsControllerType": "VMSVGA",
            "FirmwareType": "EFI64",
            "LogoFadeIn": False,
            "LogoFadeOut": False,
            "BootMenuMode": "Disabled",
        }
        == whole
    )
    assert _boot_order(service) == ["Network", "HardDisk", "Null", "Null"]
    first, third = objects["adapter-0"], objects["adapter-2"]
    assert (first["MACAddress"], first["CableConnected"], first["AttachmentType"]) == (
        "080027123456",
        False,
        "NAT",
    )
    assert (third["AdapterType"], third["Enabled"]) == ("Virtio", True)
    assert "Enabled" not in objects["adapter-1"]
    assert objects["controller"] == {"ControllerType": "LsiLogic", "PortCount": 1, "UseHostIOCache": True}
    assert objects["serial"] == {
        "Path": f"/vms/pytest-vbox/{NAME}/serial.log",
        "HostMode": "RawFile",
        "Enabled": True,
    }
    (rule,) = service.called("INATEngine_addRedirect")
    assert (rule["_this"], rule["hostPort"], rule["guestPort"], rule["proto"]) == ("nat-0", 20022, 22, "TCP")
    extra = {call["key"]: call["value"] for call in service.called("IMachine_setExtraData")}
    assert extra["A/B"] == "c"
    owner = json.loads(extra["pytest-vbox/owner"])
    assert (owner["run"], owner["test"]) == ("run-1", "test_a.py::test_one")
    assert extra["VBoxInternal/Devices/virtio-net/2/Config/LinkUpDelay"] == "0"
    # Nobody else may see it half-made.
    assert service.names.index("IMachine_saveSettings") > service.names.index("INATEngine_addRedirect")
    assert service.names[-2:] == ["IVirtualBox_registerMachine", "IVirtualBox_findMachine"]


def test_the_identity_is_the_one_that_was_written_down(service: FakeService, made: Callable[..., Machine]) -> None:
    made()
    (call,) = service.called("IVirtualBox_createMachine")
    assert (call["name"], call["groups"], call["flags"]) == ("pytest-one-12345678", ["/pytest-vbox"], "UUID=id-1")
    assert call["settingsFile"] == ""


def test_what_the_model_leaves_open_is_left_alone(service: FakeService, made: Callable[..., Machine]) -> None:
    made()
    assert service.objects["graphics"] == {}
    assert service.objects["serial"] == {}
    assert "MACAddress" not in service.objects["adapter-0"]


@pytest.mark.parametrize(
    ("network", "enabled"), [([None], False), ([{"enabled": False}], False), ([{}], True), (None, True)]
)
def test_the_first_adapter_is_switched_as_the_model_says(
    service: FakeService, made: Callable[..., Machine], network: list[object] | None, enabled: bool
) -> None:
    made({"network": network} if network is not None else None)
    assert service.objects["adapter-0"]["Enabled"] is enabled


@pytest.mark.parametrize(
    ("path", "log"),
    [
        ("/vms/pytest-vbox/one/one.vbox", "/vms/pytest-vbox/one/serial.log"),
        ("C:\\VMs\\pytest-vbox\\one\\one.vbox", "C:\\VMs\\pytest-vbox\\one\\serial.log"),
    ],
)
def test_the_serial_log_lies_beside_the_machine_on_whichever_host(
    service: FakeService, made: Callable[..., Machine], path: str, log: str
) -> None:
    service.objects["m"]["SettingsFilePath"] = path
    made(record_serial=True)
    assert service.objects["serial"]["Path"] == log


def test_a_disk_is_attached_under_a_write_lock_and_saved(service: FakeService) -> None:
    workshop(service)
    machine, base = Machine(service.api, "m"), Medium(service.api, "base")
    build.attach_disks(service.session, machine, plan(machine_model()), base, Deadline(5), {}, local=True)
    (call,) = service.called("IMachine_attachDevice")
    assert (call["_this"], call["medium"], call["type"]) == ("mutable", "base", "HardDisk")
    (lock,) = service.called("IMachine_lockMachine")
    assert lock["lockType"] == "Write"
    assert service.names.index("IMachine_saveSettings") < service.names.index("ISession_unlockMachine")


@pytest.mark.parametrize("error", [Refusal(0x80004005, "no"), HangUp()])
def test_a_teleporters_password_that_is_refused_is_in_no_variable_of_the_traceback(
    service: FakeService, made: Callable[..., Machine], error: Exception
) -> None:
    service.answer("IMachine_setTeleporterPassword", error)
    with pytest.raises((HardwareRefused, VirtualBoxError)) as caught:
        made({"teleporter": {"password": "hush-hush"}})
    text = shown(caught.value, __file__)
    assert "Api.call: operation='IMachine_setTeleporterPassword'" in text
    assert "hush-hush" not in text
