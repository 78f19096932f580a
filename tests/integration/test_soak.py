"""Twenty minutes of everything: lives in any order, faults at any call, and somebody else at work beside them."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import pytest
from fault_proxy import FAULTS, FaultProxy, after, before
from lives import LIVES, Life, Stage, is_changing, outside_locks
from machine_support import disk_of, sha256
from own_rig import VICTIMS, OwnRig, rig_only
from sizes import grown, sizes

from pytest_vbox.machines import VirtualBoxHost

pytestmark = [rig_only, pytest.mark.soak]
#: For how long, and which faults in which order.
_SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))
_SEED = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
_PATIENCE = 150.0
_log = logging.getLogger(__name__)
#: After these, whoever works beside it must have noticed nothing.
_OF_ONE_RUN: Final = ("none", "killed", "stopped", *FAULTS)
_OF_VIRTUALBOX: Final = ("session", *VICTIMS)


@pytest.fixture
def host(rig: OwnRig) -> Iterator[VirtualBoxHost]:
    with rig.connect() as host:
        yield host


@dataclass
class _Soak:
    """The rounds.

    Attributes:
        rig: Where all this happens.
        stage: Where the lives with a fault are led.
        beside: Where those without are, at the same time.
        dice: Decides.
        steps: The calls of each life.
        rounds: How many there were of each kind of fault.
        outcomes: How the lives with a fault ended.
        problems: What should not have been.
    """

    rig: OwnRig
    stage: Stage
    beside: Stage
    dice: random.Random
    steps: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    rounds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def learn(self) -> None:
        """See which calls each life makes."""
        self.steps = {life: self.stage.steps(life, every=True) for life in LIVES}
        self.tidy()

    def tidy(self) -> None:
        """Have nothing left that is for later runs.

        Golden machines are removed by this process before that life, so it has a reaper of its own from then on.
        """
        self.stage.proxy.reset()
        ended = self.stage.begin("boot")
        assert ended.outcome(_PATIENCE)[0] == "ok"
        assert self.stage.wait_until_reaped(ended)

    def round(self) -> None:
        """One life with a fault, and one beside it."""
        known = len(self.problems)
        fault = self.dice.choice(_OF_ONE_RUN + _OF_VIRTUALBOX)
        life = self.dice.choice(sorted(LIVES))
        steps = self.steps[life]
        if fault == "killed":  # before it has made anything, it leaves its empty folder to the next run
            steps = [step for step in steps if is_changing(step[0])]
        if fault == "session":  # VirtualBox itself leaves machines locked then
            steps = outside_locks(steps)
        operation, nth = self.dice.choice(steps)
        other = self.dice.choice(sorted(LIVES))
        led: list[Life] = []
        self._expect(fault, operation, nth, led)
        led.append(self.stage.begin(life))
        alone = fault in _OF_VIRTUALBOX
        quiet = None if alone else self.beside.begin(other)
        self.rounds[fault] += 1
        what = f"{life} with {fault} at {operation} {nth}"
        outcome, words = led[0].outcome(_PATIENCE)
        self.outcomes[outcome] += 1
        _log.info("%s: %s", what, outcome)
        if not (outcome == "ok" or outcome.startswith("pytest_vbox.") or (outcome, fault) == ("killed", "killed")):
            self.problems.append(f"{what}: {outcome} {words[-1500:]}")
        if fault == "none" and outcome != "ok":
            self.problems.append(f"{what}: {outcome} {words[-1500:]}")
        if quiet is not None and (said := quiet.outcome(_PATIENCE))[0] != "ok":
            self.problems.append(f"beside {what}, {other}: {said[0]} {said[1][-1500:]}")
        both = [one for one in (led[0], quiet) if one is not None]
        for ended in both:
            if not self.stage.wait_until_reaped(ended):
                self.problems.append(f"{what}: the reaper did not finish within a minute")
        for ended in both:
            self.problems += [f"{what}: {left}" for left in self.stage.left_of(ended)]
        for problem in self.problems[known:]:
            _log.error("%s", problem)

    def _expect(self, fault: str, operation: str, nth: int, led: list[Life]) -> None:
        when = self.dice.choice((before, after))
        seconds = self.dice.uniform(0.5, 5)
        actions: dict[str, Callable[[], object]] = {
            "killed": lambda: led[0].kill(),
            "stopped": lambda: _stop(led[0], seconds),
            "session": lambda: self.stage.end_session(led[0]),
            **{name: partial(kill, self.rig) for name, kill in VICTIMS.items()},
        }

        def act() -> None:
            try:
                actions[fault]()
            except Exception as error:  # noqa: BLE001 - this is a thread of the proxy's
                self.problems.append(f"the fault {fault} itself failed: {error!r}")

        self.stage.proxy.reset()
        if fault in FAULTS:
            self.stage.proxy.on(operation, FAULTS[fault], nth=nth)
        elif fault in actions:
            self.stage.proxy.on(operation, when(act), nth=nth)


def _stop(life: Life, seconds: float) -> None:
    """Suspend a process for a while."""
    assert life.process.pid is not None
    os.kill(life.process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(life.process.pid, signal.SIGCONT)


@pytest.mark.timeout(_SECONDS + 900)
def test_nothing_is_left_and_nothing_grows_over_a_long_mix_of_lives_and_deaths(
    rig: OwnRig, host: VirtualBoxHost, record_property: Callable[[str, object], None]
) -> None:
    base = disk_of(host.catalogue.images["tiny"])
    digest = sha256(base)
    with FaultProxy(host.url) as proxy, FaultProxy(host.url) as other:
        _log.info("SOAK_SEED=%s", _SEED)
        dice = random.Random(_SEED)  # noqa: S311 - no secret
        soak = _Soak(rig, Stage(proxy, host, rig), Stage(other, host, rig), dice)
        soak.learn()
        sizes_before = sizes(host, rig)
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end and len(soak.problems) < 10:
            soak.round()
        soak.tidy()
        sizes_after = sizes(host, rig)
    summary = {"seed": _SEED, "rounds": soak.rounds, "outcomes": soak.outcomes, "problems": soak.problems}
    _log.info("%s", json.dumps(summary, indent=1))
    record_property("times", soak.rounds.total())
    assert soak.problems == [], f"seed {_SEED}"
    assert grown(sizes_before, sizes_after) == {}
    assert sha256(base) == digest
