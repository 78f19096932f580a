"""Every key of a hardware model is seen on the real machine; nothing is booted for it."""

from __future__ import annotations

from pathlib import Path

import hardware_models as models
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Hardware
from pytest_vbox.virtualbox import Machine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to share with machines."""
    return tmp_path_factory.mktemp("shared")


@given(data=st.data())
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
def test_every_key_of_a_random_model_is_read_back_from_the_machine_that_is_made_of_it(
    vbox_host: VirtualBoxHost, shared: Path, data: st.DataObject
) -> None:
    keys = data.draw(models.hardware(shared))
    # The profile comes with keys of its own, which are read back too.
    vm = vbox_host.machine(profile="micro", hardware=keys, start=False)
    try:
        model = vm._plan.model.hardware
        machine = vm.api
        assert models.read_back(machine, model) == models.expected(model)
        if "os_type" in keys:
            assert machine.os_type_id == keys["os_type"]
        for slot, adapter in enumerate(keys.get("network", ())):
            found = machine.get_network_adapter(slot)
            if adapter is None:
                assert not found.enabled
            else:
                wanted = {**adapter}
                if "nat_rules" in wanted:
                    wanted["nat_rules"] = sorted(wanted["nat_rules"], key=lambda rule: str(rule["name"]))
                assert models.adapter_read_back(found, wanted) == wanted
        controllers = {controller.name: controller for controller in machine.storage_controllers}
        for wanted in keys.get("storage", ()):
            plain = {key: value for key, value in wanted.items() if key != "devices"}
            assert models.controller_read_back(controllers[wanted["bus"].upper()], plain) == plain
        _check_devices(vm.api, model)
    finally:
        vbox_host.remove(vm)
    assert not [medium for medium in vbox_host.api.hard_disks if vm.name in medium.location]


def _check_devices(machine: Machine, model: Hardware) -> None:
    there = {
        (attached.controller, attached.port, attached.device): attached for attached in machine.medium_attachments
    }
    base, position = model.place_of_base()
    for controller in model.storage:
        for index in range(controller.places):
            place = (controller.name, *controller.place(index))
            device = controller.device(index)
            if (controller.name, index) == (base.name, position):
                attached = there.pop(place)
                assert attached.medium is not None
                assert attached.medium.parent is not None
            elif device is not None:
                attached = there.pop(place)
                assert attached.type == {"hard-disk": "HardDisk", "dvd": "DVD", "floppy": "Floppy"}[device.type]
                if device.create is not None:
                    assert attached.medium is not None
                    assert attached.medium.logical_size == device.create.size * 1024**2
                else:
                    assert attached.medium is None
    assert not there
