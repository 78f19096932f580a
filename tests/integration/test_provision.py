"""An image's provisioning is done once, on a disk of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from machine_support import disk_of, forget, names_of_ours, sha256

from pytest_vbox import places
from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.machines import ProvisionError, VirtualBoxHost
from pytest_vbox.models import Image


@pytest.fixture
def provisioned(tiny: Image, yaml_images: Callable[[str], None]) -> Callable[[str], None]:
    """Adds an image ``prepared`` that is tiny with these steps; its disks are gone afterwards."""

    def add(steps: str) -> None:
        yaml_images(
            f"prepared: {{disk: {tiny.disk}, user: root, private_key: {tiny.private_key}, provision: {steps}}}"
        )

    return add


def builders(host: VirtualBoxHost) -> list[str]:
    """The machines on which the image is being provisioned."""
    return [name for name in names_of_ours(host) if "provision-prepared" in name]


@pytest.fixture(autouse=True)
def _leaves_no_disks(vbox_host: VirtualBoxHost) -> object:
    folder = places.cache_folder() / "provisioned"
    before = set(folder.glob("*"))
    yield
    new = set(folder.glob("*")) - before
    forget(vbox_host, [path for path in new if path.suffix == ".vdi"])
    for path in new:
        path.unlink()


def test_what_provisioning_did_is_there_in_every_machine_and_was_done_once(
    provisioned: Callable[[str], None],
    vbox_machine: MachineFactory,
    vbox_host: VirtualBoxHost,
    tiny: Image,
    tmp_path: Path,
) -> None:
    script = tmp_path / "setup.sh"
    script.write_text(
        "#!/bin/sh\nset -eu\ncat /root/first > /root/second\nhead -c 8 /dev/urandom | md5sum > /root/random\n"
    )
    before = sha256(disk_of(tiny))
    provisioned(f"[echo one > /root/first, {{script: {script}}}]")
    one = vbox_machine(image="prepared")
    assert one.run("cat /root/first /root/second").stdout == "one\none\n"
    assert not builders(vbox_host)
    assert len(list((places.cache_folder() / "provisioned").glob("*.half*"))) == 0
    two = vbox_machine(image="prepared")
    assert two.run("cat /root/random").stdout == one.run("cat /root/random").stdout
    assert sha256(disk_of(tiny)) == before


def test_a_step_that_fails_is_told_with_what_it_said_and_is_not_tried_again_in_the_same_run(
    provisioned: Callable[[str], None], vbox_host: VirtualBoxHost
) -> None:
    provisioned("['true', 'echo no such package >&2; exit 3']")
    with pytest.raises(
        ProvisionError, match=r"(?s)image prepared: step 2 of its provisioning failed .*no such package"
    ):
        vbox_host.machine(image="prepared")
    assert not builders(vbox_host)
    with pytest.raises(ProvisionError, match=r"(?s)no such package.*another worker of this run"):
        vbox_host.machine(image="prepared")


def test_a_script_that_is_not_there_is_said_before_anything_is_made(
    provisioned: Callable[[str], None], vbox_host: VirtualBoxHost
) -> None:
    provisioned("[{script: /nope.sh}]")
    with pytest.raises(ProvisionError, match=r"/nope\.sh cannot be read: No such file"):
        vbox_host.machine(image="prepared")
