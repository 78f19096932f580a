"""A start, phase by phase; and a report that says how far a machine came and what it showed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_vbox.guest import Connection, HostKeyMismatch, LoginRefused
from pytest_vbox.machines import BootError
from pytest_vbox.machines.boot import Boot
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.forwards import Forwards
from pytest_vbox.virtualbox import Machine
from unit.kit.models import machine_model, plan
from unit.kit.service import Arguments, FakeService, Refusal, signed

from .workshop import workshop

SILENT = "<Statistics></Statistics>"
TALKING = '<Statistics><Counter c="1424" name="/Public/NetAdapter/0/BytesTransmitted"/></Statistics>'
# Stands for a connection that nobody looks into.
CONNECTED = cast(Connection, object())


class Guest:
    """The SSH server of a guest, as far as `guest.connect` is concerned."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.before: Callable[[], object] = lambda: None
        self.address: tuple[str, int] | None = None

    def connect(self, address: tuple[str, int], *_: object, on_wait: Callable[[], None], **__: Any) -> Connection:
        self.address = address
        self.before()
        on_wait()
        if self.error is not None:
            raise self.error
        return CONNECTED


@pytest.fixture
def service(service: FakeService, tmp_path: Path) -> FakeService:
    """A VirtualBox with a machine that is off, comes up when it is started, and talks at once."""
    workshop(service, str(tmp_path))
    service.objects["s"]["Console"] = service.add("console", Debugger="debugger", Display="display")

    def launch(_: Arguments) -> str:
        service.objects["m"]["State"] = "Running"
        return "progress"

    service.handlers["IMachine_launchVMProcess"] = launch
    service.answer("IMachineDebugger_getStats", TALKING)
    service.answer("IMachine_readLog", base64.b64encode(b"00:00:01 VBox is here\n").decode(), "")
    service.answer("IDisplay_getScreenResolution", {"width": 720, "height": 400})
    service.answer("IDisplay_takeScreenShotToArray", base64.b64encode(b"png").decode())
    (tmp_path / "serial.log").write_text("Kernel panic - not syncing\n")
    return service


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    found = Guest()
    monkeypatch.setattr("pytest_vbox.guest.connect", found.connect)
    return found


@pytest.fixture
def boot_of(service: FakeService, tmp_path: Path) -> Iterator[Callable[..., Boot]]:
    """Makes the boot of the machine, with a network as given."""
    made: list[Forwards] = []

    def boot(network: list[object] | None = None) -> Boot:
        model = machine_model({"network": network} if network is not None else None)
        forwards = Forwards(tmp_path / "state", model, "127.0.0.1")
        made.append(forwards)
        context = Context(service.session, tmp_path / "state", True, "127.0.0.1", tmp_path / "shown")
        return Boot(context, plan(model), Machine(service.api, "m"), forwards, None)

    yield boot
    for forwards in made:
        forwards.release()


def _failure(boot: Boot) -> BootError:
    with pytest.raises(BootError) as caught:
        boot.start()
    return caught.value


def test_a_boot_goes_through_its_phases_to_a_connection(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot]
) -> None:
    service.answer("IMachineDebugger_getStats", SILENT, TALKING)
    boot = boot_of()
    assert boot.start() is CONNECTED
    assert list(boot.phases) == ["launch", "forward", "network", "ssh"]
    assert all(0 <= seconds < 30 for seconds in boot.phases.values())
    assert guest.address is not None
    assert guest.address[0] == "127.0.0.1"
    # The lock that came with the start was given back, and the one for asking about packets too.
    assert service.names.count("ISession_unlockMachine") == 2


@pytest.mark.parametrize("state", ["Saved", "AbortedSaved"])
def test_a_machine_that_goes_on_from_its_saved_state_is_tried_at_once(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot], state: str
) -> None:
    service.objects["m"]["State"] = state
    boot = boot_of()
    assert boot.start() is CONNECTED
    assert list(boot.phases) == ["launch", "forward", "network", "ssh"]
    assert guest.address is not None


def test_without_a_way_in_there_is_no_connection(guest: Guest, boot_of: Callable[..., Boot]) -> None:
    boot = boot_of([{"attachment": "null"}])
    assert boot.start() is None
    assert list(boot.phases) == ["launch", "forward"]
    assert guest.address is None


def test_a_guest_that_says_nothing_unasked_is_tried_all_the_same(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vbox.machines.boot._SILENT_GUEST", 0.01)
    service.answer("IMachineDebugger_getStats", SILENT)
    assert boot_of().start() is CONNECTED
    assert guest.address is not None


# What is told


def test_a_report_says_how_far_it_came_and_what_was_seen(
    guest: Guest, boot_of: Callable[..., Boot], tmp_path: Path
) -> None:
    guest.error = LoginRefused("root", tried=["password"])
    error = _failure(boot_of())
    assert (error.machine, error.phase) == ("pytest-one-12345678", "ssh")
    folder = tmp_path / "shown" / "test_a-py-test_one" / "pytest-one-12345678"
    assert error.screenshot == folder / "screenshot.png"
    assert error.screenshot.read_bytes() == b"png"
    lines = error.report.splitlines()
    assert lines[0] == "machine pytest-one-12345678 (image tiny, profile micro) did not come up"
    assert lines[1].startswith("phase: ssh, after 0.")
    assert lines[1].endswith("s of at most 30 s")
    assert lines[2].startswith("reason: ")
    assert "machine state: Running" in lines
    assert "    Kernel panic - not syncing" in lines
    assert f"saved: {folder / 'serial.log'}" in lines
    assert lines[-1].startswith("try: compare the image's user, password, private_key and host_key")
    assert error.__cause__ is guest.error


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("The VM session was closed (VERR_VMX_NO_VMX)", "kernel driver and hardware virtualisation"),
        ("Cannot open /dev/vboxdrv", "kernel driver and hardware virtualisation"),
        ("Could not find an open hard disk", "VBoxManage startvm"),
    ],
)
def test_a_machine_that_cannot_be_started(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot], words: str, advice: str
) -> None:
    service.answer("IMachine_launchVMProcess", "failed")
    info = service.error_info(words)
    service.add("failed", Completed=True, ResultCode=signed(0x80004005), Description="Starting VM", ErrorInfo=info)
    error = _failure(boot_of())
    assert error.phase == "launch"
    assert f"Starting VM: {words}" in error.report
    assert advice in error.report.splitlines()[-1]
    assert guest.address is None


def test_a_port_of_the_model_that_is_taken(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot]
) -> None:
    log = "NAT#0: failed to set up redirection of 8080 to :80\n"
    service.answer("IMachine_readLog", base64.b64encode(log.encode()).decode(), "")
    error = _failure(boot_of([{"nat_rules": [{"name": "web", "host_port": 8080, "guest_port": 80}]}]))
    assert error.phase == "forward"
    assert "port 8080 of the host, which the rule 'web' wants, is taken" in error.report
    assert guest.address is None


def test_a_machine_that_dies_before_it_says_anything(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot]
) -> None:
    def die(_: Arguments) -> str:
        service.objects["m"]["State"] = "Aborted"
        return SILENT

    service.handlers["IMachineDebugger_getStats"] = die
    error = _failure(boot_of())
    assert error.phase == "network"
    assert "reason: the machine went to state Aborted by itself" in error.report
    assert error.screenshot is None
    assert guest.address is None


@pytest.mark.parametrize("noticed", [True, False])
def test_a_machine_that_dies_while_it_is_tried_is_the_reason_for_the_rest(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot], noticed: bool
) -> None:
    def die() -> None:
        service.objects["m"]["State"] = "Aborted"
        if not noticed:
            raise LoginRefused("root", tried=["password"])

    guest.before = die
    error = _failure(boot_of())
    assert error.phase == "ssh"
    assert "reason: the machine went to state Aborted by itself" in error.report


def test_a_machine_that_is_just_going_off_is_told_as_what_it_ends_in(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot]
) -> None:
    def die() -> None:
        states = iter(["Stopping", "Stopping"])
        service.handlers["IMachine_getState"] = lambda _: next(states, "PoweredOff")

    guest.before = die
    error = _failure(boot_of())
    assert "reason: the machine went to state PoweredOff by itself" in error.report
    assert "machine state: PoweredOff" in error.report


def test_a_login_that_cloud_init_should_have_made_possible(guest: Guest, boot_of: Callable[..., Boot]) -> None:
    guest.error = LoginRefused("deploy", tried=["publickey"])
    guest.error.tries = 12
    lines = _failure(boot_of()).report.splitlines()
    assert "refused to log in 'deploy', 12 times" in "\n".join(lines)
    assert lines[-1].startswith("try: look at what cloud-init says on the screenshot and the serial console")


def test_a_guest_with_another_host_key(guest: Guest, boot_of: Callable[..., Boot]) -> None:
    guest.error = HostKeyMismatch(expected="ssh-ed25519 A", got="ssh-ed25519 B")
    assert "host_key with what is in the guest" in _failure(boot_of()).report.splitlines()[-1]


def test_a_report_that_cannot_be_saved_is_still_a_report(
    guest: Guest, boot_of: Callable[..., Boot], tmp_path: Path
) -> None:
    (tmp_path / "shown").write_text("a file where the folder would be")
    guest.error = LoginRefused("root", tried=["password"])
    error = _failure(boot_of())
    assert "Kernel panic" in error.report
    assert "saved:" not in error.report
    assert error.screenshot is None


def test_a_machine_that_virtualbox_has_lost_is_still_a_report(
    service: FakeService, guest: Guest, boot_of: Callable[..., Boot]
) -> None:
    guest.before = lambda: service.answer("IMachine_getState", Refusal(0x80BB0001, "no such machine"))
    error = _failure(boot_of())
    assert "machine state: unknown" in error.report
    assert "no such machine" in error.report
