"""What a machine shows when something went wrong: all that can be had, and never an error of its own."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest

from pytest_vbox.machines import BootError, Diagnosis
from pytest_vbox.machines.diagnosis import check_not_stopped, diagnose
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.virtualbox import Machine
from pytest_vbox.virtualbox.enums import MachineState
from unit.kit.service import Arguments, FakeService, Refusal

PNG = b"\x89PNG\r\n\x1a\n..."


@pytest.fixture
def machine(service: FakeService, tmp_path: Path) -> Machine:
    """A machine that runs, with a screen, a serial log and a VBox.log."""
    service.add("m", State="Running", SettingsFilePath=str(tmp_path / "one.vbox"))
    service.add(
        "s", State="Locked", Machine="mutable", Console=service.add("console", Display=service.add("display"))
    )
    for operation in ("IMachine_lockMachine", "ISession_unlockMachine"):
        service.answer(operation, None)
    service.answer("IWebsessionManager_getSessionObject", "s")
    service.answer("IDisplay_getScreenResolution", {"width": 720, "height": 400})
    service.answer("IDisplay_takeScreenShotToArray", base64.b64encode(PNG).decode())
    _log(service, b"00:00:01 Starting\n00:00:02 Ready\n")
    (tmp_path / "serial.log").write_bytes(b"Booting\r\nlogin: ")
    return Machine(service.api, "m")


def _log(service: FakeService, content: bytes, chunk: int = 10) -> None:
    """A VBox.log that is given out in small parts, as the server may do."""

    def read(arguments: Arguments) -> str:
        start = arguments["offset"]
        return base64.b64encode(content[start : start + min(chunk, arguments["size"])]).decode()

    service.handlers["IMachine_readLog"] = read


def test_everything_is_gathered(service: FakeService, machine: Machine) -> None:
    shown = diagnose(service.session, machine, local=True)
    assert shown == Diagnosis("Running", PNG, "Booting\nlogin: ", "00:00:01 Starting\n00:00:02 Ready\n")
    (asked,) = service.called("IDisplay_takeScreenShotToArray")
    assert (asked["width"], asked["height"], asked["bitmapFormat"]) == (720, 400, "PNG")


def test_files_of_another_computer_are_not_looked_for(service: FakeService, machine: Machine) -> None:
    assert diagnose(service.session, machine, local=False).serial == ""


def test_a_machine_that_is_off_has_no_picture(service: FakeService, machine: Machine) -> None:
    service.objects["m"]["State"] = "Aborted"
    assert diagnose(service.session, machine, local=True).screenshot == b""
    assert "IMachine_lockMachine" not in service.names


def test_what_cannot_be_had_is_left_out(service: FakeService, machine: Machine, tmp_path: Path) -> None:
    for operation in ("IDisplay_getScreenResolution", "IMachine_readLog"):
        service.answer(operation, Refusal(0x80004005, "no"))
    (tmp_path / "serial.log").unlink()
    assert diagnose(service.session, machine, local=True) == Diagnosis("Running", b"", "", "")


def test_a_machine_that_is_gone_is_unknown(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getState", Refusal(0x80BB0001, "no such machine"))
    shown = diagnose(service.session, machine, local=True)
    assert shown.state.startswith("unknown (")
    assert "no such machine" in shown.text()


def test_the_end_of_each_log_is_shown() -> None:
    serial = "".join(f"line {number}\n\n" for number in range(40))
    text = Diagnosis("Running", PNG, serial, f"{'x' * 500}\n").text()
    assert "machine state: Running" in text
    assert "line 24\n" not in text
    assert "    line 25\n" in text
    assert "    line 39\n" in text
    assert f"    {'x' * 200}" in text
    assert "x" * 201 not in text


def test_an_empty_log_says_why_that_may_be() -> None:
    text = Diagnosis("PoweredOff", b"", "", "").text()
    assert "serial console: it said nothing; does the guest have a console on its first port?" in text
    assert "VBox.log: there is none" in text


@pytest.mark.parametrize("sequence", [b"\x1b[2J", b"\x07", b"\x9b1m", b"\x00", "\u202e".encode()])
def test_a_guest_cannot_drive_the_readers_terminal(
    service: FakeService, machine: Machine, tmp_path: Path, sequence: bytes
) -> None:
    (tmp_path / "serial.log").write_bytes(b"before" + sequence + b"after\tthat\n")
    _log(service, b"VMMDev: Guest Log: " + sequence + b"after\n")
    text = diagnose(service.session, machine, local=True).text()
    assert all(letter.isprintable() or letter in "\n\t" for letter in text)
    assert "before" in text
    assert "after\tthat" in text


def test_why_virtualbox_has_paused_a_machine_is_printable_for_a_guest_can_write_it_too(
    service: FakeService, machine: Machine
) -> None:
    line = (
        b'00:01 VMMDev: Guest Log: VM runtime error: x errorID=Fake message="\x1b]0;owned\x07 \xe2\x80\xaeyes"\r\n'
    )
    _log(service, line, chunk=1000)
    service.objects["m"]["Name"] = "one"
    with pytest.raises(MachineError, match=r"by itself: \\x1b\]0;owned\\x07 \\u202eyes \(Fake\)") as caught:
        check_not_stopped(machine, MachineState.PAUSED, local=False)
    assert str(caught.value).isprintable()


def test_what_there_is_is_saved(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    files = Diagnosis("Running", PNG, "ü serial", "").save(folder)
    assert files == [folder / "screenshot.png", folder / "serial.log"]
    assert files[0].read_bytes() == PNG
    assert files[1].read_text(encoding="utf-8") == "ü serial"
    assert sorted(folder.iterdir()) == files


def test_of_long_logs_the_end_counts(
    service: FakeService, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vbox.machines.diagnosis._SERIAL_LIMIT", 1000)
    (tmp_path / "serial.log").write_bytes(b"start\n" + b"x" * 1000 + b"\nend\n")
    serial = diagnose(service.session, machine, local=True).serial
    assert serial == "x" * 995 + "\nend\n"


@pytest.mark.parametrize("picture", [None, Path("/a/screenshot.png")])
def test_a_boot_error_survives_the_way_between_processes(picture: Path | None) -> None:
    error = BootError("pytest-one", "ssh", 12.5, "machine pytest-one did not come up", picture)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert str(copy) == "machine pytest-one did not come up"
    assert (copy.machine, copy.phase, copy.seconds, copy.screenshot) == ("pytest-one", "ssh", 12.5, picture)
