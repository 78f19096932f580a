"""The clock of the wall is set, or all stands still for a while, as when a laptop is closed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
from fault_proxy import after
from lives import Life, Stage, sample
from own_rig import OwnRig, rig_only

pytestmark = rig_only
_PATIENCE = 150.0
#: Seconds; longer than a command of that life may take.
_STANDSTILL = 5.0


@pytest.mark.timeout(300)
def test_a_clock_that_is_set_by_a_year_while_a_machine_lives_does_no_harm(stage: Stage) -> None:
    led = stage.begin("set-clock")
    outcome, words = led.outcome(_PATIENCE)
    assert outcome == "ok", words
    assert stage.wait_until_reaped(led)
    assert stage.left_of(led) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("most", [3, pytest.param(None, marks=pytest.mark.soak)], ids=["some", "all"])
def test_a_computer_that_stands_still_at_any_call_for_longer_than_a_timeout_loses_nothing(
    most: int | None, stage: Stage, rig: OwnRig, record_property: Callable[[str, object], None]
) -> None:
    problems, times = [], 0
    for operation, nth in sample(stage.steps("wait"), most):
        stage.proxy.reset()
        led: list[Life] = []
        stage.proxy.on(operation, after(lambda led=led: _stand_still(led[0], rig)), nth=nth)  # type: ignore[misc]
        led.append(stage.begin("wait"))
        outcome, words = led[0].outcome(_PATIENCE)
        what = f"stood still after {operation} {nth}"
        times += stage.proxy.hits
        if outcome != "ok" and not outcome.startswith("pytest_vbox."):
            problems.append(f"{what}: {outcome} {words[-1500:]}")
        if not stage.wait_until_reaped(led[0]):
            problems.append(f"{what}: the reaper did not finish within a minute")
        problems += [f"{what}: {left}" for left in stage.left_of(led[0])]
    record_property("times", times)
    assert problems == []


def _stand_still(life: Life, rig: OwnRig) -> None:
    """Stop the run, its reaper and all of VirtualBox for a while."""
    assert life.process.pid is not None
    processes = [psutil.Process(life.process.pid), *rig.processes()]
    if (reaper := life.reaper()) is not None:
        processes.append(reaper)
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGSTOP)
    time.sleep(_STANDSTILL)
    for process in reversed(processes):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
