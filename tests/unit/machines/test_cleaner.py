"""Cleaning up after the dead: what is not known to be theirs stays, and nobody gives up half-way."""

from __future__ import annotations

import errno
import html
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import VirtualBoxHost, cleaner
from pytest_vbox.machines.golden import GOLDEN_KEY
from pytest_vbox.machines.plan import OWNER_KEY
from pytest_vbox.models import Catalogue
from pytest_vbox.ownership import Busy, Entry, Kind, Ledger, ProcessId, abandoned, held, take_unseen
from pytest_vbox.settings import Settings
from pytest_vbox.virtualbox.errors import ServiceUnavailable
from unit.kit.service import Arguments, FakeService, HangUp

from .workshop import workshop

FORK = "11111111-2222-3333-4444-555555555555"
#: What a golden machine says that another version of pytest-vbox made.
OTHERS = json.dumps({"id": "id-1", "shape": "unheard of", "login": {"key": "/keys/ä"}})


@pytest.fixture
def service(service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeService:
    """A VirtualBox in which the machine ``one`` can be taken away."""
    workshop(service, str(tmp_path / "vms" / "one"))
    service.answer("IVirtualBox_composeMachineFilename", str(tmp_path / "vms" / "one" / "one.vbox"))
    service.answer("IVirtualBox_findMachine", "m")
    # All tests share one connection, so the hosts must not close it.
    monkeypatch.setattr(service.session, "close", lambda: None)
    return service


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder."""
    return tmp_path / "state"


@pytest.fixture
def host(service: FakeService, state: Path) -> Iterator[VirtualBoxHost]:
    """The host, of a run that makes no machines."""
    host = VirtualBoxHost(service.session, Settings(), Catalogue.load([]), state=state, run="run-1")
    service.calls.clear()
    yield host
    host.close()


def _leave(state: Path, *entries: Entry, run: str = "run-0", session: str = "", locked_with: str = "") -> Path:
    ledger = Ledger(state, run)
    ledger.logged_on(session)
    ledger.add(*entries)
    if locked_with:
        ledger.locks_with(locked_with)
    ledger.close()
    return ledger.path


def _dead() -> dict[str, object]:
    return {**ProcessId.mine().to_json(), "started": 1.0}


def _says(service: FakeService, **said: str) -> None:
    """Let the registered machine say something in its extra data."""
    service.answer("IVirtualBox_getMachinesByGroups", ["m"])
    by_key = {OWNER_KEY: said.get("owner", ""), GOLDEN_KEY: said.get("golden", "")}
    service.handlers["IMachine_getExtraData"] = lambda arguments: by_key.get(arguments["key"], "")


# What another version wrote, or nobody can read


@pytest.mark.parametrize(
    "change", [('"format": 2', '"format": 3'), ('"kind": "file"', '"kind": "network"')], ids=["format", "kind"]
)
def test_a_ledger_of_another_version_is_left_to_it_which_is_said_once(
    service: FakeService,
    host: VirtualBoxHost,
    state: Path,
    change: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = _leave(state, Entry("id-1", "one", host.identity), Entry("k", "a key", "", kind=Kind.FILE))
    written = path.read_text(encoding="utf-8").replace(*change)
    path.write_text(written, encoding="utf-8")
    assert (host.clean_up_abandoned(), host.clean_up_abandoned()) == ([], [])
    assert path.read_text(encoding="utf-8") == written
    assert "IMachine_unregister" not in service.names
    (said,) = [record.getMessage() for record in caplog.records if str(path) in record.getMessage()]
    assert "another version of pytest-vbox" in said


def test_a_ledger_that_cannot_be_read_once_is_cleaned_up_after_the_next_time(
    host: VirtualBoxHost, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _leave(state, Entry("id-1", "one", host.identity))
    real = Path.read_text

    def no_handle(file: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if file == path:
            raise OSError(errno.EMFILE, "too many open files")
        return real(file, encoding, errors)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", no_handle)
        assert host.clean_up_abandoned() == []
    assert host.clean_up_abandoned() == ["one"]
    assert not path.exists()


@pytest.mark.parametrize("listed", [True, False])
def test_a_golden_machine_of_another_version_stays(
    service: FakeService, host: VirtualBoxHost, state: Path, *, listed: bool
) -> None:
    _says(service, owner=json.dumps({"id": "id-1", "process": _dead()}), golden=OTHERS)
    if listed:
        _leave(state, Entry("id-1", "one", host.identity))
    assert host.clean_up_abandoned() == []
    assert "IMachine_unregister" not in service.names


def test_a_half_made_golden_machine_goes(service: FakeService, host: VirtualBoxHost) -> None:
    _says(service, owner=json.dumps({"id": "id-1", "process": _dead()}))
    assert host.clean_up_abandoned() == ["pytest-one-0123abcd"]


def test_the_key_of_a_golden_machine_stays_whatever_version_made_it(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    keys = [state / "golden" / "keys" / name for name in ("schlüssel", "of-a-machine-never-finished")]
    keys[0].parent.mkdir(parents=True)
    for key in keys:
        key.touch()
    _says(service, golden=json.dumps({"id": "id-1", "shape": "unheard of", "login": {"key": str(keys[0])}}))
    _leave(state, *(Entry(str(key), "a key", "", kind=Kind.FILE) for key in keys))
    host.clean_up_abandoned()
    assert [key.exists() for key in keys] == [True, False]


def _unregistered(folder: Path, owner: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    said = f'<ExtraDataItem name="{OWNER_KEY}" value="{html.escape(json.dumps(owner))}"/>'
    settings = (
        f'<VirtualBox><Machine uuid="{{{FORK}}}" name="x"><ExtraData>{said}</ExtraData></Machine></VirtualBox>'
    )
    (folder / f"{folder.name}.vbox").write_text(settings, encoding="utf-8")


def test_settings_with_the_owner_of_the_machine_that_they_were_cloned_from_are_left_alone(
    service: FakeService, host: VirtualBoxHost, state: Path, tmp_path: Path
) -> None:
    # As cloneTo writes them, before the fork is registered and signed; its maker lives.
    folder = tmp_path / "vms" / "pytest-fork"
    _unregistered(folder, {"id": "id-of-the-golden-machine", "process": _dead()})
    service.answer("IVirtualBox_composeMachineFilename", str(tmp_path / "vms" / "x" / "x.vbox"))
    del service.handlers["IVirtualBox_findMachine"]
    workshop(service)
    living = Ledger(state, "run-that-lives")
    living.add(Entry(FORK, folder.name, host.identity))
    assert host.clean_up_abandoned() == []
    assert (folder / "pytest-fork.vbox").exists()
    assert "IMachine_unregister" not in service.names
    living.strike(FORK)
    living.close()
    # Once it is signed, and its maker dead.
    _unregistered(folder, {"id": FORK, "process": _dead()})
    assert set(host.clean_up_abandoned()) == {folder.name}


# Others at the same time


def test_machine_folders_may_go_while_somebody_looks_for_settings(
    service: FakeService, host: VirtualBoxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vms" / "pytest-fork"
    folder.mkdir(parents=True)
    service.answer("IVirtualBox_composeMachineFilename", str(tmp_path / "vms" / "x" / "x.vbox"))
    real_scandir, real_read = os.scandir, Path.read_text

    def gone(path: Path) -> None:
        if Path(path).is_relative_to(folder) and folder.exists():
            folder.rmdir()

    def scandir(path: Path) -> Iterator[os.DirEntry[str]]:
        gone(path)
        return real_scandir(path)

    def read_text(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        gone(path)
        return real_read(path, encoding, errors)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert host.clean_up_abandoned() == []
    assert not folder.exists()


def test_whoever_cleans_up_after_a_dying_process_is_told_that_another_is_at_it(
    host: VirtualBoxHost, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _leave(state, Entry("id-1", "one", host.identity))
    monkeypatch.setattr(cleaner, "_PATIENCE", 0.05)
    with held(state, f"clean up {host.identity}", Deadline(5)):
        assert host.clean_up_abandoned() == []
        with pytest.raises(Busy, match="clean up"):
            host.clean_up_abandoned(path)
    assert host.clean_up_abandoned(path) == ["one"]


def test_a_log_that_cannot_be_written_keeps_nobody_from_the_rest(
    host: VirtualBoxHost, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [_leave(state, Entry(f"id-{run}", "one", host.identity), run=run) for run in ("run-2", "run-3")]
    real = Path.open

    def full(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "reaper.log":
            raise OSError(errno.ENOSPC, "no space left")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    assert host.clean_up_abandoned() == ["one", "one"]
    assert [path.exists() for path in paths] == [False, False]
    assert len(take_unseen(state)) == 2


# The locks of the dead


def _locked(service: FakeService) -> None:
    service.objects["its-object"] = {"State": "Locked"}


def test_whoever_cleans_up_in_another_virtualbox_leaves_the_means_to_unlock(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    _locked(service)
    use = Entry("service", "use of the private web service", "", kind=Kind.SERVICE)
    path = _leave(
        state, use, Entry("id-1", "one", "another:/home"), session="its-session", locked_with="its-object"
    )
    host.clean_up_abandoned()
    assert not {"ISession_unlockMachine", "IWebsessionManager_logoff"} & set(service.names)
    with abandoned(state, path) as (left,):
        assert [entry.id for entry in left.entries] == ["id-1"]
        assert (left.session, left.session_objects) == ("its-session", ["its-object"])


def test_a_web_session_in_which_nothing_was_made_is_ended(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    _leave(state, Entry("service", "its use", "", kind=Kind.SERVICE), session="its-session")
    host.clean_up_abandoned()
    assert service.called("IWebsessionManager_logoff") == [{"refIVirtualBox": "its-session"}]


def test_an_unlock_whose_answer_never_came_is_tried_again_the_next_time(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    _locked(service)
    _leave(state, Entry("id-1", "one", host.identity), session="its-session", locked_with="its-object")
    failures: list[Exception] = [HangUp()]

    def unlock(_: Arguments) -> None:
        if failures:
            raise failures.pop()

    service.handlers["ISession_unlockMachine"] = unlock
    with pytest.raises(ServiceUnavailable):
        host.clean_up_abandoned()
    assert "IWebsessionManager_logoff" not in service.names
    service.calls.clear()
    assert host.clean_up_abandoned() == ["one"]
    assert service.names.index("ISession_unlockMachine") < service.names.index("IWebsessionManager_logoff")
