"""Draw docs/explanation/benchmark.png from the raw results: python -m benchmarks.plot

Needs matplotlib: pip install -e '.[bench]'
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.common import RESULTS, median_of, read_results
from benchmarks.figures import Results, duration
from benchmarks.page import PAGE, SETUP, WAYS, can_be_drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE: Final = PAGE.with_name("benchmark.png")
_INK: Final = "#1f2933"
_SOFT: Final = "#52606d"
_COLOURS: Final = {"create": "#b7791f", "launch": "#2b6cb0", "boot and SSH": "#93b7d9", "resume": "#2f855a"}
_OURS: Final = "#2f855a"


def draw(results: Results, file: Path = PICTURE) -> None:
    """Write the picture: where the time to a machine goes, way by way, and what a suite takes.

    Its background is opaque, so that it can be read on light and on dark pages.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rc("font", size=10)
    mpl.rc("text", color=_INK)
    mpl.rc("axes", edgecolor=_SOFT, labelcolor=_SOFT)
    mpl.rc("axes.spines", top=False, right=False)
    mpl.rc("xtick", color=_SOFT)
    mpl.rc("ytick", color=_INK)
    figure, (upper, lower) = pyplot.subplots(
        2, 1, figsize=(9, 6.2), height_ratios=(5, 3), layout="constrained", facecolor="white"
    )
    _ways(upper, results)
    _suites(lower, results)
    figure.savefig(file, dpi=120, facecolor="white")
    pyplot.close(figure)


def _ways(axes: Axes, results: Results) -> None:
    ways = results["fork"]["milliseconds"]
    shown = [way for way in WAYS if ways.get(way)]
    labelled: set[str] = set()
    for row, way in enumerate(shown):
        left, ready = 0.0, median_of(ways[way], "ready") / 1000
        for part, phases in {**SETUP, "resume": ("ready",)}.items():
            # A parked machine was made before it was asked for.
            if (part == "resume") != (way == "parked hit"):
                continue
            width = sum(median_of(ways[way], phase) for phase in phases) / 1000
            label = part if part not in labelled else "_"
            axes.barh(row, width, left=left, color=_COLOURS[part], height=0.62, label=label)
            labelled.add(part)
            left += width
        axes.text(left, row, f"  {duration(ready * 1000)}", va="center")
    axes.set_yticks(range(len(shown)), [WAYS[way] for way in shown])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds")
    axes.set_title("From the call to a machine that runs commands (medians)", loc="left")
    axes.legend(frameon=False, loc="lower right")


def _suites(axes: Axes, results: Results) -> None:
    suite = results["suite"]
    tests = suite["tests"]
    bars: dict[str, tuple[float, str]] = {}
    if suite["VBoxManage ms"]:
        seconds = statistics.median(suite["VBoxManage ms"]) * tests / 1000
        bars["VBoxManage script (scaled)"] = seconds, _COLOURS["boot and SSH"]
    seconds = statistics.median(suite["floor ms"]) * tests / 1000
    bars["forks by raw calls, one after the other"] = seconds, _COLOURS["launch"]
    for way in ("one worker", "two workers"):
        seconds = statistics.median(run["seconds"] for run in suite[way])
        bars[f"pytest-vbox, {way}"] = seconds, _OURS
    for row, (seconds, colour) in enumerate(bars.values()):
        axes.barh(row, seconds, color=colour, height=0.62)
        axes.text(seconds, row, f"  {seconds:.0f} s", va="center")
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds")
    axes.set_title(f"{tests} short tests, a machine each", loc="left")


if __name__ == "__main__":
    found = read_results(RESULTS)
    if not can_be_drawn(found):
        sys.exit(f"there are no results of benchmarks.fork and benchmarks.suite in {RESULTS}; run them first")
    draw(found)
