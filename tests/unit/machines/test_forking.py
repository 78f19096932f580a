"""What golden machines are made with: a key that is nobody's to delete once they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_vbox.machines.forking import Forker
from pytest_vbox.machines.plan import Owner, Plan
from pytest_vbox.models import Catalogue
from pytest_vbox.ownership import Kind, Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """The ledger of this run."""
    ledger = Ledger(tmp_path / "state", "run-1")
    yield ledger
    ledger.close()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """For a machine whose guest is told of a key by cloud-init."""
    (tmp_path / "models.yaml").write_text("images:\n  cloud: {disk: x.vdi, cloud_init: {}}\n")
    return Plan("one", Catalogue.load([tmp_path]).machine("cloud"), Owner("run-1", "test_a.py::test_one"), 60.0)


@pytest.fixture
def forker(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Forker:
    """A forker in which everything but the key goes well by itself."""
    machine = SimpleNamespace(start=lambda: None, _forwards=SimpleNamespace(release=lambda: None))
    parts: dict[str, Any] = {
        "context": SimpleNamespace(key_is_ours_to_make=lambda _: True),
        "maker": SimpleNamespace(identity="here", cold=lambda _: None),
        "golden": SimpleNamespace(platform=None, new_key_file=lambda: tmp_path / "state" / "key"),
        "household": SimpleNamespace(machine=lambda *_: machine, tell=lambda *_, **__: None),
    }
    monkeypatch.setattr(Forker, "_described", lambda *_: "golden")
    return Forker(**parts, ledger=ledger, project="", trim=lambda: None)


def test_a_key_that_is_being_made_is_written_down_as_of_its_own_virtualbox(
    forker: Forker, ledger: Ledger, plan: Plan, tmp_path: Path
) -> None:
    with forker._with_key(plan) as own:
        (entry,) = ledger.entries
        assert (entry.id, entry.kind, entry.host) == (str(own.key), Kind.FILE, "here")
        assert own.key == tmp_path / "state" / "key"
    assert ledger.entries == ()


def test_a_key_is_gone_with_a_golden_machine_that_was_not_finished(
    forker: Forker, ledger: Ledger, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt), forker._with_key(plan):
        raise KeyboardInterrupt
    assert not (tmp_path / "state" / "key").exists()
    assert ledger.entries == ()


def test_a_full_disk_does_not_take_the_key_from_a_golden_machine_that_is_whole(
    forker: Forker, ledger: Ledger, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with forker._golden_machine(plan, "key", cast("Any", None)) as (_, description):
        assert str(description) == "golden"
        monkeypatch.setattr(ledger, "strike", full)
    assert (tmp_path / "state" / "key").exists()
