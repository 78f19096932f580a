"""How requests are answered when something goes wrong besides, or when the run ends meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Bases
from pytest_vbox.machines import BootError, VirtualBoxHost
from pytest_vbox.machines.context import NotWanted
from pytest_vbox.machines.forking import ForkFailed
from pytest_vbox.machines.golden import Golden
from pytest_vbox.machines.plan import Plan
from pytest_vbox.machines.pool import Wanted
from pytest_vbox.models import Catalogue, Image
from pytest_vbox.ownership import Capacity, CapacityExceeded, KeptMachines, Limits
from pytest_vbox.settings import Keep, Settings
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.errors import Failed, InvalidObjectState
from unit.kit.service import FakeService, Refusal

from .workshop import workshop

IMAGE = "images:\n  tiny: {disk: tiny.vdi, user: root, password: x}\n"


@pytest.fixture
def host(service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualBoxHost]:
    """A host that allows one machine at once, and keeps those of failed tests; its base is ready."""
    workshop(service, str(tmp_path / "vms" / "one"))
    service.answer("IVirtualBox_composeMachineFilename", str(tmp_path / "vms" / "one" / "one.vbox"))
    service.answer("IVirtualBox_openMedium", service.add("base"))
    monkeypatch.setattr(Bases, "_ensure", lambda *_: Medium(service.api, "base"))
    # All tests share one connection, so the hosts must not close it.
    monkeypatch.setattr(service.session, "close", lambda: None)
    (tmp_path / "models.yaml").write_text(IMAGE)
    (tmp_path / "tiny.vdi").touch()
    host = VirtualBoxHost(
        service.session,
        Settings(max_machines=1, prewarm=1, keep=Keep.FAILED),
        Catalogue.load([tmp_path]),
        state=tmp_path / "state",
        run="run-1",
    )
    yield host
    host.close()


def _closed_soon(host: VirtualBoxHost) -> None:
    closing = Deadline(30)
    host.close()
    assert closing.elapsed < 5


def test_the_end_of_the_run_ends_a_download_for_a_machine_that_nobody_wants_any_more(
    host: VirtualBoxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(image: Image, report: object) -> Image:
        assert callable(report)
        give_up = Deadline(20)
        while not give_up.expired:
            try:
                report("download tiny.vdi", 5, None)
            except NotWanted:
                ended.set()
                raise
            begun.set()
            threading.Event().wait(0.01)
        return image

    monkeypatch.setattr(host._maker, "image_with_disk", endless)
    host.expect([host.wanted()])
    assert begun.wait(10)
    _closed_soon(host)
    assert ended.is_set()


@pytest.mark.slow
def test_the_end_of_the_run_ends_the_wait_for_a_place_for_what_nobody_wants_any_more(
    host: VirtualBoxHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Capacity(tmp_path / "state", host.identity, Limits(1, 8192, 1), "run-2")
    other.take("pytest-other", 512, Deadline(5))
    plan = host._planned(host.wanted())
    waiting = threading.Event()

    def provisioned(_: Wanted) -> Plan:
        waiting.set()
        host._supply.take_place(plan)
        return plan

    monkeypatch.setattr(host._supply, "_planned", provisioned)
    try:
        host.expect([host.wanted()])
        assert waiting.wait(10)
        _closed_soon(host)
    finally:
        other.close()


@pytest.mark.parametrize("discarded", [True, False])
def test_a_machine_that_cannot_be_removed_is_told_at_once_to_who_needs_its_place(
    host: VirtualBoxHost, service: FakeService, discarded: bool
) -> None:
    machine = host.machine(start=False)
    machine._place = host._supply.take_place(machine._plan)
    service.answer("IMachine_unregister", Refusal(0x80004005, "no"))
    if discarded:
        host.discard(machine)
        _soon(lambda: host._supply._disposal._problems)
        assert [name for name, _ in host.problems()] == [machine.name]
    else:
        with pytest.raises(Failed):
            host.remove(machine)
    with pytest.raises(CapacityExceeded, match=f"{machine.name} .* could not be removed"):
        host._supply.take_place(machine._plan)
    # What went after all makes room.
    service.answer("IMachine_unregister", [])
    host.remove(machine)
    place = host._supply.take_place(machine._plan)
    place.release()


def test_where_a_machine_cannot_be_kept_it_is_removed_and_why_it_did_not_come_up_is_told(
    host: VirtualBoxHost, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    machine = host.machine(start=False)
    machine._place = host._supply.take_place(machine._plan)
    monkeypatch.setattr(KeptMachines, "add", full)
    error = BootError("one", "ssh", 1.0, "it did not come up")
    host._supply.part_with(machine, error)
    (note,) = error.__notes__
    assert "keeping the machine" in note
    assert "No space left" in note
    assert "IMachine_unregister" in service.names
    host._supply.take_place(machine._plan).release()


def test_a_machine_that_nobody_wants_any_more_is_not_kept(host: VirtualBoxHost, service: FakeService) -> None:
    machine = host.machine(start=False)
    host._supply.part_with(machine, NotWanted())
    assert "IMachine_unregister" in service.names


def test_a_machine_that_was_booted_after_all_is_handed_out_though_the_golden_one_cannot_be_discarded(
    host: VirtualBoxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise InvalidObjectState("another worker writes it")

    booted = host.machine(start=False)
    monkeypatch.setattr(host.golden, "discard", refused)
    monkeypatch.setattr(host._supply, "cold", lambda *_, **__: booted)
    golden = Golden("i", "golden", "k", "s", "tiny", "small", "7.2", ("/tiny.vdi", ""), "")
    failure = ForkFailed(golden, BootError("one", "ssh", 1.0, "reason: it is silent"))
    place = host._supply.take_place(booted._plan)
    assert host._supply._booted_after_all(booted._plan, "k", failure, place) is booted
    place.release()


def _soon(condition: Callable[[], object]) -> None:
    end = Deadline(10)
    while not condition():
        assert not end.expired
        threading.Event().wait(0.01)
