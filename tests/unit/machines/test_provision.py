"""Provisioned disks: made once, by a wait that ends when nobody wants it any more."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from pytest_vbox.images import Bases
from pytest_vbox.machines.provision import Provisioned
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
