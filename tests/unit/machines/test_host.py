"""A connected VirtualBox: nothing is made before it is written down, and whatever was made goes away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vbox.images import Bases
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.plan import OWNER_KEY
from pytest_vbox.models import Catalogue, ModelError
from pytest_vbox.ownership import (
    Entry,
    KeptMachine,
    KeptMachines,
    Kind,
    Ledger,
    ProcessId,
    abandoned,
    take_unseen,
)
from pytest_vbox.settings import Settings
from pytest_vbox.virtualbox import Medium, WebSession
from pytest_vbox.virtualbox.errors import Failed, VirtualBoxError
from unit.kit.service import Arguments, FakeService, Refusal

from .workshop import NAME, workshop

IMAGE = "images:\n  tiny: {disk: tiny.vdi, user: root, private_key: key}\n"


@pytest.fixture
def service(service: FakeService, tmp_path: Path) -> FakeService:
    """A VirtualBox in which machines can be made from the base ``tiny.vdi``."""
    workshop(service, str(tmp_path / "pytest-vbox" / NAME))
    service.answer("IVirtualBox_composeMachineFilename", str(tmp_path / "pytest-vbox" / NAME / f"{NAME}.vbox"))
    return service


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder."""
    return tmp_path / "state"


@pytest.fixture
def host(
    service: FakeService, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[VirtualBoxHost]:
    """The host, with a base that needs no making ready."""
    (tmp_path / "models.yaml").write_text(IMAGE)

    def ready(self: Bases, *_: object) -> Medium:
        service.add("base")
        return self._open("tiny.vdi")

    service.answer("IVirtualBox_openMedium", "base")
    monkeypatch.setattr(Bases, "_ensure", ready)
    (tmp_path / "tiny.vdi").touch()
    # All tests share one connection, so the hosts must not close it.
    monkeypatch.setattr(service.session, "close", lambda: None)
    host = VirtualBoxHost(service.session, Settings(), Catalogue.load([tmp_path]), state=state, run="run-1")
    service.calls.clear()
    yield host
    host.close()


@pytest.fixture(autouse=True)
def _any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_vbox.machines.host.load_key", lambda path: path)


def _written(state: Path) -> list[str]:
    """The ids in all ledgers."""
    ledgers = [json.loads(path.read_text()) for path in state.glob("runs/*/*.json")]
    return [entry["id"] for ledger in ledgers for entry in ledger["entries"]]


def test_a_machine_is_written_down_before_it_is_created(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    seen: list[list[str]] = []

    def create(_: Arguments) -> str:
        seen.append(_written(state))
        return "m"

    service.handlers["IVirtualBox_createMachine"] = create
    machine = host.machine(start=False, test="test_a.py::test_one[x]")
    assert seen == [[machine.id]]
    assert machine.name.startswith("pytest-test_one-x-")
    assert (machine.image, machine.profile) == ("tiny", "small")
    assert host.machines == (machine,)
    (created,) = service.called("IVirtualBox_createMachine")
    assert created["flags"] == f"UUID={machine.id}"


def test_a_removed_machine_is_struck_and_removing_twice_does_no_harm(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    machine = host.machine(start=False)
    host.remove(machine)
    service.answer("IVirtualBox_findMachine", Refusal(0x80BB0001, "gone"))
    host.remove(machine)
    assert _written(state) == []
    assert host.machines == ()
    assert service.names.count("IMachine_unregister") == 1


@pytest.mark.parametrize(
    "operation", ["IVirtualBox_createMachine", "IMachine_saveSettings", "IMachine_attachDevice"]
)
def test_a_machine_that_could_not_be_made_leaves_nothing(
    service: FakeService, host: VirtualBoxHost, state: Path, tmp_path: Path, operation: str
) -> None:
    (tmp_path / "pytest-vbox" / NAME).mkdir(parents=True)
    service.answer(operation, Refusal(0x80004005, "no"))
    with pytest.raises(Failed):
        host.machine(start=False)
    assert _written(state) == []
    assert host.machines == ()
    registered = "IVirtualBox_registerMachine" in service.names
    assert ("IMachine_unregister" in service.names) is registered


def test_a_half_made_machine_that_cannot_be_removed_stays_written_down(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    service.answer("IMachine_attachDevice", Refusal(0x80004005, "first"))
    service.answer("IMachine_unregister", Refusal(0x80004005, "second"), [])
    with pytest.raises(Failed, match="first") as caught:
        host.machine(start=False)
    (note,) = caught.value.__notes__
    assert "then removing the half-made machine" in note
    assert "second" in note
    assert len(_written(state)) == 1


def test_wrong_models_are_refused_before_anything_is_touched(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    with pytest.raises(ModelError):
        host.machine("no-such-image")
    with pytest.raises(ModelError):
        host.machine(hardware={"memory": -1})
    with pytest.raises(ValueError, match="sideways"):
        host.machine(reset="sideways")
    assert (service.calls, _written(state)) == ([], [])


@pytest.mark.usefixtures("host")
def test_closing_removes_every_machine_even_after_an_error(
    service: FakeService, tmp_path: Path, state: Path
) -> None:
    closed: list[bool] = []
    other = VirtualBoxHost(
        service.session,
        Settings(),
        Catalogue.load([tmp_path]),
        state=state,
        on_close=lambda: closed.append(True),
    )
    for _ in range(3):
        other.machine(start=False)
    service.answer("IMachine_unregister", Refusal(0x80004005, "no"), [])
    with pytest.raises(VirtualBoxError, match="no"):
        other.close()
    assert service.names.count("IMachine_unregister") == 3
    assert closed == [True]
    # What is left is for the next run.
    with abandoned(state) as (left,):
        assert len(left.entries) == 1


def test_a_kept_machine_is_nobodys_to_remove(host: VirtualBoxHost, state: Path) -> None:
    machine = host.machine(start=False)
    words = host.keep(machine)
    # What pins the host key comes first; what does not at least keeps away from what is the user's.
    assert f"kept machine {machine.name}: pytest-vbox machines ssh {machine.name}, or: ssh -p " in words
    assert f"ssh -p {machine.address[1]} -i " in words
    for option in (
        "-F /dev/null",
        "-o IdentitiesOnly=yes",
        "-o IdentityAgent=none",
        "-o UserKnownHostsFile=/dev/null",
    ):
        assert f" {option} " in words
    assert f"VBoxManage unregistervm {machine.name} --delete" in words
    assert (host.machines, _written(state)) == ((), [])


# Those of the dead


def _leave(state: Path, *entries: Entry) -> None:
    ledger = Ledger(state, "run-0")
    for entry in entries:
        ledger.add(entry)
    ledger.close()


def test_machines_of_dead_processes_are_removed_from_their_own_virtualbox(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    elsewhere = Entry("id-9", "nine", "otherhost:/home/me")
    _leave(state, Entry("id-1", "one", host.identity), elsewhere)
    service.answer("IVirtualBox_findMachine", "m")
    assert host.clean_up_abandoned() == ["one"]
    assert service.called("IVirtualBox_findMachine")[0]["nameOrId"] == "id-1"
    with abandoned(state) as (left,):
        assert [entry.id for entry in left.entries] == ["id-9"]


def test_of_a_machine_that_was_never_registered_the_folder_goes(
    host: VirtualBoxHost, state: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pytest-vbox" / NAME
    folder.mkdir(parents=True)
    _leave(state, Entry("id-1", NAME, host.identity))
    assert host.clean_up_abandoned() == []
    assert not folder.exists()
    assert _written(state) == []


def test_what_cannot_be_removed_is_left_for_the_next_time(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    _leave(state, Entry("id-1", "one", host.identity), Entry("id-2", "two", host.identity))
    service.answer("IVirtualBox_findMachine", "m")
    service.answer("IMachine_unregister", Refusal(0x80004005, "no"), [])
    assert host.clean_up_abandoned() == ["two"]
    assert _written(state) == ["id-1"]


def _signed(service: FakeService, **owner: object) -> None:
    """A registered machine that says whose it was."""
    service.answer("IVirtualBox_getMachinesByGroups", ["m"])
    service.answer("IVirtualBox_findMachine", "m")
    service.handlers["IMachine_getExtraData"] = lambda arguments: (
        json.dumps({"id": "id-1", **owner}) if arguments["key"] == OWNER_KEY else ""
    )


def _dead() -> dict[str, object]:
    return {**ProcessId.mine().to_json(), "started": 1.0}


def test_a_machine_that_no_ledger_lists_but_that_says_so_itself_is_removed(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    _signed(service, run="run-0", process=_dead(), test="test_a.py::test_one")
    assert host.clean_up_abandoned() == [NAME]
    (line,) = take_unseen(state)
    assert f"removed the unlisted machine {NAME} of test_a.py::test_one" in line
    assert take_unseen(state) == []


@pytest.mark.parametrize(
    "owner",
    [
        {},
        {"run": "run-0"},
        {"process": 7},
        {"process": ProcessId.mine().to_json()},
        {"process": {**_dead(), "computer": "another"}},
        {"process": _dead(), "kept": True},
        {"process": _dead(), "id": "of-the-machine-that-its-user-cloned"},
        {"process": _dead(), "id": None},
    ],
    ids=["nothing", "no-process", "nonsense", "alive", "another-computers", "kept", "clone", "no-id"],
)
def test_a_machine_of_which_it_is_not_certain_that_its_owner_died_stays(
    service: FakeService, host: VirtualBoxHost, owner: dict[str, object]
) -> None:
    _signed(service, **owner)
    assert host.clean_up_abandoned() == []
    assert "IMachine_unregister" not in service.names


def test_a_machine_in_the_list_of_kept_ones_stays_though_a_ledger_lists_it(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    KeptMachines(state).add(KeptMachine("id-1", "one", host.identity, "", "", "ssh", "rm"))
    _leave(state, Entry("id-1", "one", host.identity))
    _signed(service, process=_dead())
    assert host.clean_up_abandoned() == []
    assert "IMachine_unregister" not in service.names
    assert _written(state) == []


def test_a_file_that_a_ledger_lists_goes_but_only_if_it_is_in_a_folder_of_ours(
    host: VirtualBoxHost, state: Path, tmp_path: Path
) -> None:
    mine, users = state / "keys" / "mine", tmp_path / "users"
    mine.mkdir(parents=True)
    users.mkdir()
    _leave(
        state,
        Entry(str(mine), "a key", "", kind=Kind.FILE),
        Entry(str(users), "a folder", "", kind=Kind.FILE),
        Entry(f"{state}/../users", "a folder", "", kind=Kind.FILE),
    )
    assert host.clean_up_abandoned() == []
    assert not mine.exists()
    assert users.exists()
    assert _written(state) == []


def test_the_web_session_of_a_dead_process_is_ended(
    service: FakeService, host: VirtualBoxHost, state: Path
) -> None:
    ledger = Ledger(state, "run-0")
    ledger.logged_on("its-session")
    ledger.locks_with("its-object")
    service.objects["its-object"] = {"State": "Locked"}
    ledger.add(Entry("id-1", "one", host.identity))
    ledger.close()
    host.clean_up_abandoned()
    assert service.called("ISession_unlockMachine") == [{"_this": "its-object"}]
    assert service.called("IWebsessionManager_logoff") == [{"refIVirtualBox": "its-session"}]


def test_the_identity_is_the_same_under_every_name_of_this_computer(
    service: FakeService, host: VirtualBoxHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = service.session

    def at(url: str) -> VirtualBoxHost:
        with monkeypatch.context() as patch:
            patch.setattr(WebSession, "url", url)
            return VirtualBoxHost(session, Settings(), Catalogue.load([tmp_path]), state=tmp_path / "b")

    other = at(f"http://localhost:{service.port}")
    assert other.identity == host.identity == "127.0.0.1:/home/me/.config/VirtualBox"
    far = at("https://vbox.example.org")
    assert (far.local, far.address) == (False, "vbox.example.org")
    assert far.identity != host.identity
