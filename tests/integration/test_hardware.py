"""Every key of a hardware model is seen on the real machine; nothing is booted for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hardware_models as models
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from machine_support import locations, names_of_ours, sha256

from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.machines import HardwareRefused, VirtualBoxHost
from pytest_vbox.models import Hardware, ModelError
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
    assert not [place for place in locations(vbox_host.api.hard_disks) if vm.name in place]


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


def test_what_virtualbox_refuses_is_said_with_the_key_and_leaves_nothing(vbox_host: VirtualBoxHost) -> None:
    with pytest.raises(
        HardwareRefused, match=r"^hardware override: page_fusion: VirtualBox refuses it: .*"
    ) as caught:
        vbox_host.machine(name="unwanted", hardware={"page_fusion": True}, start=False)
    assert caught.value.problem.key == "hardware override: page_fusion"
    without_card = {"graphics_controller": "none", "accelerate_3d": True}
    with pytest.raises(HardwareRefused, match=r"accelerate_3d: VirtualBox refuses it: The graphics controller"):
        vbox_host.machine(name="unwanted", hardware=without_card, start=False)
    with pytest.raises(HardwareRefused, match=r"autostart: VirtualBox refuses it: .*autostart database"):
        vbox_host.machine(name="unwanted", hardware={"autostart": {"enabled": True}}, start=False)
    assert not [name for name in names_of_ours(vbox_host) if "unwanted" in name]


@pytest.mark.parametrize(
    ("hardware", "complaint"),
    [
        ({"cpus": 64}, r"cpus: must be at most \d+, the host's number of CPUs, not 64"),
        ({"memory": "2 TiB"}, r"memory: must be at most \d+ MiB, all that the host has, not 2097152"),
        (
            {"network": [{"attachment": "bridged", "bridged_interface": "nope0"}]},
            r"network\[0\]\.bridged_interface: there is no 'nope0'; the host has: .+",
        ),
        (
            {"network": [{"attachment": "nat-network", "nat_network": "nope"}]},
            r"network\[0\]\.nat_network: there is no 'nope'; the host has none; make one: VBoxManage",
        ),
        (
            {"network": [{"attachment": "host-only"}]},
            r"network\[0\]\.host_only_interface: there is none to take; the host has none; host_only: ",
        ),
        (
            {"network": [{"attachment": "host-only", "host_only": {"create": True}}]},
            r"network\[0\]\.host_only: VirtualBox could not make a host-only interface: ",
        ),
        (
            {"network": [{"attachment": "host-only-network"}]},
            r"network\[0\]\.attachment: this VirtualBox has no host-only networks: .*'host-only'",
        ),
        (
            {"shared_folders": [{"name": "x", "path": "/nope"}]},
            r"shared_folders\[0\]\.path: there is no folder /nope",
        ),
        (
            {"storage": [{"devices": [None, {"type": "dvd", "medium": "/nope.iso"}]}]},
            r"storage\[0\]\.devices\[1\]\.medium: there is no file /nope\.iso",
        ),
    ],
)
def test_what_the_host_does_not_have_is_said_before_a_machine_exists(
    vbox_host: VirtualBoxHost, hardware: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ModelError, match=rf"^hardware override: {complaint}"):
        vbox_host.machine(name="unwanted", hardware=hardware, start=False)
    assert not [name for name in names_of_ours(vbox_host) if "unwanted" in name]


def test_discs_floppies_and_more_disks_are_attached_and_none_of_the_users_files_is_written_or_registered_after(
    vbox_host: VirtualBoxHost, own_image: Callable[[str], Path], tmp_path: Path
) -> None:
    iso, floppy = tmp_path / "some.iso", tmp_path / "some.img"
    iso.write_bytes(bytes(2048 * 64))
    floppy.write_bytes(bytes(1440 * 1024))
    second, third = own_image("second.vdi"), own_image("third.vdi")
    before = {path: sha256(path) for path in (iso, floppy, second, third)}
    vm = vbox_host.machine(
        hardware={
            "storage": [
                {
                    "bus": "sata",
                    "ports": 5,
                    "devices": [
                        {"medium": str(second)},
                        {"medium": str(third), "attach": "immutable"},
                        {"type": "hard-disk"},
                        {"type": "dvd", "medium": str(iso)},
                        {"create": "64 MiB"},
                    ],
                },
                {"bus": "floppy", "devices": [{"type": "floppy", "medium": str(floppy)}]},
            ],
            "snapshot_folder": str(tmp_path / "snapshots"),
        },
        start=False,
    )
    folder = Path(vm.api.settings_file_path).parent
    there = {
        attached.port: attached.medium for attached in vm.api.medium_attachments if attached.controller == "SATA"
    }
    bases = [medium.parent for port in (0, 1, 2) if (medium := there[port]) is not None]
    assert [base.location for base in bases if base is not None][:2] == [str(second), str(third)]
    assert [base.type for base in bases if base is not None] == ["MultiAttach", "Immutable", "MultiAttach"]
    assert there[3] is not None
    assert there[3].location == str(iso)
    (drive,) = (attached for attached in vm.api.medium_attachments if attached.type == "Floppy")
    assert drive.medium is not None
    assert Path(drive.medium.location).parent == folder
    assert list((tmp_path / "snapshots" / vm.name).iterdir())

    vbox_host.remove(vm)

    assert not folder.exists()
    assert not (tmp_path / "snapshots" / vm.name).exists()
    assert {path: sha256(path) for path in before} == before
    discs = (*vbox_host.api.dvd_images, *vbox_host.api.floppy_images)
    assert not [place for place in locations(discs) if str(tmp_path) in place]


def test_a_guest_sees_its_disks_its_disc_and_the_hosts_folders_and_writes_to_none_that_is_read_only(
    vbox_machine: MachineFactory, tmp_path: Path
) -> None:
    sources, results = tmp_path / "sources", tmp_path / "results"
    for folder in (sources, results):
        folder.mkdir()
    (sources / "main.c").write_text("int main;\n")
    iso = tmp_path / "some.iso"
    iso.write_bytes(b"what the disc says".ljust(2048 * 64, b"\0"))
    vm = vbox_machine(
        hardware={
            "memory": 192,
            "storage": [
                {
                    "bus": "sata",
                    "ports": 3,
                    "devices": [None, {"create": "48 MiB"}, {"type": "dvd", "medium": str(iso)}],
                }
            ],
            "shared_folders": [
                {"name": "sources", "path": str(sources)},
                {"name": "results", "path": str(results), "writable": True},
            ],
        }
    )
    assert int(vm.run("cat /sys/block/sdb/size").stdout) * 512 == 48 * 1024**2
    assert vm.run("head -c 18 /dev/sr0").stdout == "what the disc says"
    assert 150_000 < int(vm.run("awk '/MemTotal/ {print $2}' /proc/meminfo").stdout) < 192 * 1024
    vm.run("mkdir -p /s /r && mount -t vboxsf sources /s && mount -t vboxsf results /r")
    assert vm.run("cat /s/main.c").stdout == "int main;\n"
    assert vm.run("echo no > /s/new", check=False).returncode != 0
    vm.run("echo done > /r/log")
    assert (results / "log").read_text() == "done\n"
    assert [path.name for path in sources.iterdir()] == ["main.c"]

    vm.run("dd if=/dev/zero bs=1M count=1 2>/dev/null | tr '\\0' x > /dev/sdb; sync")
    vm.reset()
    assert vm.run("head -c 4 /dev/sdb | od -An -c").stdout.split() == ["\\0"] * 4
