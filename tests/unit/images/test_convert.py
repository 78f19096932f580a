"""Conversions and imports in VirtualBox: whatever ends one, it is stopped, and told as what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox.images import ImageError, VirtualBoxConverter
from pytest_vbox.models import DiskFormat
from unit.kit.service import FakeService, Refusal


def _interrupt(what: str, done: int, total: int | None) -> None:  # noqa: ARG001 - as a report is called
    """As Ctrl-C, a moment after it has begun."""
    if done:
        raise KeyboardInterrupt


@pytest.fixture
def converter(service: FakeService) -> VirtualBoxConverter:
    """A VirtualBox that is copying a disk, and closes no disk that it still writes."""
    service.add("source", Parent="", LogicalSize=1, Name="disk.qcow2", Location="/disk.qcow2")
    service.add("copy")
    service.add("p", Completed=False, Percent=40, Cancelable=True)
    service.answer("IVirtualBox_getHardDisks", [])
    service.answer("IVirtualBox_openMedium", "source")
    service.answer("IVirtualBox_createMedium", "copy")
    service.answer("IMedium_cloneTo", "p")
    service.answer("IMedium_close", Refusal(0x80BB0007, "Medium is locked for writing by another task"))
    service.answer("IProgress_waitForCompletion", None)
    service.answer("IProgress_cancel", None)
    return VirtualBoxConverter(service.session.virtualbox)


def test_ctrl_c_ends_a_conversion_and_is_not_hidden_by_the_disk_that_is_still_written(
    converter: VirtualBoxConverter, service: FakeService, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        converter.to_vdi(tmp_path / "disk.qcow2", DiskFormat.QCOW2, tmp_path / "disk.vdi", _interrupt, own=True)
    assert service.called("IProgress_cancel") == [{"_this": "p"}]
    assert {"_this": "copy"} in service.called("IMedium_close")


def test_ctrl_c_ends_an_import_and_is_not_hidden_by_the_machine_that_is_still_made(
    converter: VirtualBoxConverter, service: FakeService, tmp_path: Path
) -> None:
    _appliance(service)
    service.add("m", Id="id-1", Name="pytest-vbox import 1", SettingsFilePath="/vms/x/x.vbox")
    service.answer("IVirtualBox_findMachine", "m")
    service.answer("IMachine_unregister", Refusal(0x80BB0007, "it is locked"))
    with pytest.raises(KeyboardInterrupt):
        converter.import_appliance(tmp_path / "a.ovf", tmp_path / "disk.vdi", _interrupt)
    assert service.called("IProgress_cancel") == [{"_this": "p"}]
    assert service.called("IMachine_unregister") != []


def test_an_import_that_fails_is_told_in_its_own_words(
    converter: VirtualBoxConverter, service: FakeService, tmp_path: Path
) -> None:
    _appliance(service)
    service.objects["p"].update(
        Completed=True, ResultCode=-2135228409, Description="", ErrorInfo=service.error_info("no room")
    )
    service.answer("IAppliance_getMachines", Refusal(0x80004005, "another"))
    with pytest.raises(ImageError, match=r"could not be imported: .*no room"):
        converter.import_appliance(tmp_path / "a.ovf", tmp_path / "disk.vdi", _interrupt)


def _appliance(service: FakeService) -> None:
    service.add("appliance", VirtualSystemDescriptions=["system"], Machines=["id-1"])
    service.add("read", Completed=True, ResultCode=0)
    service.add("system")
    service.answer("IVirtualBox_createAppliance", "appliance")
    service.answer("IAppliance_read", "read")
    service.answer("IAppliance_interpret", None)
    service.answer("IAppliance_importMachines", "p")
    service.answer(
        "IVirtualSystemDescription_getDescription",
        {
            "types": ["HardDiskImage"],
            "refs": [""],
            "OVFValues": ["disk.vmdk"],
            "VBoxValues": ["disk.vmdk"],
            "extraConfigValues": [""],
        },
    )
    service.answer("IVirtualSystemDescription_setFinalValues", None)
