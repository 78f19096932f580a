"""Making machines and taking them away: disks that are locked once, and nothing that stays listed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.machines.maker import Maker
from pytest_vbox.models import Catalogue
from pytest_vbox.ownership import Ledger
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.enums import MediumType
from unit.kit.service import FakeService, Refusal

from .workshop import workshop

NAME = "pytest-one-0123abcd"


@pytest.fixture
def maker(service: FakeService, tmp_path: Path) -> Iterator[Maker]:
    """A maker of a VirtualBox on this computer, which puts machines into ``vms``."""
    workshop(service)
    service.handlers["IVirtualBox_composeMachineFilename"] = lambda call: str(
        tmp_path / "vms" / call["group"].strip("/") / call["name"] / f"{call['name']}.vbox"
    )
    state = tmp_path / "state"
    context = Context(service.session, state, local=True, address="127.0.0.1", artifacts=tmp_path / "artifacts")
    ledger = Ledger(state, "run-1")
    yield Maker(context, "here", ledger, cast("GoldenMachines", None))
    ledger.close()


@pytest.mark.parametrize("group", ["pytest-vbox", "pytest-vbox/golden"])
def test_virtualbox_forgets_the_seed_of_a_machine_whose_process_died_while_it_was_removed(
    maker: Maker, service: FakeService, tmp_path: Path, group: str
) -> None:
    folder = tmp_path / "vms" / group / NAME
    folder.mkdir(parents=True)
    disc = folder / "cloud-init.iso"
    disc.touch()
    service.answer("IVirtualBox_openMedium", service.add("disc"))
    service.answer("IMedium_close", None)
    assert not maker.take_away("id-1", NAME)
    (opened,) = service.called("IVirtualBox_openMedium")
    assert (opened["location"], opened["deviceType"]) == (str(disc), "DVD")
    assert service.called("IMedium_close") == [{"_this": "disc"}]
    assert not folder.exists()


def test_a_seed_that_virtualbox_cannot_open_goes_with_the_folder(
    maker: Maker, service: FakeService, tmp_path: Path
) -> None:
    folder = tmp_path / "vms" / "pytest-vbox" / NAME
    folder.mkdir(parents=True)
    (folder / "cloud-init.iso").touch()
    service.answer("IVirtualBox_openMedium", Refusal(0x80BB0005, "VERR_EOF"))
    maker.take_away("id-1", NAME)
    assert not folder.exists()


def test_two_names_of_one_disk_are_locked_once(
    maker: Maker, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link = tmp_path / "b.vdi", tmp_path / "a.vdi"
    real.touch()
    link.symlink_to(real)
    (tmp_path / "models.yaml").write_text(
        "images:\n  tiny: {disk: b.vdi, user: u, password: p}\n"
        "hardware:\n  two:\n    storage: [{bus: sata, devices: [{type: hard-disk}, {medium: a.vdi}]}]\n"
    )
    model = Catalogue.load([tmp_path]).machine("tiny", "two")
    ready: list[Path] = []

    @contextmanager
    def once(disk: Path, kind: MediumType, deadline: Deadline) -> Iterator[Medium]:  # noqa: ARG001
        ready.append(disk.resolve())
        yield Medium(service.api, "base")

    monkeypatch.setattr(maker.bases, "ready", once)
    with maker._disks(model, Deadline(5)) as disks:
        assert set(disks) == {real, link}
    assert ready == [real]
