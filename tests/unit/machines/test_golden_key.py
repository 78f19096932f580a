"""What golden machines are found again by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox.machines.golden_key import Platform, golden_key
from unit.kit.models import machine_model
from unit.kit.service import FakeService


@pytest.fixture
def virtualbox(service: FakeService) -> FakeService:
    service.add("host", X86=service.add("x86"))
    service.answer("IVirtualBox_getHost", "host")
    service.answer("IVirtualBox_getVersion", "7.2")
    service.answer("IVirtualBox_getRevision", 1)
    service.answer("IHost_getProcessorDescription", "a processor")
    return service


def test_of_a_disk_on_another_computer_only_the_path_counts(virtualbox: FakeService) -> None:
    model = machine_model()
    assert model.image.disk is not None
    assert not model.image.disk.exists()
    there = Platform(virtualbox.session.virtualbox, "there", local=False)
    assert golden_key(there, model, None) == golden_key(there, model, None)
    with pytest.raises(OSError, match=Path(model.image.disk).name):
        golden_key(Platform(virtualbox.session.virtualbox, "here"), model, None)
