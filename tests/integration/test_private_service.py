"""The private service dies while a run uses it: the run goes on with another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lives import wait_for_end
from own_rig import OwnRig, rig_only

from pytest_vbox.hosts import connect_host
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP
from pytest_vbox.service.endpoint import stop
from pytest_vbox.service.record import Record
from pytest_vbox.settings import load
from pytest_vbox.virtualbox.errors import VirtualBoxError

pytestmark = rig_only


@pytest.fixture
def state(rig: OwnRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No service is named, so that a private one is started. Where its state is."""
    for variable, value in {**rig.environ, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(variable, value)
    for variable in ("PYTEST_VBOX_URL", "PYTEST_VBOX_USER", "PYTEST_VBOX_PASSWORD_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(Path(rig.environ["PYTEST_VBOX_RIG"]) / "bin"), prepend=os.pathsep)
    yield tmp_path / "pytest-vbox"
    stop(tmp_path / "pytest-vbox")


@pytest.fixture
def host(state: Path) -> Iterator[VirtualBoxHost]:
    with connect_host(load(), clean_up=False) as host:
        assert host.url == _record(state).url
        yield host


def _record(state: Path) -> Record:
    record = Record.read(state)
    assert record is not None
    return record


def _kill_service(state: Path) -> None:
    process = _record(state).service.find()
    assert process is not None
    process.kill()
    wait_for_end([process])


def _kill_server(rig: OwnRig) -> None:
    victims = [process for process in rig.processes() if process.name() == "VBoxSVC"]
    assert victims
    for victim in victims:
        victim.kill()
    wait_for_end(victims)


def _left(host: VirtualBoxHost, name: str) -> list[str]:
    return [machine.name for machine in host.api.machines_by_groups([GROUP, GOLDEN_GROUP]) if name in machine.name]


def test_a_private_service_that_is_killed_is_replaced_and_the_machines_go_on(
    state: Path, host: VirtualBoxHost
) -> None:
    machine = host.machine(name="survivor")
    machine.run("echo before > /tmp/file")
    before = host.url
    _kill_service(state)
    assert machine.run("cat /tmp/file").stdout == "before\n"
    assert machine.state == "Running"
    assert host.url == _record(state).url != before
    other = host.machine(name="newcomer")
    assert other.run("echo hello").stdout == "hello\n"
    _kill_service(state)
    for left in (machine, other):
        host.remove(left)
    assert _left(host, "survivor") + _left(host, "newcomer") == []


def test_the_private_service_is_replaced_where_virtualboxs_server_died_behind_it(
    rig: OwnRig, host: VirtualBoxHost
) -> None:
    machine = host.machine(name="victim")
    before = host.url
    _kill_server(rig)
    with pytest.raises(VirtualBoxError):
        machine.screenshot()
    other = host.machine(name="newcomer")
    assert other.run("echo hello").stdout == "hello\n"
    assert host.url != before
    for left in (machine, other):
        host.remove(left)
    assert _left(host, "victim") + _left(host, "newcomer") == []


def test_a_suite_whose_private_service_dies_in_a_test_goes_on_with_the_next(
    suite: pytest.Pytester, state: Path, host: VirtualBoxHost
) -> None:
    suite.makepyfile(
        """
        from pytest_vbox import places
        from pytest_vbox.service.record import Record

        def test_during(vbox_machine):
            vm = vbox_machine(name="suite")
            Record.read(places.state_folder()).service.find().kill()
            assert vm.run("echo still there").stdout == "still there\\n"

        def test_next(vbox_machine):
            assert vbox_machine(name="suite").run("echo hello").stdout == "hello\\n"
        """
    )
    suite.runpytest_subprocess("--vbox=require", "-W", "error").assert_outcomes(passed=2)
    assert _left(host, "suite") == []
    assert state.exists()
