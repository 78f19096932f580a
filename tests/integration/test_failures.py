"""What goes wrong with real machines: each failure says what, in which phase, what was seen, and what to do."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from machine_support import disk_of, names_of_ours

from pytest_vbox.deadline import Deadline
from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.guest import ConnectionLost, GuestError, KeyUnusable, LoginRefused
from pytest_vbox.machines import BootError, VirtualBoxHost, removal
from pytest_vbox.models import Image
from pytest_vbox.virtualbox.enums import MachineState
from pytest_vbox.virtualbox.errors import VirtualBoxError


@pytest.fixture
def broken(
    own_image: Callable[[str], Path], yaml_images: Callable[[str], None], vbox_host: VirtualBoxHost
) -> Iterator[Callable[..., None]]:
    """Boots a machine from a copy of the image that has something wrong; what was made is gone afterwards."""

    def boot(*, user: str = "root", login: str = "", blank: bool = False, **arguments: object) -> None:
        disk = own_image("broken.vdi")
        if blank:
            _erase(disk)
        yaml_images(f"broken: {{disk: {disk}, user: {user}{login}}}")
        vbox_host.machine("broken", "tiny", **arguments)  # type: ignore[arg-type]

    yield boot
    assert not [name for name in names_of_ours(vbox_host) if "pytest-broken" in name]


def _erase(vdi: Path) -> None:
    """Overwrite the boot sector and the boot loader: the firmware finds nothing to boot."""
    with vdi.open("r+b") as file:
        file.seek(0x158)
        offset = int.from_bytes(file.read(4), "little")
        file.seek(offset)
        file.write(bytes(1024 * 1024))


def test_a_guest_that_does_not_boot_shows_phase_state_logs_screenshot_and_what_to_do(
    broken: Callable[..., None], vbox_host: VirtualBoxHost
) -> None:
    with pytest.raises(BootError) as caught:
        broken(blank=True, boot_timeout=8)
    error = caught.value
    assert error.phase == "ssh"
    assert 7 < error.seconds < 20
    text = str(error)
    assert "phase: ssh, after 8." in text
    assert "machine state: Running" in text
    assert "VBox.log, last lines:" in text
    assert "try: " in text
    assert error.screenshot is not None
    assert error.screenshot.read_bytes().startswith(b"\x89PNG")
    assert error.screenshot.is_relative_to(vbox_host.settings.artifacts)
    assert isinstance(error.__cause__, GuestError)


def test_a_wrong_key_and_password_are_told_from_a_guest_that_is_not_there(
    broken: Callable[..., None], tmp_path: Path
) -> None:
    key = tmp_path / "wrong_key"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(key))
    with pytest.raises(BootError, match=r"reason: (.|\n)*compare the image's user, password") as caught:
        broken(login=f", private_key: {key}, password: wrong")
    assert isinstance(caught.value.__cause__, LoginRefused)


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), ("no key", "not a private key")])
def test_an_unusable_key_file_is_refused_before_any_machine_is_made(
    content: str | None, message: str, broken: Callable[..., None], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content)
    with pytest.raises(KeyUnusable, match=message) as caught:
        broken(login=f", private_key: {key}")
    assert str(key) in str(caught.value)


def test_a_machine_whose_process_dies_while_it_boots_is_told_at_once(vbox_host: VirtualBoxHost) -> None:
    machine = vbox_host.machine("tiny", "tiny", start=False)
    try:
        with ThreadPoolExecutor(1) as pool:
            start = pool.submit(machine.start)
            vbox_host.session.wait_for_state(machine.api, frozenset({MachineState.RUNNING}), Deadline(60))
            os.kill(machine.api.session_pid, signal.SIGKILL)
            with pytest.raises(BootError, match="went to state Aborted by itself") as caught:
                start.result(60)
        assert caught.value.seconds < 60
    finally:
        vbox_host.remove(machine)


def test_a_command_whose_guest_vanishes_is_told_from_one_that_fails(vbox_machine: MachineFactory) -> None:
    vm = vbox_machine()
    vm.run("(sleep 1; poweroff -f) >/dev/null 2>&1 &")
    with pytest.raises(ConnectionLost):
        vm.run("echo before; sleep 60", timeout=90)


def _squat(kind: socket.SocketKind, port: int) -> socket.socket:
    squatter = socket.socket(type=kind)
    squatter.bind(("127.0.0.1", port))
    if kind is socket.SOCK_STREAM:
        squatter.listen()
    return squatter


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_taken_between_choice_and_start_is_replaced_by_another(
    protocol: str, vbox_machine: MachineFactory
) -> None:
    vm = vbox_machine(start=False)
    _, port = vm.forward(7, protocol)
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with _squat(kind, port):
        vm.start()
        assert vm.forward(7, protocol)[1] != port
        assert vm.run("echo reached").stdout == "reached\n"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_taken_while_it_is_forwarded_at_run_time_is_replaced_by_another(
    protocol: str, vbox_machine: MachineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = vbox_machine()
    forwards = vm._forwards
    reserve, taken = forwards._reserve, list[socket.socket]()

    def reserve_and_lose() -> int:
        port = reserve()
        if not taken:
            taken.append(_squat(socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM, port))
        return port

    monkeypatch.setattr(forwards, "_reserve", reserve_and_lose)
    _, port = vm.forward(7, protocol)
    with taken[0] as squatter:
        assert port != squatter.getsockname()[1]


def test_a_taken_port_that_the_hardware_fixes_is_an_error_that_names_the_rule(vbox_host: VirtualBoxHost) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        rule = {"name": "web", "guest_port": 80, "host_port": port}
        with pytest.raises(BootError, match=rf"port {port} of the host, which the rule 'web' wants, is taken"):
            vbox_host.machine("tiny", "tiny", hardware={"network": [{"nat_rules": [rule]}]})


def test_a_machine_that_virtualbox_refuses_to_start_gives_virtualbox_own_words(vbox_host: VirtualBoxHost) -> None:
    nonsense = {"VBoxInternal/Devices/ahci/0/Config/NoSuchKey": "1"}
    with pytest.raises(BootError, match=r"NoSuchKey|VERR_CFGM") as caught:
        vbox_host.machine("tiny", "tiny", hardware={"extra_data": nonsense})
    assert caught.value.phase == "launch"
    assert isinstance(caught.value.__cause__, VirtualBoxError)


def test_removing_twice_and_removing_a_machine_that_somebody_else_removed_do_no_harm(
    vbox_host: VirtualBoxHost,
) -> None:
    machine = vbox_host.machine("tiny", "tiny", start=False)
    assert removal.remove(vbox_host.session, machine.id, machine.name, local=True)
    vbox_host.remove(machine)
    vbox_host.remove(machine)
    assert machine.name not in names_of_ours(vbox_host)


def test_a_machine_is_removed_whatever_state_it_is_in(vbox_host: VirtualBoxHost, tiny: Image) -> None:
    before = disk_of(tiny).stat()
    machine = vbox_host.machine("tiny", "tiny")
    machine.pause()
    vbox_host.remove(machine)
    machine = vbox_host.machine("tiny", "tiny")
    machine.suspend()
    vbox_host.remove(machine)
    assert machine.name not in names_of_ours(vbox_host)
    assert not Path(machine_folder(vbox_host, machine.name)).exists()
    assert disk_of(tiny).stat().st_mtime == before.st_mtime


def machine_folder(host: VirtualBoxHost, name: str) -> str:
    """Where a machine's files are, or were."""
    return str(Path(host.api.compose_machine_filename(name, "/pytest-vbox")).parent)
