"""The same calls against every supported version: each arrives as that version has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_vbox.virtualbox import Machine, VirtualBox
from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.enums import FirmwareBootMenuMode, FirmwareType, GraphicsControllerType
from pytest_vbox.virtualbox.machine import Session
from unit.kit.descriptions import VERSIONS, description
from unit.kit.service import FakeService

BEFORE_7_1 = VERSIONS[: VERSIONS.index("7.1")]
BEFORE_6_1 = VERSIONS[: VERSIONS.index("6.1")]


@pytest.fixture(params=VERSIONS)
def service(request: pytest.FixtureRequest, service_of: Callable[[str], FakeService]) -> FakeService:
    """A service of each version, with a machine whose parts are objects of their own where they are."""
    service = service_of(request.param)
    parts = {
        "BIOSSettings": service.add("settings", LogoFadeIn=True, BootMenuMode="MessageAndMenu"),
        "FirmwareSettings": "settings",
        "Platform": service.add("platform"),
        "GraphicsAdapter": service.add("graphics"),
    }
    service.add("m", **parts)
    return service


@pytest.fixture
def api(service: FakeService) -> Api:
    return service.api


@pytest.fixture
def machine(api: Api) -> Machine:
    return Machine(api, "m")


@pytest.mark.slow
def test_logo_and_boot_menu_are_the_firmware_settings_own(service: FakeService, machine: Machine) -> None:
    settings = machine.firmware_settings
    assert settings.logo_fade_in
    assert settings.boot_menu_mode is FirmwareBootMenuMode.MESSAGE_AND_MENU
    settings.logo_fade_in = False
    settings.logo_fade_out = False
    settings.logo_display_time = 0
    settings.boot_menu_mode = FirmwareBootMenuMode.DISABLED
    assert service.objects["settings"] == {
        "LogoFadeIn": False,
        "LogoFadeOut": False,
        "LogoDisplayTime": 0,
        "BootMenuMode": "Disabled",
    }


def test_the_type_of_the_firmware_is_set_where_it_is(service: FakeService, machine: Machine) -> None:
    machine.firmware_kind.firmware_type = FirmwareType.EFI
    assert machine.firmware_kind.firmware_type is FirmwareType.EFI
    owner = "m" if service.version in BEFORE_7_1 else "settings"
    assert service.objects[owner]["FirmwareType"] == "EFI"


def test_the_clock_is_set_where_it_is(service: FakeService, machine: Machine) -> None:
    machine.platform.rtc_use_utc = True
    assert machine.platform.rtc_use_utc
    assert service.objects["m" if service.version in BEFORE_7_1 else "platform"]["RTCUseUTC"] is True


def test_the_graphics_are_set_where_they_are(service: FakeService, machine: Machine) -> None:
    adapter = machine.graphics_adapter
    adapter.vram_size = 16
    adapter.graphics_controller_type = GraphicsControllerType.VMSVGA
    assert (adapter.vram_size, adapter.graphics_controller_type) == (16, GraphicsControllerType.VMSVGA)
    owner = service.objects["m" if service.version in BEFORE_6_1 else "graphics"]
    assert (owner["VRAMSize"], owner["GraphicsControllerType"]) == (16, "VMSVGA")


def test_a_machine_is_created_with_what_the_version_wants(service: FakeService, api: Api) -> None:
    service.answer("IVirtualBox_createMachine", "m")
    VirtualBox(api, "virtualbox").create_machine("", "one", ["/pytest-vbox"], "Linux_64", "UUID=1")
    (sent,) = service.called("IVirtualBox_createMachine")
    assert sent.keys() == set(description(service.version).operations["IVirtualBox_createMachine"].names)
    assert (sent["name"], sent["groups"], sent["flags"]) == ("one", ["/pytest-vbox"], "UUID=1")
    assert sent.get("platform", "x86") == "x86"
    assert sent.get("password", "") == ""


def test_variables_for_the_process_are_lines_or_a_list(service: FakeService, api: Api, machine: Machine) -> None:
    service.answer("IMachine_launchVMProcess", "p")
    machine.launch_vm_process(Session(api, "s"), "headless", ["A=1", "B=2"])
    (sent,) = service.called("IMachine_launchVMProcess")
    if service.version in BEFORE_6_1:
        assert sent["environment"] == "A=1\nB=2"
    else:
        assert sent["environmentChanges"] == ["A=1", "B=2"]


def test_no_variables_are_nothing(service: FakeService, api: Api, machine: Machine) -> None:
    service.answer("IMachine_launchVMProcess", "p")
    machine.launch_vm_process(Session(api, "s"))
    (sent,) = service.called("IMachine_launchVMProcess")
    assert not sent.get("environment")
    assert not sent.get("environmentChanges")
