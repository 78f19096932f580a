"""Whatever dies, and whenever: nothing of it is left, and the next run works.

The steps are taken from the code's own calls, as a proxy between it and VirtualBox sees them. `make test` tries
some of them, `make soak` all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from fault_proxy import FaultProxy, after, before, cut, drop_after, drop_before, http_error, virtualbox_error
from lives import Life, Stage, sample
from machine_support import disk_of, sha256
from own_rig import OwnRig, own_rig, rig_only

from pytest_vbox import places
from pytest_vbox.ownership.ledger import run_folder

pytestmark = rig_only
#: How many steps of each life the quick tests try.
_QUICK = {"cold": 8, "fork": 8, "reset": 5, "park": 5}
_LIVES = [
    pytest.param(life, most, id=f"{life}-{'some' if most else 'all'}", marks=[] if most else [pytest.mark.soak])
    for life, quick in _QUICK.items()
    for most in (quick, None)
]
_PATIENCE = 100.0
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def rig() -> Iterator[OwnRig]:
    """A VirtualBox of their own: what dies in the middle may take others' machines with it."""
    with own_rig("lives") as rig:
        yield rig


@pytest.fixture
def stage(rig: OwnRig) -> Iterator[Stage]:
    """Lives are led there, through a proxy."""
    with rig.connect() as host, FaultProxy(host.url) as proxy:
        yield Stage(proxy, host, rig.environ)


@pytest.fixture(autouse=True)
def _base_is_untouched(stage: Stage) -> Iterator[None]:
    base = disk_of(stage.host.catalogue.images["tiny"])
    digest = sha256(base)
    yield
    assert sha256(base) == digest


def _check(stage: Stage, life: Life, what: str) -> list[str]:
    if not stage.wait_until_reaped(life):
        return [f"{what}: the reaper did not finish within a minute"]
    return [f"{what}: {left}" for left in stage.left_of(life)]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("life", "most"), _LIVES)
def test_a_run_killed_at_any_call_leaves_nothing(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    steps = sample(stage.steps(life), most)
    problems, times = [], 0
    for number, (operation, nth) in enumerate(steps):
        # In turn before VirtualBox heard of it, and after it acted; all steps in both ways in the long run.
        for when in (before, after) if most is None else ((before, after)[number % 2],):
            stage.proxy.reset()
            led: list[Life] = []
            stage.proxy.on(operation, when(lambda led=led: led[0].kill()), nth=nth)  # type: ignore[misc]
            led.append(stage.begin(life))
            outcome, words = led[0].outcome(_PATIENCE)
            what = f"killed {when.__name__} {operation} {nth}"
            # What goes on in the background does not make the same calls each time.
            times += stage.proxy.hits
            if stage.proxy.hits and outcome != "killed":
                problems.append(f"{what}: it was not killed but {outcome} {words[-300:]}")
            problems += _check(stage, led[0], what)
    record_property("times", times)
    assert problems == []
    assert times > len(steps) / 2
    stage.proxy.reset()
    assert stage.begin(life).outcome(_PATIENCE)[0] == "ok"


_FAULTS = {
    "refused": virtualbox_error(0x80004005),
    "not-found": virtualbox_error(0x80BB0001),
    "http-503": http_error(503),
    "never-arrived": drop_before,
    "reply-lost": drop_after,
    "reply-cut": cut,
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("life", "most"), _LIVES)
def test_any_call_that_fails_once_is_an_error_of_ours_or_none_and_leaves_nothing(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    steps = sample(stage.steps(life, every=True), most)
    problems, times = [], 0
    for number, (operation, nth) in enumerate(steps):
        names = list(_FAULTS)
        for name in names if most is None else [names[number % len(names)]]:
            stage.proxy.reset()
            times += 1
            stage.proxy.on(operation, _FAULTS[name], nth=nth)
            led = stage.begin(life)
            outcome, words = led.outcome(_PATIENCE)
            what = f"{name} at {operation} {nth}"
            if outcome != "ok" and not outcome.startswith("pytest_vbox."):
                problems.append(f"{what}: {outcome} {words[-1500:]}")
            problems += _check(stage, led, what)
    record_property("times", times)
    assert problems == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("life", "operation"),
    [
        ("cold", "IVirtualBox_createMachine"),
        ("cold", "IVirtualBox_registerMachine"),
        ("cold", "IMachine_unregister"),
        ("cold", "IMachine_deleteConfig"),
        ("fork", "IMachine_cloneTo"),
        ("fork", "IVirtualBox_registerMachine"),
        ("fork", "IMachine_launchVMProcess"),
        ("fork", "IConsole_powerDown"),
        ("fork", "IMachine_unregister"),
    ],
)
def test_a_reply_that_is_lost_makes_no_second_machine_and_no_orphan(
    life: str, operation: str, stage: Stage
) -> None:
    stage.proxy.on(operation, drop_after)
    led = stage.begin(life)
    outcome, words = led.outcome(_PATIENCE)
    assert stage.proxy.hits == 1
    assert outcome == "ok" or outcome.startswith("pytest_vbox."), words
    assert _check(stage, led, outcome) == []


def _end_session(stage: Stage, life: Life) -> None:
    """End the web session of a life, as VirtualBox does when it has heard nothing for too long."""
    for file in run_folder(places.state_folder(), life.run).glob("[0-9]*.json"):
        stage.host.session.end_other(str(json.loads(file.read_text(encoding="utf-8"))["session"]))


# Not among the quick ones: over it, VirtualBox's own server may crash.
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("life", "most"), _LIVES)
def test_a_web_session_that_ends_at_any_call_is_renewed_or_an_error_of_ours_and_leaves_nothing(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    problems, times = [], 0
    for operation, nth in sample(stage.steps(life), most):
        stage.proxy.reset()
        led: list[Life] = []
        stage.proxy.on(operation, before(lambda led=led: _end_session(stage, led[0])), nth=nth)  # type: ignore[misc]
        led.append(stage.begin(life))
        outcome, words = led[0].outcome(_PATIENCE)
        what = f"session ended before {operation} {nth}"
        times += stage.proxy.hits
        if outcome != "ok" and not outcome.startswith("pytest_vbox."):
            problems.append(f"{what}: {outcome} {words[-1500:]}")
        problems += _check(stage, led[0], what)
    record_property("times", times)
    assert problems == []
