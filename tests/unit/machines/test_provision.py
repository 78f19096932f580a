"""Provisioned disks: made once, by a wait that ends when nobody wants it any more."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Bases
from pytest_vbox.machines import Machine
from pytest_vbox.machines.context import NotWanted
from pytest_vbox.machines.maker import disk_of
from pytest_vbox.machines.provision import Provisioned, key
from pytest_vbox.models import Catalogue, MachineModel
from pytest_vbox.ownership import held
from pytest_vbox.virtualbox import Medium, Progress
from unit.kit.service import FakeService, Refusal


@pytest.fixture
def provisioned(service: FakeService, tmp_path: Path) -> Provisioned:
    """What one VirtualBox has of them: nothing yet."""
    bases = Bases(service.session, tmp_path / "state")
    virtualbox = service.session.virtualbox
    return Provisioned(virtualbox, bases, tmp_path / "cache", tmp_path / "state", "run-1", lambda _: nullcontext())


def test_ctrl_c_ends_the_copy_and_is_not_hidden_by_the_disk_that_is_still_written(
    provisioned: Provisioned, service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "wait", interrupted)
    service.add("copy")
    service.add("p", Cancelable=True)
    service.answer("IVirtualBox_createMedium", "copy")
    service.answer("IMedium_cloneTo", "p")
    service.answer("IMedium_close", Refusal(0x80BB0007, "Medium is locked for writing by another task"))
    service.answer("IProgress_cancel", None)
    service.answer("IProgress_waitForCompletion", None)
    with pytest.raises(KeyboardInterrupt):
        provisioned._copy(Medium(service.api, service.add("source")), tmp_path / "cache" / "x.vdi")
    assert service.called("IProgress_cancel") == [{"_this": "p"}]
    assert service.called("IMedium_close") == [{"_this": "copy"}]


class _Ends:
    """Says that the run ends, from the second time on that it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> None:
        self.asked += 1
        if self.asked > 1:
            raise NotWanted


@pytest.mark.slow
def test_the_end_of_the_run_ends_the_wait_for_another_process_that_provisions(
    provisioned: Provisioned, model: MachineModel, tmp_path: Path
) -> None:
    disk, ends = disk_of(model.image), _Ends()
    name = key(model.image, disk)
    lock = held(tmp_path / "state", f"provision {tmp_path / 'cache' / 'provisioned' / name}", Deadline(5))
    with lock, pytest.raises(NotWanted):
        provisioned.disk(model, disk, 60.0, _no_machine, ends)


def test_a_worker_that_ends_before_it_has_provisioned_is_no_failure_for_the_others(
    provisioned: Provisioned, model: MachineModel
) -> None:
    def make() -> AbstractContextManager[Machine]:
        raise NotWanted

    for _ in range(2):
        with pytest.raises(NotWanted):
            provisioned.disk(model, disk_of(model.image), 60.0, make)


def _no_machine() -> AbstractContextManager[Machine]:
    raise AssertionError("it was not its turn")


@pytest.fixture
def model(tmp_path: Path) -> MachineModel:
    """A machine of an image with provisioning."""
    (tmp_path / "models.yaml").write_text(
        "images:\n  x: {disk: x.vdi, user: u, password: p, provision: [{run: a}]}\n"
    )
    (tmp_path / "x.vdi").touch()
    return Catalogue.load([tmp_path]).machine("x")
