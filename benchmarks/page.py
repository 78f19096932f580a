"""Write the tables in docs/explanation/performance.md anew from the raw results: python -m benchmarks.page

A unit test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.common import RESULTS, median_of, read_results
from benchmarks.figures import Results, duration, figures

PAGE: Final = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
_MARKED: Final = re.compile(r"(<!-- (?P<what>[\w-]+), generated -->\n).*?(<!-- end -->)", re.DOTALL)
_PICTURE: Final = (
    "![Bars: where the time to a machine goes, for VBoxManage scripts, for a fork by raw calls, and for "
    "pytest-vbox's forks and parked machines; and what a suite of short tests takes. "
    "The tables have the same figures](benchmark.png)"
)
#: How a machine's time is shown, by the phases of each way.
WAYS: Final = {
    "VBoxManage": "VBoxManage script, cold boot",
    "VBoxManage linked clone": "VBoxManage script, linked clone, cold boot",
    "raw fork": "fork by raw calls: the floor",
    "fork": "pytest-vbox, fork",
    "parked hit": "pytest-vbox, parked",
}
SETUP: Final = {
    "create": ("golden", "create", "clone"),
    "launch": ("launch", "forward"),
    "boot and SSH": ("boot + SSH", "network", "ssh", "settle"),
}


def updated(page: str, results: Results) -> str:
    """The page with everything between its marks made anew."""
    parts = {"picture": picture, "figures": figures_table, "phases": phases_table, "computer": computer}
    return _MARKED.sub(lambda match: f"{match[1]}{parts[match['what']](results)}\n{match[3]}", page)


def picture(results: Results) -> str:
    """The picture, if there is what it is drawn from."""
    return _PICTURE if can_be_drawn(results) else "There is no picture yet."


def can_be_drawn(results: Results) -> bool:
    """Whether there are the results that the picture is drawn from."""
    return {"fork", "suite"} <= results.keys()


def figures_table(results: Results) -> str:
    """A row for each figure."""
    rows = ["| figure | measured | bar | | runs |", "|---|---|---|---|---|"]
    for figure in figures(results):
        cells = (figure.name, figure.value, figure.bar, figure.verdict, str(figure.runs or ""))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def phases_table(results: Results) -> str:
    """A row for each way to a machine, with where its time went."""
    rows = [
        "| way | create | launch | boot and SSH | ready | first command | end |",
        "|---|---|---|---|---|---|---|",
    ]
    ways = results.get("fork", {}).get("milliseconds", {})
    for way, name in WAYS.items():
        runs = ways.get(way)
        if not runs:
            continue
        cells = []
        for phases in SETUP.values():
            there = [phase for phase in phases if any(phase in run for run in runs)]
            # A parked machine was made before it was asked for.
            shown = there and way != "parked hit"
            cells.append(duration(sum(median_of(runs, phase) for phase in there)) if shown else "")
        cells += [duration(median_of(runs, phase)) for phase in ("ready", "run", "teardown")]
        rows.append(f"| {' | '.join((name, *cells))} |")
    return "\n".join(rows)


def computer(results: Results) -> str:
    """What was measured on."""
    return "\n".join(
        f"- `{name}`: {_about(document['about'])}" for name, document in results.items() if "about" in document
    )


def _about(about: Mapping[str, Any]) -> str:
    parts = []
    if about.get("virtualbox"):
        where = " in the rig" if about.get("rig") else ""
        parts.append(f"VirtualBox {about['virtualbox']}{where}, {about['cores']} cores, {about['memory']} MB")
    parts.append(f"Python {about['python']}, {about['system']}")
    if about.get("date"):
        load = f", load {about['load']} at the beginning" if about.get("load") is not None else ""
        parts.append(f"{about['date']}{load}")
    return "; ".join(parts)


def write() -> None:
    """Write the page."""
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), read_results(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    write()
