"""Whatever dies, and whenever: nothing of it is left, and the next run works.

The steps are taken from the code's own calls, as a proxy between it and VirtualBox sees them. `make test` tries
some of them, `make soak` all. That the next run works is seen by the next test, which begins with lives that have
to end well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fault_proxy import FAULTS, Action, FaultProxy, after, before, drop_after, drop_before
from inventory import untouched
from lives import Life, Stage, in_locks, is_changing, outside_locks, sample
from own_rig import rig_only

from pytest_vbox import places

pytestmark = rig_only
#: How many steps of each life the quick tests try; and of those that are tried in many ways.
_QUICK = {"cold": 6, "seeded": 2, "boot": 2, "fork": 6, "reset": 3, "park": 3}
_FEW = {"cold": 2, "seeded": 0, "boot": 0, "fork": 2, "reset": 0, "park": 2}


def _lives(quick: dict[str, int] = _QUICK) -> list[object]:
    """Each life, with how many of its steps are tried; None for all."""
    return [
        pytest.param(
            life, most, id=f"{life}-{'some' if most else 'all'}", marks=[] if most else [pytest.mark.soak]
        )
        for life in quick
        for most in (quick[life], None)
        if most != 0
    ]


_PATIENCE = 100.0
Record = Callable[[str, object], None]


@pytest.fixture(autouse=True)
def _nothing_of_the_users_is_touched(stage: Stage) -> Iterator[None]:
    with untouched(stage.host):
        yield


def _check(stage: Stage, life: Life, what: str) -> list[str]:
    if not stage.wait_until_reaped(life):
        return [f"{what}: the reaper did not finish within a minute"]
    return [f"{what}: {left}" for left in stage.left_of(life)]


def _begin(
    stage: Stage,
    life: str,
    step: tuple[str, int],
    fault: Callable[[Life], object],
    when: Callable[[Callable[[], object]], Action] = after,
) -> Life:
    """Begin a life to which something happens at one of its calls."""
    led: list[Life] = []
    stage.proxy.reset()
    stage.proxy.on(step[0], when(lambda: fault(led[0])), nth=step[1])
    led.append(stage.begin(life))
    return led[0]


def _end(stage: Stage, life: Life, what: str) -> list[str]:
    """Wait for the end of a life that is killed. Returns what is wrong with it."""
    outcome, words = life.outcome(_PATIENCE)
    if stage.proxy.hits and outcome != "killed":
        return [f"{what}: it was not killed but {outcome} {words[-300:]}"]
    return []


def _nearly_all(times: int, steps: int) -> bool:
    """Whether as many steps were met as can be: what goes on in the background makes other calls each time."""
    return times >= 0.8 * steps - 2


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("life", "most"), _lives())
def test_a_run_killed_at_any_call_leaves_nothing(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    steps = sample(stage.steps(life), most)
    problems, times = [], 0
    for number, (operation, nth) in enumerate(steps):
        # In turn before VirtualBox heard of it, and after it acted; all steps in both ways in the long run.
        for when in (before, after) if most is None else ((before, after)[number % 2],):
            led = _begin(stage, life, (operation, nth), Life.kill, when)
            what = f"killed {when.__name__} {operation} {nth}"
            problems += _end(stage, led, what)
            times += stage.proxy.hits
            problems += _check(stage, led, what)
    record_property("times", times)
    assert problems == []
    assert _nearly_all(times, len(steps) * (2 if most is None else 1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", [before, after])
def test_a_run_killed_while_it_holds_a_lock_leaves_nothing(
    when: Callable[[Callable[[], object]], Action], stage: Stage, record_property: Record
) -> None:
    steps = in_locks(stage.steps("cold"))
    problems = []
    for operation, nth in steps:
        led = _begin(stage, "cold", (operation, nth), Life.kill, when)
        assert led.outcome(_PATIENCE)[0] == "killed"
        problems += _check(stage, led, f"killed {when.__name__} {operation} {nth}")
    record_property("times", len(steps))
    assert len(steps) > 3
    assert problems == []


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("life", "most"), _lives(_FEW))
def test_a_reaper_killed_at_any_call_is_replaced_and_nothing_is_left(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    problems, killed = [], []
    steps = sample(stage.steps(life), most)
    for operation, nth in steps:
        led = _begin(stage, life, (operation, nth), lambda led: killed.append(led.kill_reaper()), before)
        outcome, words = led.outcome(_PATIENCE)
        what = f"reaper killed before {operation} {nth}"
        if outcome != "ok":
            problems.append(f"{what}: {outcome} {words[-1500:]}")
        problems += _check(stage, led, what)
    record_property("times", sum(killed))
    assert problems == []
    assert _nearly_all(sum(killed), len(steps))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("life", "most"), _lives(_FEW))
def test_a_run_killed_with_its_reaper_at_any_call_is_cleaned_up_after_by_the_next_run(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    problems, times = [], 0
    steps = sample(stage.steps(life), most)
    for operation, nth in steps:
        led = _begin(stage, life, (operation, nth), Life.kill_with_reaper)
        what = f"killed with its reaper after {operation} {nth}"
        problems += _end(stage, led, what)
        times += stage.proxy.hits
        stage.host.clean_up_abandoned()
        problems += _check(stage, led, what)
    record_property("times", times)
    assert problems == []
    assert _nearly_all(times, len(steps))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("life", "most"), _lives(_FEW))
def test_a_worker_killed_at_any_call_is_cleaned_up_after_while_its_run_goes_on(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    problems, times = [], 0
    steps = sample(stage.steps(life), most)
    with FaultProxy(stage.host.url) as way:
        beside = stage.through(way)
        for operation, nth in steps:
            led = _begin(stage, life, (operation, nth), Life.kill)
            other = beside.begin("fork", beside=led)
            what = f"killed after {operation} {nth}"
            problems += _end(stage, led, what)
            times += stage.proxy.hits
            outcome, words = other.outcome(_PATIENCE)
            if outcome != "ok":
                problems.append(f"beside one {what}: {outcome} {words[-1500:]}")
            problems += _check(stage, led, what)
    record_property("times", times)
    assert problems == []
    assert _nearly_all(times, len(steps))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("most", [4, pytest.param(None, marks=pytest.mark.soak)], ids=["some", "all"])
def test_a_run_killed_while_virtualbox_gets_to_know_its_base_leaves_nothing_that_keeps_the_next_from_it(
    most: int | None, stage: Stage, record_property: Record
) -> None:
    problems, times = [], 0
    steps = sample(stage.steps("anchor"), most)
    for operation, nth in steps:
        led = _begin(stage, "anchor", (operation, nth), Life.kill)
        what = f"killed after {operation} {nth}"
        problems += _end(stage, led, what)
        times += stage.proxy.hits
        problems += _check(stage, led, what)
        stage.proxy.reset()
        outcome, words = stage.begin("known").outcome(_PATIENCE)
        if outcome != "ok":
            problems.append(f"the next one after one {what}: {outcome} {words[-1500:]}")
    record_property("times", times)
    assert problems == []
    assert _nearly_all(times, len(steps))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "operation", ["IMachine_launchVMProcess", "IMachine_takeSnapshot", "IMachine_setExtraData"]
)
def test_a_run_killed_while_it_makes_a_golden_machine_leaves_no_key_of_its_guest(
    operation: str, stage: Stage
) -> None:
    led = _begin(stage, "keyed-golden", (operation, 1), Life.kill)
    assert led.outcome(_PATIENCE)[0] == "killed"
    assert _check(stage, led, f"killed after {operation}") == []
    assert list((places.state_folder() / "golden" / "keys").glob("*")) == []


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("life", "most"), _lives())
def test_any_call_that_fails_once_is_an_error_of_ours_or_none_and_leaves_nothing(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    steps = sample(stage.steps(life, every=True), most)
    problems, times = [], 0
    names = list(FAULTS)
    for number, (operation, nth) in enumerate(steps):
        # A call that only looks fails in one of the ways, each in another; one that does more in all of them.
        every = most is None and is_changing(operation)
        for name in names if every else [names[number % len(names)]]:
            stage.proxy.reset()
            stage.proxy.on(operation, FAULTS[name], nth=nth)
            led = stage.begin(life)
            outcome, words = led.outcome(_PATIENCE)
            times += stage.proxy.hits
            what = f"{name} at {operation} {nth}"
            if outcome != "ok" and not outcome.startswith("pytest_vbox."):
                problems.append(f"{what}: {outcome} {words[-1500:]}")
            problems += _check(stage, led, what)
    record_property("times", times)
    assert problems == []
    assert _nearly_all(times, len(steps))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", [before, after])
def test_a_golden_machine_that_was_being_removed_when_its_run_died_is_gone(
    when: Callable[[Callable[[], object]], Action], stage: Stage
) -> None:
    # The first one is of the machine that was forked from it.
    led = _begin(stage, "keyed-golden", ("IMachine_deleteConfig", 2), Life.kill, when)
    assert led.outcome(_PATIENCE)[0] == "killed"
    assert _check(stage, led, "killed while a golden machine was removed") == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("when", [before, after])
def test_a_disc_that_was_attached_but_not_saved_when_its_run_died_is_forgotten(
    when: Callable[[Callable[[], object]], Action], stage: Stage
) -> None:
    # The disk comes first.
    led = _begin(stage, "seeded", ("IMachine_attachDevice", 2), Life.kill, when)
    assert led.outcome(_PATIENCE)[0] == "killed"
    assert _check(stage, led, "killed while a disc was attached") == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("life", "operation"),
    [
        ("cold", "IVirtualBox_createMachine"),
        ("cold", "IVirtualBox_registerMachine"),
        ("cold", "IMachine_lockMachine"),
        ("cold", "ISession_unlockMachine"),
        ("fork", "ISession_unlockMachine"),
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


@pytest.mark.timeout(300)
def test_an_unlock_that_never_arrives_leaves_no_machine_locked(stage: Stage) -> None:
    assert stage.begin("cold").outcome(_PATIENCE)[0] == "ok"  # the image is known from here on
    stage.proxy.on("ISession_unlockMachine", drop_before)
    led = stage.begin("cold")
    outcome, words = led.outcome(_PATIENCE)
    assert outcome.startswith("pytest_vbox."), words
    assert _check(stage, led, outcome) == []


# Not among the quick ones: over it, VirtualBox's own server may crash.
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("life", "most"), _lives())
def test_a_web_session_that_ends_at_any_call_is_renewed_or_an_error_of_ours_and_leaves_nothing(
    life: str, most: int | None, stage: Stage, record_property: Record
) -> None:
    problems, times = [], 0
    # What VirtualBox does not unlock then has a test among the deaths of VirtualBox.
    steps = sample(outside_locks(stage.steps(life)), most)
    for operation, nth in steps:
        led = _begin(stage, life, (operation, nth), stage.end_session, before)
        outcome, words = led.outcome(_PATIENCE)
        what = f"session ended before {operation} {nth}"
        times += stage.proxy.hits
        if outcome != "ok" and not outcome.startswith("pytest_vbox."):
            problems.append(f"{what}: {outcome} {words[-1500:]}")
        problems += _check(stage, led, what)
    record_property("times", times)
    assert problems == []
    assert _nearly_all(times, len(steps))
