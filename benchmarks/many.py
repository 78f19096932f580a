"""What one more machine costs when there are many: created and removed, not booted.

    python -m benchmarks.many [--runs N] [--quick]

In each round machines are added until there are 16, and one is made and removed at each of the levels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.common import Bench, Options, Phases, about, bench, phases_table, save, warn_if_busy
from pytest_vbox.machines import Machine

LEVELS: Final = (1, 2, 4, 8, 16)
PHASES: Final = ("create", "remove", "both")


def measure(options: Options) -> None:
    """Measure, print and save."""
    warn_if_busy()
    results: dict[str, list[Phases]] = {str(level): [] for level in LEVELS}
    with bench(options) as shared:
        described = about(shared.host)
        shared.prepare_base()
        for number in range(options.runs):
            _round(shared, results)
            if (number + 1) % 5 == 0:
                print(f"many: round {number + 1} of {options.runs} done", flush=True)
    document = {"about": described, "milliseconds": results}
    save(options, "many", document)
    print(summary(document))


def _round(shared: Bench, results: Mapping[str, list[Phases]]) -> None:
    there: list[Machine] = []
    try:
        for level in LEVELS:
            while len(there) < level:
                there.append(_make(shared))
            started = time.perf_counter()
            machine = _make(shared)
            made = time.perf_counter()
            shared.host.remove(machine)
            gone = time.perf_counter()
            create, remove = (made - started) * 1000, (gone - made) * 1000
            results[str(level)].append({"create": create, "remove": remove, "both": create + remove})
    finally:
        for machine in there:
            shared.host.remove(machine)


def _make(shared: Bench) -> Machine:
    return shared.host.machine(shared.options.image, shared.options.profile, start=False)


def summary(document: Mapping[str, Any]) -> str:
    """Medians, a column for each number of machines that are registered besides."""
    return phases_table({f"{level} there": runs for level, runs in document["milliseconds"].items()}, PHASES)


if __name__ == "__main__":
    measure(Options.parse(__doc__))
