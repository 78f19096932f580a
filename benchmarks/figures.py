"""The figures that are promised, each with its bar, from the raw results of the benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.common import median_of

Results = Mapping[str, Mapping[str, Any]]

#: Of a cold machine's phases, those that are not the guest's.
OWN: Final = ("connect", "create", "launch", "teardown")
NOT_MEASURED: Final = "not measured"
_FIGURES: Final[list[Callable[[Results], Iterator[Figure]]]] = []


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: What was measured.
        value: What came out.
        bar: What has to come out, or an empty string.
        met: Whether it did; None where there is no bar.
        runs: How many times it was measured.
    """

    name: str
    value: str
    bar: str = ""
    met: bool | None = None
    runs: int = 0

    @property
    def verdict(self) -> str:
        """The same in a word."""
        return {True: "met", False: "missed", None: ""}[self.met]


def figures(results: Results) -> list[Figure]:
    """All figures; those of benchmarks that were not run say so."""
    found: list[Figure] = []
    for make in _FIGURES:
        try:
            found += make(results)
        except KeyError:
            found.append(Figure((make.__doc__ or "").rstrip("."), NOT_MEASURED))
    return found


def text_table(found: Sequence[Figure]) -> str:
    """The figures for a terminal."""
    rows = [("figure", "measured", "bar", "", "runs")]
    rows += [(figure.name, figure.value, figure.bar, figure.verdict, str(figure.runs or "")) for figure in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def duration(milliseconds: float) -> str:
    """A time in the unit that suits it."""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"


def _figure(make: Callable[[Results], Iterator[Figure]]) -> Callable[[Results], Iterator[Figure]]:
    _FIGURES.append(make)
    return make


@_figure
def _parked(results: Results) -> Iterator[Figure]:
    """A parked machine, from the call to a `Machine` that is connected."""
    ways = results["fork"]["milliseconds"]
    runs = ways["parked hit"]
    ready, asked = median_of(runs, "ready"), results["fork"]["parked asked"]
    name = "a parked machine, from the call to a `Machine` that is connected"
    yield Figure(name, duration(ready), "≤ 50 ms", bool(runs) and ready <= 50, len(runs))
    yield Figure(
        "of those requests, answered with a parked machine", f"{len(runs)} of {asked}", "all", len(runs) == asked
    )
    if ways.get("VBoxManage"):
        times = median_of(ways["VBoxManage"], "ready") / ready if runs else 0.0
        yield Figure(
            "a cold boot by a VBoxManage script, in parked machines",
            f"{times:.0f} times",
            "≥ 200 times",
            times >= 200,
            len(ways["VBoxManage"]),
        )


@_figure
def _fork(results: Results) -> Iterator[Figure]:
    """A fork, nothing parked, from the call to a `Machine` that is connected."""
    ways = results["fork"]["milliseconds"]
    ours, floor = median_of(ways["fork"], "ready"), median_of(ways["raw fork"], "ready")
    runs = len(ways["fork"])
    name = "a fork, nothing parked, from the call to a `Machine` that is connected"
    bar = f"≤ 1.10 x the floor ({duration(floor)})"
    yield Figure(name, f"{duration(ours)} ({ours / floor:.2f} x)", bar, ours <= 1.10 * floor, runs)
    ours, floor = (
        statistics.median(run["ready"] + run["run"] for run in ways[way]) for way in ("fork", "raw fork")
    )
    yield Figure(
        "the same with the first command, which sets the fork's clock",
        f"{duration(ours)} ({ours / floor:.2f} x the floor's {duration(floor)})",
        runs=runs,
    )


@_figure
def _teardown(results: Results) -> Iterator[Figure]:
    """The end of a test: the time that the fixture's finalisation takes."""
    runs = results["fork"]["milliseconds"]["parked hit"]
    median = median_of(runs, "teardown")
    name = "the end of a test: the time that the fixture's finalisation takes"
    yield Figure(name, duration(median), "≤ 50 ms", bool(runs) and median <= 50, len(runs))


@_figure
def _scripts(results: Results) -> Iterator[Figure]:
    """VBoxManage scripts, from the first command to SSH."""
    ways = results["fork"]["milliseconds"]
    for way, name in (
        ("VBoxManage", "a VBoxManage script: new machine, cold boot, SSH"),
        ("VBoxManage linked clone", "a VBoxManage script: linked clone, cold boot, SSH"),
    ):
        runs = ways.get(way, [])
        if runs:
            yield Figure(name, duration(median_of(runs, "ready")), runs=len(runs))


@_figure
def _cold(results: Results) -> Iterator[Figure]:
    """What a cold boot costs besides the guest's own boot."""
    ways = results["cold"]["milliseconds"]
    own = {way: statistics.median(sum(run[phase] for phase in OWN) for run in runs) for way, runs in ways.items()}
    yield Figure(
        "a cold boot: what is not the guest's (connecting, creating, launching, removing)",
        duration(own["ours"]),
        f"≤ 200 ms more than by raw calls ({duration(own['raw'])})",
        own["ours"] <= own["raw"] + 200,
        len(ways["ours"]),
    )
    if ways.get("VBoxManage"):
        runs = len(ways["VBoxManage"])
        yield Figure("the same by a VBoxManage script", duration(own["VBoxManage"]), runs=runs)


@_figure
def _suite(results: Results) -> Iterator[Figure]:
    """A suite of 30 short tests with a machine each."""
    suite = results["suite"]
    tests, one, two = suite["tests"], suite["one worker"], suite["two workers"]
    floor = statistics.median(suite["floor ms"]) * tests
    seconds = [statistics.median(run["seconds"] for run in runs) for runs in (one, two)]
    yield Figure(
        f"{tests} short tests with a machine each, one worker",
        f"{seconds[0]:.1f} s ({seconds[0] * 1000 / floor:.2f} x)",
        f"≤ 0.75 x {tests} forks by raw calls ({floor / 1000:.1f} s)",
        seconds[0] * 1000 <= 0.75 * floor,
        len(one),
    )
    if suite["VBoxManage ms"]:
        script = statistics.median(suite["VBoxManage ms"]) * tests / 1000
        runs = len(suite["VBoxManage ms"])
        name = f"{tests} machines by a VBoxManage script, one after the other (scaled from {runs})"
        yield Figure(name, f"{script:.0f} s ({script / seconds[0]:.1f} x the suite)", runs=runs)
    yield Figure(
        "the same suite with two workers",
        f"{seconds[1]:.1f} s ({seconds[1] / seconds[0]:.2f} x)",
        "no slower than with one",
        seconds[1] <= seconds[0],
        len(two),
    )
    runs_of_both, allowed = [*one, *two], suite["max_machines"]
    peak = max(run["peak"] for run in runs_of_both)
    name = f"the most machines at once, {allowed} allowed"
    yield Figure(name, str(peak), f"≤ {allowed}", peak <= allowed, len(runs_of_both))
    left = sum(len(run["left"]) for run in runs_of_both)
    yield Figure("machines and disks left behind", str(left), "0", left == 0, len(runs_of_both))
    cold = sum(run["ways"].get("cold", 0) for run in runs_of_both)
    told = all(sum(run["ways"].values()) == tests for run in runs_of_both)
    yield Figure("cold boots in the second run of the suite, and later", str(cold), "0", told and not cold)


@_figure
def _memory(results: Results) -> Iterator[Figure]:
    """Growth of pytest's memory while a suite makes 30 machines."""
    suite = results["suite"]
    one, tests = suite["one worker"], suite["tests"]
    early = max(1, tests // 3)
    growth = statistics.median(run["rss"][-1] / run["rss"][early - 1] - 1 for run in one)
    size = statistics.median(run["rss"][-1] for run in one) / 2**20
    name = f"growth of pytest's memory from machine {early} to machine {tests}"
    yield Figure(name, f"{growth:+.1%} (to {size:.0f} MiB)", "< 3 %", growth < 0.03, len(one))


@_figure
def _collecting(results: Results) -> Iterator[Figure]:
    """Collecting 1000 tests that use `vbox_machine`, against the same without the plugin."""
    cost = results["plugin_cost"]
    for kind, name in (("cpu", "processor time"), ("wall", "time on the clock")):
        ours, none, bare = (median_of(cost["collect"][way], kind) for way in ("with", "without", "bare fixture"))
        yield Figure(
            f"collecting {cost['tests']} tests that use `vbox_machine`, {name}",
            f"{duration(ours)} ({ours / none - 1:+.1%}; a bare fixture of that name: {bare / none - 1:+.1%})",
            f"≤ +5 % of the same without the plugin ({duration(none)})",
            ours <= 1.05 * none,
            len(cost["collect"]["with"]),
        )


@_figure
def _importing(results: Results) -> Iterator[Figure]:
    """Importing and registering the plugin, where no test uses a machine."""
    runs = results["plugin_cost"]["import"]
    median = median_of(runs, "wall")
    name = "importing and registering the plugin, where no test uses a machine"
    yield Figure(name, duration(median), "≤ 10 ms", median <= 10, len(runs))
    imported = sorted({module for run in runs for module in run["imported"]} & {"zeep", "paramiko"})
    yield Figure("zeep and paramiko, then", ", ".join(imported) or "not imported", "not imported", not imported)


@_figure
def _many(results: Results) -> Iterator[Figure]:
    """Creating and removing a machine among 1 to 16 others."""
    levels = results["many"]["milliseconds"]
    medians = {level: median_of(runs, "both") for level, runs in levels.items()}
    spread = max(medians.values()) / min(medians.values()) - 1
    shown = ", ".join(f"{milliseconds:.0f}" for milliseconds in medians.values())
    yield Figure(
        f"creating and removing a machine, not booted, among {', '.join(medians)} others",
        f"{shown} ms ({spread:+.0%})",
        "flat within 20 %",
        spread <= 0.20,
        min(len(runs) for runs in levels.values()),
    )
