"""Taking machines away: switched off whatever they do, and never a file that is not theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vbox.machines.removal import remove, remove_folder
from pytest_vbox.virtualbox.errors import FileError, InvalidVmState, ServiceUnavailable
from unit.kit.service import Arguments, FakeService, HangUp, Refusal, signed

from .workshop import workshop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the machine ``one``, with the log that VirtualBox leaves there."""
    folder = tmp_path / "one"
    folder.mkdir()
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
    assert remove(made.session, "id-1", local=True)
    assert made.called("IMachine_unregister") == [{"_this": "m", "cleanupMode": "Full"}]
    assert made.called("IMachine_deleteConfig") == [{"_this": "m", "media": ["own", "new-disk"]}]


def test_paths_of_a_windows_host_are_understood(made: FakeService) -> None:
    made.objects["m"]["SettingsFilePath"] = "C:\\VMs\\one\\one.vbox"
    media = [
        _medium(made, "own", "c:\\VMs\\one\\Snapshots\\{1}.vdi", parent="base"),
        _medium(made, "other", "C:\\VMs\\two\\{1}.vdi", parent="base"),
    ]
    made.answer("IMachine_unregister", media)
    remove(made.session, "id-1", local=False)
    assert made.called("IMachine_deleteConfig") == [{"_this": "m", "media": ["own"]}]


def test_a_machine_that_is_not_there_is_no_error(service: FakeService) -> None:
    workshop(service)
    assert not remove(service.session, "id-1", local=True)


@pytest.mark.parametrize("state", ["Running", "Paused", "Stuck"])
def test_a_machine_that_runs_is_switched_off_first(made: FakeService, state: str) -> None:
    made.objects["m"]["State"] = state
    made.objects["s"]["Console"] = made.add("console")
    made.answer("IConsole_powerDown", "progress")
    remove(made.session, "id-1", local=True)
    names = made.names
    assert names.index("IConsole_powerDown") < names.index("IMachine_unregister")


@pytest.mark.parametrize("state", ["PoweredOff", "Aborted", "Saved", "AbortedSaved"])
def test_a_machine_that_is_off_is_not_switched_off(made: FakeService, state: str) -> None:
    made.objects["m"]["State"] = state
    remove(made.session, "id-1", local=True)
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
    remove(made.session, "id-1", local=True)
    assert made.names.index("IEventSource_getEvent") < made.names.index("IMachine_unregister")


def test_a_machine_that_goes_off_by_itself_meanwhile_is_off(made: FakeService) -> None:
    made.objects["m"]["State"] = "Running"

    def too_late(_: Arguments) -> None:
        made.objects["m"]["State"] = "PoweredOff"
        raise Refusal(0x80BB0002, "not running")

    made.handlers["IMachine_lockMachine"] = too_late
    assert remove(made.session, "id-1", local=True)


def test_a_machine_that_cannot_be_switched_off_is_not_unregistered(made: FakeService) -> None:
    made.objects["m"]["State"] = "Running"
    made.answer("IMachine_lockMachine", Refusal(0x80BB0002, "no"))
    with pytest.raises(InvalidVmState):
        remove(made.session, "id-1", local=True)
    assert "IMachine_unregister" not in made.names


@pytest.mark.parametrize("local", [True, False])
def test_what_virtualbox_leaves_in_the_folder_goes_too_if_it_is_here(
    made: FakeService, folder: Path, local: bool
) -> None:
    remove(made.session, "id-1", local=local)
    assert folder.exists() is not local
    assert folder.parent.exists()


def test_a_folder_of_another_name_stays(made: FakeService, folder: Path) -> None:
    made.objects["m"]["Name"] = "two"
    remove(made.session, "id-1", local=True)
    assert folder.exists()


def test_a_deletion_that_fails_is_told(made: FakeService, folder: Path) -> None:
    made.objects["progress"] |= {
        "ResultCode": signed(0x80BB0004),
        "Description": "Deleting",
        "ErrorInfo": made.error_info("read-only"),
    }
    with pytest.raises(FileError, match="Deleting: read-only"):
        remove(made.session, "id-1", local=True)
    assert folder.exists()


def test_a_service_that_dies_meanwhile_is_told(made: FakeService) -> None:
    made.answer("IMachine_unregister", HangUp())
    with pytest.raises(ServiceUnavailable):
        remove(made.session, "id-1", local=True)


def test_the_folder_of_a_machine_that_never_came_to_be(service: FakeService, folder: Path) -> None:
    service.answer("IVirtualBox_composeMachineFilename", f"{folder}/one.vbox")
    remove_folder(service.session, "two")
    assert folder.exists()
    remove_folder(service.session, "one")
    assert not folder.exists()
    remove_folder(service.session, "one")
