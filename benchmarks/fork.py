"""How soon a test has a machine: forked, or parked; beside the raw API calls of a fork and VBoxManage scripts.

    python -m benchmarks.fork [--runs N] [--quick] [--image NAME] [--profile NAME]

In each round one machine is made in each way, in turn, so that a busy computer slows them alike. Parked
machines are asked for in a suite of their own, a part of it after every few rounds.
"""

from __future__ import annotations

import time

from benchmarks import raw, scripts
from benchmarks.common import Bench, Clock, Options, Phases, about, bench, phases_table, save, warn_if_busy
from benchmarks.suites import Suite

PHASES = (
    "golden",
    "create",
    "clone",
    "launch",
    "forward",
    "network",
    "boot + SSH",
    "ssh",
    "resume",
    "ready",
    "run",
    "teardown",
)
# So many parked machines are asked for in one suite.
_CHUNK = 5


def fork(shared: Bench) -> Phases:
    """The plugin's fork, with nothing parked: from the call to a machine that runs commands."""
    clock = Clock()
    with clock.phase("ready"):
        vm = shared.host.machine(shared.options.image, shared.options.profile)
    phases = {name: seconds * 1000 for name, seconds in vm.phases.items()}
    # What the machine's own phases do not have is what was before its start.
    phases.setdefault("clone", clock.phases["ready"] - sum(phases.values()))
    with clock.phase("run"):
        vm.run("true")
    with clock.phase("teardown"):
        shared.host.remove(vm)
    return {**phases, **clock.phases}


def parked(options: Options, count: int) -> list[Phases]:
    """What tests see whose machine was forked while the one before them ran."""
    with Suite(options, "parked", count + 1, wait_for_parked=True) as suite:
        told = suite.run("--vbox-prewarm=1")
    # The first one finds nothing parked.
    return [test.phases for test in told.tests if test.way == "parked hit"][:count]


def measure(options: Options) -> None:
    """Measure, print and save."""
    warn_if_busy()
    results: dict[str, list[Phases]] = {"raw fork": [], "fork": [], "parked hit": []}
    with bench(options) as shared:
        described = about(shared.host)
        shared.host.remove(shared.host.machine(options.image, options.profile))  # the golden machine is there now
        with raw.golden_machine(shared) as golden:
            asked = _rounds(shared, golden, results)
    save(options, "fork", {"about": described, "parked asked": asked, "milliseconds": results})
    print(phases_table(results, PHASES))
    print(f"parked: {len(results['parked hit'])} of {asked} requests were answered with a parked machine")


def _rounds(shared: Bench, golden: str, results: dict[str, list[Phases]]) -> int:
    options, asked, due = shared.options, 0, 0
    if not options.vboxmanage:
        for number in range(options.runs):
            _round(shared, golden, results, number)
        results["parked hit"] = parked(options, options.runs)
        return options.runs
    results |= {"VBoxManage": [], "VBoxManage linked clone": []}
    with scripts.template(shared) as template:
        for number in range(options.runs):
            _round(shared, golden, results, number)
            results["VBoxManage"].append(scripts.cold(shared))
            results["VBoxManage linked clone"].append(scripts.linked_clone(shared, template))
            due += 1
            if due == _CHUNK or number == options.runs - 1:
                results["parked hit"] += parked(options, due)
                asked, due = asked + due, 0
    return asked


def _round(shared: Bench, golden: str, results: dict[str, list[Phases]], number: int) -> None:
    started = time.monotonic()
    # Which one goes first changes, in case one leaves work for the other.
    if number % 2:
        results["fork"].append(fork(shared))
    results["raw fork"].append(raw.fork(shared, golden))
    if not number % 2:
        results["fork"].append(fork(shared))
    print(f"fork: round {number + 1} of {shared.options.runs}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    measure(Options.parse(__doc__))
