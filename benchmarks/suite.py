"""A suite of short tests, one machine each: with one worker, with two, and how much memory it takes.

    python -m benchmarks.suite [--runs N] [--quick] [--suites N] [--tests N]

Compared with as many forks by raw API calls, one after the other, and with as many cold boots by a VBoxManage
script; both are measured on some, before and after the suites, and multiplied.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any, Final

from benchmarks import raw, scripts
from benchmarks.common import Bench, Options, about, bench, parser_of, save, warn_if_busy
from benchmarks.suites import Suite, Told

PREWARM: Final = 2
MAX_MACHINES: Final = 4
_SCRIPTS: Final = 3


def measure(options: Options, suites: int | None = None, tests: int | None = None) -> None:
    """Measure, print and save.

    Args:
        options: The command line.
        suites: How many times the suite runs with one worker, and with two, in turn.
        tests: How many tests it has.
    """
    warn_if_busy()
    suites = suites or (1 if options.quick else 3)
    tests = tests or (6 if options.quick else 30)
    floors = 1 if options.quick else 5
    document: dict[str, Any] = {"tests": tests, "prewarm": PREWARM, "max_machines": MAX_MACHINES}
    with bench(options) as shared:
        document["about"] = about(shared.host)
        with raw.golden_machine(shared) as golden, Suite(options, "suite", tests) as suite:
            floor = [raw.fork(shared, golden) for _ in range(floors)]
            # What is missing is made here, so that the others find it.
            document["first"] = _run(suite, shared, "first run", 1)
            document["one worker"] = []
            document["two workers"] = []
            for number in range(suites):
                document["one worker"].append(_run(suite, shared, f"run {number + 1}, one worker", 1))
                document["two workers"].append(_run(suite, shared, f"run {number + 1}, two workers", 2))
            floor += [raw.fork(shared, golden) for _ in range(floors)]
        document["floor ms"] = [run["ready"] for run in floor]
        document["VBoxManage ms"] = []
        if options.vboxmanage:
            runs = [scripts.cold(shared) for _ in range(1 if options.quick else _SCRIPTS)]
            # What the suite's time has in it too.
            document["VBoxManage ms"] = [run["ready"] + run["run"] + run["teardown"] for run in runs]
    save(options, "suite", document)
    for line in summary(document):
        print(line)


def _run(suite: Suite, shared: Bench, name: str, workers: int) -> dict[str, Any]:
    parallel = ["-n", str(workers)] if workers > 1 else ["-p", "no:xdist"]
    limits = [f"--vbox-prewarm={PREWARM}", f"--vbox-max-machines={MAX_MACHINES}"]
    told: Told = suite.run(*limits, *parallel, watch=shared)
    print(f"suite: {name}: {told.seconds:.1f} s, at most {told.peak} machines, {_ways(told.ways)}", flush=True)
    for name in told.left:
        print(f"  left behind: {name}")
    return told.to_json()


def summary(document: dict[str, Any]) -> list[str]:
    """What was measured, in a few lines."""
    tests = document["tests"]
    floor = statistics.median(document["floor ms"]) * tests / 1000
    lines = [f"{tests} forks by raw calls, one after the other: {floor:.1f} s"]
    if document["VBoxManage ms"]:
        script = statistics.median(document["VBoxManage ms"]) * tests / 1000
        lines.append(f"{tests} machines by a VBoxManage script (scaled): {script:.1f} s")
    for workers in ("one worker", "two workers"):
        seconds = statistics.median(run["seconds"] for run in document[workers])
        lines.append(f"{tests} tests, {workers}: {seconds:.1f} s")
    return lines


def _ways(ways: dict[str, int]) -> str:
    return ", ".join(f"{count} {way}" for way, count in sorted(ways.items())) or "the report says nothing"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser: argparse.ArgumentParser = parser_of(__doc__)
    parser.add_argument("--suites", type=int, help="how many times the suite runs in each way (default 3)")
    parser.add_argument("--tests", type=int, help="how many tests it has (default 30)")
    given = parser.parse_args(arguments)
    measure(Options.of(given), given.suites, given.tests)


if __name__ == "__main__":
    main()
