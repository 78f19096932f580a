"""What a machine does in its life, seen through the fixtures."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from machine_support import disk_of, sha256

from pytest_vbox.deadline import Deadline
from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.guest import CommandError, CommandSucceeds, CommandTimeout, FileExists
from pytest_vbox.machines import Machine, MachineError, VirtualBoxHost
from pytest_vbox.models import Image
from pytest_vbox.virtualbox.enums import LockType, MachineState


@pytest.fixture(scope="module")
def vm(module_vbox_machine: MachineFactory) -> Machine:
    """A machine for the tests that leave nothing behind in it."""
    return module_vbox_machine(name="life")


def test_two_machines_from_one_base_differ_in_what_they_wrote_and_the_base_is_unchanged(
    vbox_machine: MachineFactory, tiny: Image
) -> None:
    before = sha256(disk_of(tiny))
    first, second = vbox_machine(), vbox_machine()
    first.run("echo one > /root/mine; sync")
    assert first.run("cat /root/mine").stdout == "one\n"
    assert second.run("ls /root/mine", check=False).returncode != 0
    assert first.name != second.name
    assert first.address != second.address
    assert sha256(disk_of(tiny)) == before


def test_run_gives_output_and_status_as_subprocess_does(vm: Machine) -> None:
    done = vm.run("echo out; echo err >&2; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
    assert vm.run(["printf", "%s|", "a b", "$HOME", "*"]).stdout == "a b|$HOME|*|"
    assert vm.run("cat", input="päss\n").stdout == "päss\n"
    assert vm.run("echo $GREETING; pwd", env={"GREETING": "hi you"}, cwd="/etc").stdout == "hi you\n/etc\n"


def test_run_that_fails_raises_an_error_with_what_it_wrote(vm: Machine) -> None:
    with pytest.raises(CommandError, match="no such luck") as caught:
        vm.run("echo no such luck >&2; exit 7")
    assert caught.value.returncode == 7


def test_run_that_takes_too_long_is_killed_in_the_guest(vm: Machine) -> None:
    with pytest.raises(CommandTimeout):
        vm.run("echo started; sleep 1234", timeout=2)
    vm.wait_for(lambda: "1234" not in vm.run("ps").stdout, timeout=20)


def test_put_and_get_carry_files_and_folders(vm: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "data").write_bytes(bytes(range(256)) * 100)
    (folder / "run.sh").write_text("#!/bin/sh\necho it runs\n")
    (folder / "run.sh").chmod(0o755)
    vm.put(folder, "/tmp/copied")
    assert vm.run("/tmp/copied/run.sh").stdout == "it runs\n"
    vm.get("/tmp/copied", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "data").read_bytes() == bytes(range(256)) * 100


def test_wait_for_sees_a_file_that_comes_later(vm: Machine) -> None:
    vm.run("(sleep 1; touch /tmp/late) >/dev/null 2>&1 &")
    vm.wait_for(FileExists("/tmp/late"), timeout=20)
    vm.wait_for(CommandSucceeds("true"), timeout=20)


def test_forward_makes_a_guest_port_reachable_at_run_time(vm: Machine) -> None:
    vm.run("mkdir -p /tmp/www && echo hello > /tmp/www/x && httpd -p 8080 -h /tmp/www")
    host, port = vm.forward(8080)
    with urllib.request.urlopen(f"http://{host}:{port}/x", timeout=30) as reply:
        assert reply.read() == b"hello\n"
    assert vm.forward(8080) == (host, port)


def test_guest_properties_and_ip_come_from_the_guest_additions(vm: Machine) -> None:
    assert vm.ip() == "10.0.2.15"
    assert "Linux" in vm.guest_property("/VirtualBox/GuestInfo/OS/Product")
    vm.set_guest_property("/Test/greeting", "hello")
    assert vm.guest_property("/Test/greeting") == "hello"


def test_screenshot_is_a_png_and_serial_log_has_the_kernel(vm: Machine, tmp_path: Path) -> None:
    picture = vm.screenshot(tmp_path / "screen.png")
    assert picture.startswith(b"\x89PNG")
    assert (tmp_path / "screen.png").read_bytes() == picture
    assert "Linux version" in vm.serial_log()


def test_sftp_and_ssh_are_plain_paramiko(vm: Machine) -> None:
    assert "root" in vm.sftp.listdir("/")
    transport = vm.ssh.get_transport()
    assert transport is not None
    assert transport.is_active()


def test_a_paused_machine_keeps_its_connection(vm: Machine) -> None:
    vm.pause()
    assert vm.state is MachineState.PAUSED
    vm.resume()
    assert vm.run("echo still here").stdout == "still here\n"


def test_the_web_session_may_be_lost_while_a_machine_runs(vm: Machine, vbox_host: VirtualBoxHost) -> None:
    vbox_host.session.api.call("IWebsessionManager_logoff", refIVirtualBox=vbox_host.api.reference)
    assert vm.state is MachineState.RUNNING
    assert vm.screenshot().startswith(b"\x89PNG")


def test_suspend_and_start_go_on_where_the_guest_was(vm: Machine) -> None:
    vm.run("echo kept > /dev/shm/memory || echo kept > /tmp/memory")
    vm.suspend()
    assert vm.state is MachineState.SAVED
    with pytest.raises(MachineError, match="not connected"):
        vm.run("true")
    vm.start()
    assert vm.run("cat /dev/shm/memory /tmp/memory 2>/dev/null", check=False).stdout == "kept\n"


def test_restore_takes_back_disk_and_memory(vm: Machine) -> None:
    vm.run("echo before > /root/state; sync")
    vm.snapshot("before")
    vm.run("echo after > /root/state; sync")
    vm.restore("before")
    assert vm.run("cat /root/state").stdout == "before\n"


def test_a_machine_is_removed_while_its_snapshot_is_being_taken(vbox_host: VirtualBoxHost) -> None:
    vm = vbox_host.machine(name="snapping")
    with vbox_host.session.lock(vm.api, LockType.SHARED, Deadline(20)) as session:
        session.machine.take_snapshot("not waited for")
    vbox_host.remove(vm)
    assert vm.id not in {machine.id for machine in vbox_host.api.machines}


def test_a_machine_that_wrote_to_its_disk_did_not_after_reset(vbox_machine: MachineFactory, tiny: Image) -> None:
    before = sha256(disk_of(tiny))
    vm = vbox_machine()
    name, identity = vm.name, vm.id
    vm.run("echo dirty > /root/dirt; sync")
    vm.reset("disk")
    assert vm.run("ls /root/dirt", check=False).returncode != 0
    assert (vm.name, vm.id) == (name, identity)
    vm.run("echo dirty > /root/dirt; sync")
    vm.reset("fresh")
    assert vm.run("ls /root/dirt", check=False).returncode != 0
    assert vm.id != identity
    assert sha256(disk_of(tiny)) == before


def test_shutdown_and_reboot_press_the_power_button_and_a_multiattach_disk_keeps_what_was_written(
    vbox_machine: MachineFactory,
) -> None:
    vm = vbox_machine()
    vm.run("echo kept > /root/kept; sync")
    vm.reboot()
    assert vm.run("cat /root/kept").stdout == "kept\n"
    vm.shutdown()
    assert vm.state is MachineState.POWERED_OFF


def test_an_immutable_image_forgets_at_power_up(
    vbox_host: VirtualBoxHost, own_image: Callable[[str], Path], yaml_images: Callable[[str], None], tiny: Image
) -> None:
    disk = own_image("immutable.vdi")
    before = sha256(disk)
    yaml_images(
        f"forgetful: {{disk: {disk}, attach: immutable, user: {tiny.user}, private_key: {tiny.private_key}}}"
    )
    vm = vbox_host.machine("forgetful", "tiny")
    try:
        vm.run("echo dirty > /root/dirt; sync")
        vm.power_off()
        vm.start()
        assert vm.run("ls /root/dirt", check=False).returncode != 0
    finally:
        vbox_host.remove(vm)
    assert sha256(disk) == before


def test_send_keys_types_at_the_console(vm: Machine) -> None:
    # getty waits for a name and hands it to login. (login itself throws away what comes before it asks.)
    vm.send_keys("Typed_By-A:Key 1\n")
    vm.wait_for(lambda: "login -- Typed_By-A:Key 1" in vm.run("ps").stdout, timeout=30)


def test_sudo_answers_with_the_users_password_and_runs_as_root(
    vbox_host: VirtualBoxHost, yaml_images: Callable[[str], None], tiny: Image
) -> None:
    assert tiny.private_key is not None
    yaml_images(
        f"tiny: {{disk: {disk_of(tiny)}, user: vagrant, password: vagrant, private_key: {tiny.private_key}}}"
    )
    vm = vbox_host.machine("tiny", "tiny", name="sudo")
    try:
        assert vm.run("id -un").stdout == "vagrant\n"
        assert vm.run("id -un; cat", sudo=True, input="not the password\n").stdout == "root\nnot the password\n"
        assert vm.run("cat /root/secret", check=False).returncode != 0
        vm.run("echo secret > /root/secret", sudo=True)
        assert vm.run("cat /root/secret", sudo=True).stdout == "secret\n"
    finally:
        vbox_host.remove(vm)
