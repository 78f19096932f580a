"""Bases: registered once, never written, and refused with a way out when they cannot be used. No boots here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from machine_support import forget, media_of_machines, names_of_ours, sha256

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Bases, ImageError
from pytest_vbox.images.bases import anchor_id
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.virtualbox.enums import CleanupMode, DeviceType, LockType, MediumType, StorageBus

Make = Callable[[Path], object]


@pytest.fixture
def make(vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None]) -> Iterator[Make]:
    """Makes a machine from a disk, without starting it, and removes it again."""

    def make_one(disk: Path, attach: str = "multiattach") -> object:
        yaml_images(f"under-test: {{disk: {disk}, attach: {attach}}}")
        machine = vbox_host.machine("under-test", "tiny", start=False)
        medium = machine.api.medium_attachments[0].medium
        assert medium is not None
        parent = medium.parent
        assert parent is not None
        kind = parent.type
        vbox_host.remove(machine)
        return kind

    yield make_one
    assert not vbox_host.machines


@pytest.mark.parametrize("attach", ["multiattach", "immutable"])
def test_a_base_becomes_what_the_image_says_and_its_file_stays_as_it_was(
    attach: str, own_image: Callable[[str], Path], make: Callable[..., object]
) -> None:
    disk = own_image("base.vdi")
    before = sha256(disk)
    wanted = MediumType.MULTI_ATTACH if attach == "multiattach" else MediumType.IMMUTABLE
    assert make(disk, attach) is wanted
    assert make(disk, attach) is wanted
    assert sha256(disk) == before


def test_a_base_can_change_from_multiattach_to_immutable_when_nothing_uses_it(
    own_image: Callable[[str], Path], make: Callable[..., object]
) -> None:
    disk = own_image("base.vdi")
    assert make(disk, "multiattach") is MediumType.MULTI_ATTACH
    assert make(disk, "immutable") is MediumType.IMMUTABLE


def test_a_base_in_use_as_multiattach_is_refused_as_immutable(
    own_image: Callable[[str], Path], vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None]
) -> None:
    disk = own_image("base.vdi")
    yaml_images(f"used: {{disk: {disk}}}\nother: {{disk: {disk}, attach: immutable}}")
    machine = vbox_host.machine("used", "tiny", start=False)
    with pytest.raises(ImageError, match="in use as MultiAttach, and cannot be Immutable"):
        vbox_host.machine("other", "tiny", start=False)
    vbox_host.remove(machine)


def test_a_base_whose_anchor_was_removed_heals(
    own_image: Callable[[str], Path], make: Callable[..., object], vbox_host: VirtualBoxHost
) -> None:
    disk = own_image("base.vdi")
    make(disk)
    vbox_host.api.find_machine(str(anchor_id(str(disk)))).unregister(CleanupMode.UNREGISTER_ONLY)
    assert make(disk) is MediumType.MULTI_ATTACH


def test_a_base_that_is_a_users_own_machines_disk_is_refused_by_the_machines_name(
    own_image: Callable[[str], Path], make: Make, vbox_host: VirtualBoxHost
) -> None:
    disk = own_image("users.vdi")
    users = vbox_host.api.create_machine("", "somebody's own", ["/"], "Other_64", "forceOverwrite=1")
    users.add_storage_controller("SATA", StorageBus.SATA)
    users.save_settings()
    vbox_host.api.register_machine(users)
    medium = vbox_host.api.open_medium(str(disk))
    try:
        with vbox_host.session.lock(users, LockType.WRITE, Deadline(10)) as held:
            held.machine.attach_device("SATA", 0, 0, DeviceType.HARD_DISK, medium)
            held.machine.save_settings()
        with pytest.raises(ImageError, match=r"attached, writable, to machine .somebody's own.*clonemedium"):
            make(disk)
    finally:
        users.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
        users.delete_config([]).wait(Deadline(10))
    assert disk.exists()


def test_a_copy_with_the_same_uuid_is_refused_with_the_command_that_gives_it_one(
    own_image: Callable[[str], Path], make: Make, tmp_path: Path, vbox_host: VirtualBoxHost
) -> None:
    disk = own_image("base.vdi")
    make(disk)
    copy = tmp_path / "copy.vdi"
    shutil.copy(disk, copy)
    with pytest.raises(ImageError, match=r"same UUID as another disk(.|\n)*sethduuid") as caught:
        make(copy)
    assert str(copy) in str(caught.value)
    assert str(disk) in str(caught.value)
    forget(vbox_host, [copy])


def test_a_differencing_disk_is_refused_as_a_base(
    own_image: Callable[[str], Path], vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None]
) -> None:
    disk = own_image("base.vdi")
    yaml_images(f"whole: {{disk: {disk}}}")
    machine = vbox_host.machine("whole", "tiny", start=False)
    medium = machine.api.medium_attachments[0].medium
    assert medium is not None
    bases = Bases(vbox_host.session, places.state_folder())
    with (
        pytest.raises(ImageError, match=r"is a differencing disk \(its parent is .*base.vdi\)"),
        bases.ready(Path(medium.location), MediumType.MULTI_ATTACH, Deadline(10)),
    ):
        pass
    vbox_host.remove(machine)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "no format that VirtualBox reads"),
        (b"this is no disk" * 100, r"no format that VirtualBox reads(.|\n)*qemu-img convert"),
    ],
    ids=["missing", "empty", "text"],
)
def test_a_file_that_is_no_disk_is_refused_by_its_name(
    content: bytes | None, message: str, make: Make, tmp_path: Path
) -> None:
    disk = tmp_path / "strange.vdi"
    if content is not None:
        disk.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        make(disk)
    assert str(disk) in str(caught.value)


def test_a_truncated_disk_is_refused(own_image: Callable[[str], Path], make: Make) -> None:
    disk = own_image("short.vdi")
    with disk.open("r+b") as file:
        file.truncate(300)
    with pytest.raises(ImageError, match=r"short\.vdi"):
        make(disk)


def test_a_folder_is_refused_as_a_disk(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a file"):
        make(tmp_path)


def test_a_refused_image_leaves_no_machine_and_no_disk_behind(
    make: Make, tmp_path: Path, vbox_host: VirtualBoxHost
) -> None:
    with pytest.raises(ImageError):
        make(tmp_path / "missing.vdi")
    assert not [name for name in names_of_ours(vbox_host) if "under-test" in name]


def test_eight_threads_asking_at_once_get_eight_machines_on_one_base(
    own_image: Callable[[str], Path], vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None]
) -> None:
    disk = own_image("shared.vdi")
    before = sha256(disk)
    yaml_images(f"shared: {{disk: {disk}}}")
    with ThreadPoolExecutor(8) as pool:
        machines = list(pool.map(lambda _: vbox_host.machine("shared", "tiny", start=False), range(8)))
    assert len({machine.name for machine in machines}) == 8
    assert len({machine.address for machine in machines}) == 8
    for machine in machines:
        vbox_host.remove(machine)
    assert not [location for location in media_of_machines(vbox_host) if "pytest-shared" in location]
    assert sha256(disk) == before


def test_what_the_model_says_is_seen_on_the_real_machine(vbox_host: VirtualBoxHost) -> None:
    hardware = {
        "memory": "300 MiB",
        "cpus": 2,
        "vram": 20,
        "os_type": "Ubuntu_64",
        "boot_order": ["dvd", "hard-disk"],
        "rtc_utc": True,
        "firmware": "efi",
        "storage": [{"bus": "ide", "name": "Disks"}],
        "extra_data": {"VBoxInternal/Test": 7},
        "network": [
            {"nat_rules": [{"guest_port": 80, "name": "web"}]},
            None,
            {"attachment": None, "adapter_type": "virtio", "mac_address": "08:00:27:00:00:01"},
        ],
    }
    machine = vbox_host.machine("tiny", "tiny", hardware=hardware, start=False)
    api = machine.api
    try:
        assert (api.memory_size, api.cpu_count, api.os_type_id) == (300, 2, "Ubuntu_64")
        assert api.graphics_adapter.vram_size == 20
        assert api.platform.rtc_use_utc
        assert api.firmware_kind.firmware_type == "EFI"
        assert api.get_extra_data("VBoxInternal/Test") == "7"
        assert [attachment.controller for attachment in api.medium_attachments] == ["Disks"]
        first, second, third = (api.get_network_adapter(slot) for slot in range(3))
        rules = {rule.name: rule for rule in first.nat_engine.redirects}
        assert rules["ssh"].guest_port == 22
        assert rules["web"].guest_port == 80
        assert rules["web"].host_port == machine.forward(80)[1]
        assert not second.enabled
        assert (third.attachment_type, third.adapter_type) == ("Null", "Virtio")
        assert third.mac_address == "080027000001"
        assert api.groups == ["/pytest-vbox"]
        owner = json.loads(api.get_extra_data("pytest-vbox/owner"))
        assert (owner["run"], owner["pid"], owner["test"]) == (vbox_host.run, os.getpid(), "")
    finally:
        vbox_host.remove(machine)


@pytest.mark.parametrize("bus", ["ide", "sata", "scsi", "sas", "virtio", "nvme"])
def test_a_base_can_be_attached_to_every_kind_of_controller(bus: str, vbox_host: VirtualBoxHost) -> None:
    machine = vbox_host.machine("tiny", "tiny", hardware={"storage": [{"bus": bus}]}, start=False)
    try:
        assert len(machine.api.medium_attachments) == 1
    finally:
        vbox_host.remove(machine)
