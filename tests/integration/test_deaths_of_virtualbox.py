"""VirtualBox's own processes die, in a rig of the tests' own: an error of ours, and nothing is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_proxy import after, before, instead
from inventory import untouched
from lives import Life, Stage, sample
from own_rig import VICTIMS, OwnRig, restart_server, restart_web_service

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.machines.removal import remove
from pytest_vbox.ownership import take_unseen
from pytest_vbox.ownership.ledger import run_folder
from pytest_vbox.virtualbox.enums import LockType

pytestmark = [
    pytest.mark.skipif(
        "PYTEST_VBOX_RIG" not in os.environ, reason="the processes are only ours to kill in the rig"
    ),
    pytest.mark.xdist_group("own-rig"),
]
_PATIENCE = 150.0


@pytest.fixture(autouse=True)
def _nothing_of_the_users_is_touched(stage: Stage) -> Iterator[None]:
    with untouched(stage.host):
        yield


# How many steps of each life the quick tests try.
_STEPS = {"cold": 3, "boot": 0, "fork": 3, "reset": 2, "park": 2}


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("victim", "life", "most"),
    [
        pytest.param(
            kill,
            life,
            most,
            id=f"{name}-{life}-{'some' if most else 'all'}",
            marks=[] if most else [pytest.mark.soak],
        )
        for name, kill in VICTIMS.items()
        for life, quick in _STEPS.items()
        for most in (quick, None)
        if (name, life) != ("machine", "cold") and most != 0
    ],
)
def test_virtualbox_dies_at_any_call(
    victim: Callable[[OwnRig], None],
    life: str,
    most: int | None,
    stage: Stage,
    rig: OwnRig,
    record_property: Callable[[str, object], None],
) -> None:
    if life != "cold":
        stage.begin("fork").outcome(_PATIENCE)  # so that there is a golden machine
    problems, times = [], 0
    steps = sample(stage.steps(life), most)
    for number, (operation, nth) in enumerate(steps):
        # In turn before VirtualBox heard of it, and after it acted.
        when = (before, after)[number % 2]
        stage.proxy.reset()
        stage.proxy.on(operation, when(lambda: victim(rig)), nth=nth)
        led = stage.begin(life)
        outcome, words = led.outcome(_PATIENCE)
        times += stage.proxy.hits
        what = f"{victim.__name__} {when.__name__} {operation} {nth}"
        if outcome != "ok" and not outcome.startswith("pytest_vbox."):
            problems.append(f"{what}: {outcome} {words[-1500:]}")
        if not stage.wait_until_reaped(led):
            problems.append(f"{what}: the reaper did not finish")
        problems += [f"{what}: {left}" for left in stage.left_of(led)]
    record_property("times", times)
    assert problems == []
    # What goes on in the background does not make the same calls each time.
    assert times > 0.8 * len(steps)
    stage.proxy.reset()
    outcome, words = stage.begin(life).outcome(_PATIENCE)
    assert outcome == "ok", words


def _killed_with_its_reaper(stage: Stage, life: str = "cold", at: str = "IMachine_unregister") -> Life:
    """A life that ended with a machine, and with nobody to clean up."""
    led: list[Life] = []
    stage.proxy.on(at, instead(lambda: led[0].kill_with_reaper()))
    led.append(stage.begin(life))
    assert led[0].outcome(_PATIENCE)[0] == "killed"
    return led[0]


@pytest.mark.timeout(300)
def test_a_reaper_that_is_killed_with_its_run_is_done_without_by_the_next_run(stage: Stage) -> None:
    dead = _killed_with_its_reaper(stage)
    assert any("machine" in left for left in stage.left_of(dead))
    assert [name for name in stage.host.clean_up_abandoned() if dead.name in name]
    assert stage.left_of(dead) == []
    assert any(dead.name in line for line in take_unseen(places.state_folder()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lost", ["ledger", "extra data"])
def test_either_the_ledger_or_the_extra_data_alone_is_enough_to_clean_up(stage: Stage, lost: str) -> None:
    dead = _killed_with_its_reaper(stage)
    if lost == "ledger":
        for file in run_folder(places.state_folder(), dead.run).iterdir():
            file.unlink()
        run_folder(places.state_folder(), dead.run).rmdir()
    else:
        for machine in stage.host.api.machines:
            if dead.name in machine.name:
                with stage.host.session.lock(machine, LockType.WRITE, Deadline(20)) as held:
                    held.machine.set_extra_data("pytest-vbox/owner", "")
                    held.machine.save_settings()
    stage.host.clean_up_abandoned()
    assert stage.left_of(dead) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lost", ["nothing", "ledger"])
def test_what_ran_when_the_computer_went_off_is_removed_once_it_is_on_again(
    lost: str, stage: Stage, rig: OwnRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.begin("fork").outcome(_PATIENCE)  # so that there is a golden machine
    dead = _killed_with_its_reaper(stage, "fork", "IConsole_powerDown")
    if lost == "ledger":
        shutil.rmtree(run_folder(places.state_folder(), dead.run))
    restart_server(rig)
    monkeypatch.setattr("pytest_vbox.ownership.process._boot", lambda: "the next one")
    with rig.connect() as host:
        after = Stage(stage.proxy, host, rig)
        assert any("machine" in left for left in after.left_of(dead))
        assert [name for name in host.clean_up_abandoned() if dead.name in name]
        assert after.left_of(dead) == []


@pytest.mark.timeout(300)
def test_the_command_line_cleans_up_too_even_with_broken_yaml(stage: Stage, rig: OwnRig, tmp_path: Path) -> None:
    dead = _killed_with_its_reaper(stage)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "x.yaml").write_text("images: [broken\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest_vbox.cli", "gc", "--root", tmp_path],
        env={**os.environ, **rig.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"removed pytest-{dead.name}" in done.stdout
    assert stage.left_of(dead) == []


@pytest.mark.timeout(300)
def test_a_machine_whose_name_only_looks_like_ours_stays(stage: Stage) -> None:
    api = stage.host.api
    machine = api.create_machine("", "pytest-tiny-0123abcd", ["/pytest-vbox"], "Linux26_64")
    machine.save_settings()
    api.register_machine(machine)
    try:
        stage.host.clean_up_abandoned()
        assert api.find_machine("pytest-tiny-0123abcd").name == "pytest-tiny-0123abcd"
    finally:
        machine_id = api.find_machine("pytest-tiny-0123abcd").id
        remove(stage.host.session, machine_id, "pytest-tiny-0123abcd", local=True)


@pytest.mark.soak  # as long as VirtualBox may take to unlock a machine, twice
@pytest.mark.timeout(600)
def test_a_machine_whose_web_session_ended_in_a_lock_goes_once_the_web_service_is_new(
    stage: Stage, rig: OwnRig
) -> None:
    led: list[Life] = []
    assert stage.begin("cold").outcome(_PATIENCE)[0] == "ok"  # the image is known from here on
    stage.proxy.on("IMachine_attachDevice", before(lambda: stage.end_session(led[0])))
    led.append(stage.begin("cold"))
    outcome, words = led[0].outcome(_PATIENCE)
    assert outcome.startswith("pytest_vbox."), words
    assert stage.wait_until_nobody_lives(led[0])
    assert any("machine" in left for left in stage.left_of(led[0]))
    restart_web_service(rig)
    with rig.connect() as host:
        host.clean_up_abandoned()
        assert Stage(stage.proxy, host, rig).left_of(led[0]) == []
