"""An image told by cloud-init: its user, key and host name come from the seed, and nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from machine_support import disk_of, locations

from pytest_vbox.guest import CloudInitFailed
from pytest_vbox.machines import BootError, VirtualBoxHost
from pytest_vbox.models import Image, ModelError


@pytest.fixture
def seeded(tiny: Image, yaml_images: Callable[[str], None]) -> Callable[[str], None]:
    """Adds the image ``seeded``: the disk of ``tiny``, with a user that is not on it, and this cloud_init."""

    def add(cloud_init: str) -> None:
        yaml_images(f"seeded: {{disk: {disk_of(tiny)}, user: deploy, cloud_init: {cloud_init}}}")

    return add


def _discs(host: VirtualBoxHost) -> list[str]:
    return [place for place in locations(host.api.dvd_images) if "pytest-seeded" in place]


def test_a_guest_gets_user_key_and_host_name_from_its_seed_which_goes_with_it(
    seeded: Callable[[str], None], vbox_host: VirtualBoxHost
) -> None:
    seeded(r'{user_data: "runcmd:\n- echo \"$(hostname) greets\" > /etc/greeting\n- [touch, /etc/a b]\n"}')
    vm = vbox_host.machine("seeded", "tiny", name="Seeded_one", reset="disk")
    try:
        folder = Path(vm.api.settings_file_path).parent
        assert list(vm.phases) == ["clone", "launch", "forward", "network", "ssh", "cloud-init"]
        name = vm.name.lower().replace("_", "-")
        assert vm.run("id -un; hostname; cat /etc/greeting").stdout == f"deploy\n{name}\n{name} greets\n"
        assert vm.run("id -un; test -e '/etc/a b'", sudo=True).stdout == "root\n"
        assert vm.run("cloud-init status").stdout == "status: done\n"
        assert vm.run("grep ^deploy: /etc/shadow", sudo=True).stdout.startswith("deploy:!:")
        assert (folder / "cloud-init.iso").stat().st_mode & 0o777 == 0o600
        key = vbox_host.context.private_key(vbox_host.catalogue.images["seeded"])
        assert key is not None
        assert key.is_relative_to(vbox_host.context.state / "keys")

        # An emptied disk is a first boot again.
        vm.run("rm /etc/greeting", sudo=True)
        vm.reset("disk")
        assert "cloud-init" in vm.phases
        assert vm.run("cat /etc/greeting").stdout == f"{name} greets\n"
    finally:
        vbox_host.remove(vm)
    assert not folder.exists()
    assert _discs(vbox_host) == []


def test_forks_are_logged_in_to_with_the_key_that_their_golden_machine_was_told_of(
    tiny: Image, yaml_images: Callable[[str], None], vbox_host: VirtualBoxHost
) -> None:
    # A name of its own: another worker looks whether any disc of "seeded" is left.
    yaml_images(f"keyed: {{disk: {disk_of(tiny)}, user: deploy, cloud_init: {{}}}}")
    first, second = vbox_host.machine("keyed", "tiny"), vbox_host.machine("keyed", "tiny")
    try:
        for vm in (first, second):
            assert "cloud-init" not in vm.phases
            assert vm.run("id -un").stdout == "deploy\n"
        key = first._plan.key
        assert key is not None
        assert key.stat().st_mode & 0o777 == 0o600
        assert key == second._plan.key
        first.reset("disk")
        assert "cloud-init" in first.phases
        assert first.run("id -un").stdout == "deploy\n"
    finally:
        vbox_host.remove(first)
        vbox_host.remove(second)
    (golden,) = [golden for golden in vbox_host.golden.all() if golden.image == "keyed"]
    assert vbox_host.golden.remove(golden)
    assert not key.exists()


def test_what_fails_in_a_first_boot_is_told_in_its_own_phase_with_the_guests_words(
    seeded: Callable[[str], None], vbox_host: VirtualBoxHost
) -> None:
    seeded(r'{user_data: "#!/bin/sh\necho Größe: no space left >&2\nexit 3\n"}')
    with pytest.raises(BootError) as caught:
        vbox_host.machine("seeded", "tiny")
    error = caught.value
    assert error.phase == "cloud-init"
    assert isinstance(error.__cause__, CloudInitFailed)
    assert "reason: cloud-init failed in the guest:\n  ('scripts_user', RuntimeError(" in str(error)
    assert "Größe: no space left" in str(error)
    assert "try: correct the image's cloud_init" in str(error)
    assert _discs(vbox_host) == []


def test_wrong_user_data_is_told_before_there_is_a_machine(
    seeded: Callable[[str], None], vbox_host: VirtualBoxHost, tmp_path: Path
) -> None:
    file = tmp_path / "user-data.yaml"
    file.write_text("packages:\n- a\nruncmd: ]\n")
    seeded(f"{{user_data_file: {file}}}")
    before = vbox_host.machines
    with pytest.raises(
        ModelError, match=r"user-data\.yaml:3: images\.seeded\.cloud_init\.user_data_file: not valid"
    ):
        vbox_host.machine("seeded", "tiny")
    assert vbox_host.machines == before
