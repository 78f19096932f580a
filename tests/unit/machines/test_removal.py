"""Taking machines away: switched off whatever they do, and never a file that is not theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vbox.machines.removal import remove, remove_folder
from pytest_vbox.virtualbox.errors import FileError, InvalidVmState, ServiceUnavailable
from unit.kit.service import Arguments, FakeService, HangUp, Refusal, signed

from .workshop import NAME, workshop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the machine, with the log that VirtualBox leaves there."""
    folder = tmp_path / "pytest-vbox" / NAME
    folder.mkdir(parents=True)
    (folder / "serial.log").write_text("login: ")
    return folder


@pytest.fixture
def made(service: FakeService, folder: Path) -> FakeService:
    """A service with the machine ``m`` registered."""
    workshop(service, str(folder))
    service.answer("IVirtualBox_findMachine", "m")
    return service


def _medium(service: FakeService, name: str, location: str, parent: str = "") -> str:
    return service.add(name, Parent=parent, Location=location)


def test_only_what_lies_in_the_machines_own_folder_is_deleted(made: FakeService, folder: Path) -> None:
    own = f"{folder}/Snapshots/{{1}}.vdi"
    media = [
        _medium(made, "own", own, parent="base"),
        # The user's disk, attached directly; it would be deleted with all that is on it.
        _medium(made, "base", "/home/me/disk.vdi"),
        _medium(made, "new-disk", f"{folder}/disk-0-1.vdi"),
        _medium(made, "difference-elsewhere", "/home/me/Snapshots/{2}.vdi", parent="base"),
        _medium(made, "difference-beside", f"{folder}-two/Snapshots/{{3}}.vdi", parent="base"),
    ]
    made.answer("IMachine_unregister", media)
    assert remove(made.session, "id-1", NAME, local=True)
    assert made.called("IMachine_unregister") == [{"_this": "m", "cleanupMode": "Full"}]
    assert made.called("IMachine_deleteConfig") == [{"_this": "m", "media": ["own", "new-disk"]}]


def test_paths_of_a_windows_host_are_understood(made: FakeService) -> None:
    folder = f"VMs\\pytest-vbox\\golden\\{NAME}"
    made.objects["m"]["SettingsFilePath"] = f"C:\\{folder}\\{NAME}.vbox"
    media = [
        _medium(made, "own", f"c:\\{folder}\\Snapshots\\{{1}}.vdi", parent="base"),
        _medium(made, "also-own", f"C:/{folder}/{{2}}.vdi".replace("\\", "/"), parent="base"),
        _medium(made, "other", "C:\\VMs\\pytest-vbox\\golden\\two\\{1}.vdi", parent="base"),
        _medium(made, "beside", f"C:\\{folder}\\..\\..\\{{1}}.vdi", parent="base"),
    ]
    made.answer("IMachine_unregister", media)
    remove(made.session, "id-1", NAME, local=False)
    assert made.called("IMachine_deleteConfig") == [{"_this": "m", "media": ["own", "also-own"]}]


def test_a_machine_that_is_not_there_is_no_error(service: FakeService) -> None:
    workshop(service)
    assert not remove(service.session, "id-1", NAME, local=True)


@pytest.mark.parametrize("state", ["Running", "Paused", "Stuck"])
def test_a_machine_that_runs_is_switched_off_first(made: FakeService, state: str) -> None:
    made.objects["m"]["State"] = state
    made.objects["s"]["Console"] = made.add("console")
    made.answer("IConsole_powerDown", "progress")
    remove(made.session, "id-1", NAME, local=True)
    names = made.names
    assert names.index("IConsole_powerDown") < names.index("IMachine_unregister")


@pytest.mark.parametrize("state", ["PoweredOff", "Aborted", "Saved", "AbortedSaved"])
def test_a_machine_that_is_off_is_not_switched_off(made: FakeService, state: str) -> None:
    made.objects["m"]["State"] = state
    remove(made.session, "id-1", NAME, local=True)
    assert "IMachine_lockMachine" not in made.names


def _next_event(service: FakeService, change: Callable[[], object]) -> None:
    for operation in ("registerListener", "unregisterListener", "eventProcessed"):
        service.answer(f"IEventSource_{operation}", None)
    service.answer("IEventSource_createListener", "listener")

    def event(_: Arguments) -> str:
        change()
        return ""

    service.handlers["IEventSource_getEvent"] = event


@pytest.mark.parametrize("state", ["Starting", "Restoring", "Saving", "Stopping"])
def test_a_machine_between_two_states_is_waited_for(made: FakeService, state: str) -> None:
    made.objects["m"]["State"] = state
    _next_event(made, lambda: made.objects["m"].update(State="PoweredOff"))
    remove(made.session, "id-1", NAME, local=True)
    assert made.names.index("IEventSource_getEvent") < made.names.index("IMachine_unregister")


def test_a_machine_that_goes_off_by_itself_meanwhile_is_off(made: FakeService) -> None:
    made.objects["m"]["State"] = "Running"

    def too_late(_: Arguments) -> None:
        made.objects["m"]["State"] = "PoweredOff"
        raise Refusal(0x80BB0002, "not running")

    made.handlers["IMachine_lockMachine"] = too_late
    assert remove(made.session, "id-1", NAME, local=True)


def test_a_machine_that_cannot_be_switched_off_is_not_unregistered(made: FakeService) -> None:
    made.objects["m"]["State"] = "Running"
    made.answer("IMachine_lockMachine", Refusal(0x80BB0002, "no"))
    with pytest.raises(InvalidVmState):
        remove(made.session, "id-1", NAME, local=True)
    assert "IMachine_unregister" not in made.names


@pytest.mark.parametrize("local", [True, False])
def test_what_virtualbox_leaves_in_the_folder_goes_too_if_it_is_here(
    made: FakeService, folder: Path, local: bool
) -> None:
    remove(made.session, "id-1", NAME, local=local)
    assert folder.exists() is not local
    assert folder.parent.exists()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Documents", "Documents"),
        ("Documents", "pytest-vbox/Documents"),
        (NAME, "pytest-vbox/pytest-two-0123abcd"),
        (NAME, f"elsewhere/{NAME}"),
        (NAME, f"golden/{NAME}"),
        (NAME, NAME),
        (NAME, f"pytest-vbox/{NAME}/within"),
        (f"{NAME}/..", f"pytest-vbox/{NAME}/.."),
        ("", "pytest-vbox"),
    ],
)
def test_a_folder_that_is_not_surely_the_machines_stays_whatever_the_service_says(
    made: FakeService, tmp_path: Path, name: str, place: str
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "precious").touch()
    disk = _medium(made, "precious", f"{folder}/precious.vdi")
    made.answer("IMachine_unregister", [disk])
    made.objects["m"].update(Name=name, SettingsFilePath=f"{folder}/x.vbox", SnapshotFolder=f"{folder}/Snapshots")
    assert remove(made.session, "id-1", name, local=True)
    assert (folder / "precious").exists()
    assert made.called("IMachine_deleteConfig") == [{"_this": "m", "media": []}]


def test_the_service_does_not_choose_the_name_of_what_is_deleted(made: FakeService, folder: Path) -> None:
    made.objects["m"]["Name"] = NAME
    remove(made.session, "id-1", "pytest-two-0123abcd", local=True)
    assert folder.exists()


@pytest.mark.parametrize("group", ["pytest-vbox", "pytest-vbox/golden"])
def test_the_folder_goes_in_whichever_of_our_groups_it_is(made: FakeService, tmp_path: Path, group: str) -> None:
    folder = tmp_path / "vms" / group / NAME
    folder.mkdir(parents=True)
    made.objects["m"]["SettingsFilePath"] = f"{folder}/{NAME}.vbox"
    remove(made.session, "id-1", NAME, local=True)
    assert not folder.exists()


def test_snapshots_in_a_folder_that_the_model_names_go_too(made: FakeService, tmp_path: Path) -> None:
    folder, other = tmp_path / "snapshots" / NAME, tmp_path / "snapshots"
    folder.mkdir(parents=True)
    (other / "{2}.vdi").touch()
    media = [_medium(made, "own", f"{folder}/{{1}}.vdi"), _medium(made, "other", f"{other}/{{2}}.vdi")]
    made.answer("IMachine_unregister", media)
    made.objects["m"]["SnapshotFolder"] = str(folder)
    remove(made.session, "id-1", NAME, local=True)
    assert made.called("IMachine_deleteConfig") == [{"_this": "m", "media": ["own"]}]
    assert not folder.exists()
    assert (other / "{2}.vdi").exists()


def test_a_folder_of_snapshots_of_another_name_stays(made: FakeService, tmp_path: Path) -> None:
    folder = tmp_path / "Documents"
    folder.mkdir()
    made.objects["m"]["SnapshotFolder"] = str(folder)
    remove(made.session, "id-1", NAME, local=True)
    assert folder.exists()


def test_a_deletion_that_fails_is_told(made: FakeService, folder: Path) -> None:
    made.objects["progress"] |= {
        "ResultCode": signed(0x80BB0004),
        "Description": "Deleting",
        "ErrorInfo": made.error_info("read-only"),
    }
    with pytest.raises(FileError, match="Deleting: read-only"):
        remove(made.session, "id-1", NAME, local=True)
    assert folder.exists()


def test_a_service_that_dies_meanwhile_is_told(made: FakeService) -> None:
    made.answer("IMachine_unregister", HangUp())
    with pytest.raises(ServiceUnavailable):
        remove(made.session, "id-1", NAME, local=True)


def test_the_folder_of_a_machine_that_never_came_to_be(service: FakeService, folder: Path) -> None:
    service.answer("IVirtualBox_composeMachineFilename", f"{folder}/{NAME}.vbox")
    remove_folder(service.session, "pytest-two-0123abcd")
    assert folder.exists()
    remove_folder(service.session, NAME)
    assert not folder.exists()
    remove_folder(service.session, NAME)


def test_of_a_machine_that_never_came_to_be_no_folder_elsewhere_goes(service: FakeService, tmp_path: Path) -> None:
    folder = tmp_path / "Documents"
    folder.mkdir()
    service.answer("IVirtualBox_composeMachineFilename", f"{folder}/Documents.vbox")
    remove_folder(service.session, "Documents")
    assert folder.exists()
