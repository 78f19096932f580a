"""Guests that break, or mean harm: an error in time that says what was seen, and the machine goes as any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_support import disk_of, sha256

from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.guest import CommandTimeout, ConnectionLost, GuestError
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Image


def _is_gone(host: VirtualBoxHost, name: str) -> bool:
    return name not in [machine.name for machine in host.api.machines]


@pytest.mark.parametrize("command", ["reboot -f", "poweroff -f"])
def test_a_guest_that_leaves_in_the_middle_of_a_command_is_told_as_a_lost_connection_and_removed(
    command: str, vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    vm = vbox_machine()
    with pytest.raises(ConnectionLost, match="hung up, or was gone, before the command ended"):
        vm.run(f"{command}; sleep 100", timeout=60)
    vbox_host.remove(vm)
    assert _is_gone(vbox_host, vm.name)


@pytest.mark.parametrize(
    "command",
    ["echo c > /proc/sysrq-trigger", "kill -STOP -1"],
    ids=["its kernel panics", "all its processes are stopped"],
)
def test_a_guest_that_stands_still_is_told_from_a_command_that_is_slow_and_removed(
    command: str, vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    vm = vbox_machine()
    with pytest.raises(CommandTimeout, match=r"The guest has sent nothing for \d+ s: it hangs, or is paused"):
        vm.run(f"{command}; sleep 100", timeout=5)
    vbox_host.remove(vm)
    assert _is_gone(vbox_host, vm.name)


def test_a_guest_whose_disk_is_full_says_so_for_commands_and_copies(
    vbox_machine: MachineFactory, tiny: Image, tmp_path: Path
) -> None:
    before = sha256(disk_of(tiny))
    vm = vbox_machine()
    vm.run("mkdir -p /full && mount -t tmpfs -o size=64k none /full")
    done = vm.run("dd if=/dev/zero of=/full/all bs=4k", check=False)
    assert "No space left on device" in done.stderr
    (tmp_path / "big").write_bytes(bytes(100_000))
    with pytest.raises(GuestError, match="/full/big"):
        vm.put(tmp_path / "big", "/full/big")
    assert vm.run("echo still here").stdout == "still here\n"
    assert sha256(disk_of(tiny)) == before
