"""Golden machines: what their extra data says is believed only as far as it is about themselves."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pytest_vbox.machines.golden import GOLDEN_KEY, Golden, key_file
from pytest_vbox.machines.golden_key import Platform
from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.ownership import Ledger
from pytest_vbox.records import Journal
from unit.kit.service import FakeService, Refusal

from .workshop import NAME, workshop

ID = "0b5ecc3e-6a40-4a0c-a5a9-3ad2a25cbb0b"
GOLDEN = Golden(ID, NAME, "key", "subject", "tiny", "small", "7.2.99", ("/a.vdi", "1"), "ssh-ed25519 AAAA")


def said(golden: Golden, **changes: object) -> str:
    """The extra data of a golden machine, some of it changed."""
    return json.dumps({**asdict(golden), **changes})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder."""
    return tmp_path / "state"


@pytest.fixture
def ledger(state: Path) -> Iterator[Ledger]:
    """Where those are written down that are being removed."""
    ledger = Ledger(state, "run-1")
    yield ledger
    ledger.close()


@pytest.fixture
def machines(service: FakeService, tmp_path: Path, state: Path, ledger: Ledger) -> GoldenMachines:
    """The golden machines of a VirtualBox with one in it, `GOLDEN`."""
    workshop(service, str(tmp_path / "pytest-vbox" / "golden" / NAME))
    service.objects["m"]["Id"] = ID
    service.answer("IVirtualBox_getMachinesByGroups", ["m"])
    service.answer("IVirtualBox_findMachine", "m")
    service.answer("IMachine_findSnapshot", service.add("ready", Machine="live"))
    service.add("live", MediumAttachments=[])
    platform = Platform(service.session.virtualbox, "here", local=True)
    return GoldenMachines(service.session, state, platform, "run-1", ledger=ledger, local=True, journal=Journal())


def tell(service: FakeService, text: str) -> None:
    """Let the machine's extra data be this."""
    service.handlers["IMachine_getExtraData"] = lambda arguments: text if arguments["key"] == GOLDEN_KEY else ""


def test_one_is_found_as_it_was_written(service: FakeService, machines: GoldenMachines) -> None:
    golden = replace(GOLDEN, private_key=str(machines.new_key_file()))
    tell(service, said(golden))
    assert machines.all() == [golden]
    assert machines.find("key") == golden


def test_removing_one_deletes_its_key(service: FakeService, machines: GoldenMachines) -> None:
    key = machines.new_key_file()
    key.touch()
    tell(service, said(GOLDEN, private_key=str(key)))
    (golden,) = machines.all()
    assert machines.remove(golden)
    assert not key.exists()


@pytest.mark.parametrize(
    "other",
    [
        "../../../precious",
        "/",
        "",
        ".",
        "..",
        "0b5ecc3e-6a40-4a0c-a5a9-3ad2a25cbb0c",
        ID.upper(),
        f"{{{ID}}}",
        f"{ID}\n",
    ],
)
def test_extra_data_of_another_machine_counts_for_nothing(
    service: FakeService, machines: GoldenMachines, other: str
) -> None:
    tell(service, said(GOLDEN, id=other))
    assert machines.all() == []


@pytest.mark.parametrize("other", ["../../../precious", "", "..", ID.upper(), f"{{{ID}}}"])
def test_a_machine_whose_id_is_none_counts_for_nothing_though_host_and_extra_data_agree(
    service: FakeService, machines: GoldenMachines, other: str
) -> None:
    service.objects["m"]["Id"] = other
    tell(service, said(GOLDEN, id=other))
    assert machines.all() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "{tmp}/precious",
        "{keys}/../../../precious",
        "{keys}/..",
        "{keys}/../keys/0123456789abcdef0123456789abcdef",
        "{keys}/precious",
        "{keys}/sub/0123456789abcdef0123456789abcdef",
        "{keys}/0123456789abcdef0123456789abcdef\0",
        "precious",
        "",
    ],
)
def test_no_file_but_a_golden_machines_key_is_logged_in_with_or_deleted(
    service: FakeService, machines: GoldenMachines, state: Path, tmp_path: Path, path: str
) -> None:
    keys = state / "golden" / "keys"
    files = [tmp_path / "precious", keys / "precious", keys / "sub" / ("0123456789abcdef" * 2)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    tell(service, said(GOLDEN, private_key=path.format(tmp=tmp_path, keys=keys)))
    (golden,) = machines.all()
    assert golden.private_key is None
    assert machines.find("key") is None, "nothing is forked from it"
    assert str(keys) in (machines.why_outdated(golden) or "")
    assert machines.remove_outdated(GOLDEN) == []
    # As `cache prune` does, and what comes after each new golden machine.
    assert machines.remove_outdated(replace(GOLDEN, id=str(uuid.uuid4()))) == [golden]
    assert all(file.exists() for file in files)


@pytest.mark.parametrize("refused", [False, True])
def test_one_that_is_being_removed_is_written_down_until_it_is_gone_or_stays(
    service: FakeService, machines: GoldenMachines, ledger: Ledger, state: Path, refused: bool
) -> None:
    key = state / "golden" / "keys" / "0123456789abcdef0123456789abcdef"
    key.parent.mkdir(parents=True)
    key.touch()
    tell(service, said(GOLDEN, private_key=str(key)))
    (golden,) = machines.all()
    written: list[set[str]] = []

    def unregister(_: object) -> list[str]:
        written.append({entry.id for entry in ledger.entries})
        if refused:
            raise Refusal(0x80BB000C, "it is in use")
        return []

    service.handlers["IMachine_unregister"] = unregister
    assert machines.remove(golden) is not refused
    assert written == [{ID, str(key)}]
    assert ledger.entries == ()
    assert key.exists() is refused


def test_a_golden_machine_that_is_gone_takes_no_file_but_its_own_with_it(
    service: FakeService, machines: GoldenMachines, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.touch()
    tell(service, said(GOLDEN, id="../../../precious", private_key=str(precious)))
    service.answer("IVirtualBox_findMachine", Refusal(0x80BB0001, "gone"))
    assert machines.remove_outdated(GOLDEN) == []
    assert precious.exists()


def test_new_keys_are_where_they_are_looked_for(tmp_path: Path) -> None:
    key = str(key_file(tmp_path))
    assert Golden.parse(said(GOLDEN, private_key=key), ID, tmp_path) == replace(GOLDEN, private_key=key)
