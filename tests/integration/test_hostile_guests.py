"""Guests that break, or mean harm: an error in time that says what was seen, and the machine goes as any other."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from machine_support import disk_of, sha256

from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.guest import CommandError, CommandTimeout, ConnectionLost, FileExists, GuestError, LoginRefused
from pytest_vbox.guest.output import Output
from pytest_vbox.machines import BootError, Machine, MachineError, VirtualBoxHost
from pytest_vbox.models import Image

# What ignores to be asked to end: in a session of its own, in the background, and in front.
_STUBBORN = """
trap '' TERM
setsid sh -c 'trap "" TERM; sleep 4321' &
(trap '' TERM; sleep 4322) &
sleep 4323
"""


@pytest.fixture(scope="module")
def vm(module_vbox_machine: MachineFactory) -> Machine:
    """A machine for the tests that leave nothing behind in it."""
    return module_vbox_machine(name="breaks")


def _notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


def _is_gone(host: VirtualBoxHost, name: str) -> bool:
    return name not in [machine.name for machine in host.api.machines]


@pytest.mark.parametrize(("command", "state"), [("reboot -f", "Running"), ("poweroff -f", "PoweredOff")])
def test_a_guest_that_leaves_in_the_middle_of_a_command_is_told_as_a_lost_connection_and_removed(
    command: str, state: str, vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    vm = vbox_machine()
    with pytest.raises(ConnectionLost, match="hung up, or was gone, before the command ended") as caught:
        vm.run(f"{command}; sleep 100", timeout=60)
    assert f"machine state: {state}" in _notes(caught.value)
    if state == "Running":
        vm.reconnect()
        assert vm.run("echo again").stdout == "again\n"
    vbox_host.remove(vm)
    assert _is_gone(vbox_host, vm.name)


@pytest.mark.parametrize(
    ("command", "shown"),
    [("echo c > /proc/sysrq-trigger", "Kernel panic"), ("kill -STOP -1", "machine state: Running")],
    ids=["its kernel panics", "all its processes are stopped"],
)
def test_a_guest_that_stands_still_is_told_from_a_command_that_is_slow_and_removed(
    command: str, shown: str, vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    vm = vbox_machine()
    match = r"The guest has sent nothing for \d+ s: it hangs, or is paused"
    with pytest.raises(CommandTimeout, match=match) as caught:
        vm.run(f"{command}; sleep 100", timeout=6)
    assert shown in _notes(caught.value)
    vbox_host.remove(vm)
    assert _is_gone(vbox_host, vm.name)


def test_a_machine_that_is_paused_in_the_middle_of_a_command_is_an_error_in_time_that_says_so(
    vbox_machine: MachineFactory,
) -> None:
    vm = vbox_machine()
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(vm.run, "touch /tmp/begun; sleep 1000", timeout=8)
        vm.wait_for(FileExists("/tmp/begun"), timeout=30)
        vm.pause()
        begun = time.monotonic()
        with pytest.raises(CommandTimeout, match=r"has sent nothing for \d+ s: it hangs, or is paused") as caught:
            done.result(120)
    assert time.monotonic() - begun < 60
    assert "machine state: Paused" in _notes(caught.value)
    vm.resume()
    vm.reconnect()
    assert vm.run("echo on").stdout == "on\n"


def test_a_guest_that_switches_itself_off_while_it_boots_is_told_at_once(vbox_machine: MachineFactory) -> None:
    vm = vbox_machine()
    vm.run("sed -i '1i ::sysinit:/bin/sh -c \"sleep 1; poweroff -f\"' /etc/inittab; sync")
    vm.power_off()
    with pytest.raises(BootError, match="went to state PoweredOff by itself"):
        vm.start()


def test_a_guest_whose_disk_is_full_says_so_for_commands_and_copies(
    vbox_machine: MachineFactory, tiny: Image, tmp_path: Path
) -> None:
    before = sha256(disk_of(tiny))
    vm = vbox_machine()
    # Most of it without a byte being written, as an interpreted guest writes some MB/s.
    vm.run("fallocate -l $(( ($(df -k / | awk 'END { print $4 }') - 2000) * 1024 )) /most")
    with pytest.raises(CommandError, match="No space left on device"):
        vm.run("dd if=/dev/zero of=/rest bs=4k && sync")
    (tmp_path / "big").write_bytes(bytes(100_000))
    with pytest.raises(GuestError, match="/root/big"):
        vm.put(tmp_path / "big", "/root/big")
    assert vm.run("echo still here").stdout == "still here\n"
    vm.reconnect()
    vm.run("rm /rest")
    vm.put(tmp_path / "big", "/root/big")
    assert sha256(disk_of(tiny)) == before


def test_a_timeout_kills_what_ignores_it_and_what_made_a_session_of_its_own(vm: Machine) -> None:
    with pytest.raises(CommandTimeout, match="processes in the guest were killed"):
        vm.run(_STUBBORN, timeout=3)
    vm.wait_for(lambda: "sleep 432" not in vm.run(["ps"]).stdout, timeout=20)


@pytest.mark.parametrize("to", ["", " >&2"])
def test_a_flood_without_newlines_is_cut_with_a_note(
    to: str, vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An interpreted guest sends some 100 kB/s; the real limit is tried against a server on this computer.
    monkeypatch.setattr(Output.__init__, "__defaults__", (100_000,))
    done = vm.run(f"head -c 1000000 /dev/zero{to}", timeout=100)
    text = done.stderr if to else done.stdout
    assert "bytes left out here" in text
    assert len(text) < 250_000


def test_a_user_whose_shell_runs_nothing_is_told_from_a_command_that_fails(
    vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None], tiny: Image
) -> None:
    yaml_images(f"tiny: {{disk: {disk_of(tiny)}, user: vagrant, private_key: {tiny.private_key}}}")
    vm = vbox_host.machine("tiny", "tiny", name="noshell")
    try:
        with pytest.raises(CommandError) as failed:
            vm.run("exit 1")
        assert "does not run commands" not in str(failed.value)
        keys = "/home/vagrant/.ssh/authorized_keys"
        vm.run(f"sed -i 's|^|command=\"/bin/false\" |' {keys}")
        vm.reconnect()
        with pytest.raises(CommandError, match=r"shell in the guest does not run commands.*answered nothing"):
            vm.run("true", check=False)
    finally:
        vbox_host.remove(vm)


def test_a_user_without_a_shell_is_refused_with_a_hint_at_it(
    vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None], tiny: Image
) -> None:
    yaml_images(
        f"tiny: {{disk: {disk_of(tiny)}, user: vagrant, password: vagrant, private_key: {tiny.private_key}}}"
    )
    vm = vbox_host.machine("tiny", "tiny", name="gone-shell")
    try:
        vm.run("sed -i '/^vagrant/s|/bin/sh$|/bin/false|' /etc/passwd", sudo=True)
        with pytest.raises(BootError) as caught:
            vm.reconnect(60)
        assert isinstance(caught.value.__cause__, LoginRefused)
        assert "/etc/shells" in str(caught.value)
    finally:
        vbox_host.remove(vm)


def test_a_guest_that_lies_about_its_address_is_not_believed(vbox_machine: MachineFactory) -> None:
    vm = vbox_machine()
    assert vm.ip() == "10.0.2.15"
    # Nobody in the guest tells the truth any more; what its Guest Additions said goes with them.
    vm.run("kill -STOP 1; killall VBoxService", check=False)
    vm.wait_for(lambda: not vm.guest_property("/VirtualBox/GuestInfo/Net/Count"), timeout=30)
    mac = vm.api.get_network_adapter(0).mac_address
    for name, lie in {"Count": "999999999", "0/MAC": mac, "0/V4/IP": "$(reboot)"}.items():
        vm.set_guest_property(f"/VirtualBox/GuestInfo/Net/{name}", lie)
    with pytest.raises(MachineError, match=r"the guest says it is '\$\(reboot\)'"):
        vm.ip(timeout=1)
