"""The page on performance says what the benchmarks' raw results say."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import page
from benchmarks.common import read_results
from benchmarks.figures import NOT_MEASURED, Results, figures, text_table

#: Results in which every bar is met, just so.
WELL: dict[str, dict[str, Any]] = {
    "fork": {
        "parked asked": 1,
        "milliseconds": {
            "raw fork": [{"create": 60.0, "launch": 440.0, "ssh": 500.0, "ready": 1000.0, "run": 100.0}],
            "fork": [{"clone": 100.0, "launch": 500.0, "ssh": 500.0, "ready": 1100.0, "run": 100.0}],
            "parked hit": [{"resume": 9.0, "ready": 50.0, "run": 100.0, "teardown": 50.0}],
            "VBoxManage": [{"create": 100.0, "launch": 900.0, "boot + SSH": 9000.0, "ready": 10000.0}],
        },
    },
    "cold": {
        "milliseconds": {
            "ours": [{"connect": 100.0, "create": 200.0, "launch": 500.0, "teardown": 200.0}],
            "raw": [{"connect": 100.0, "create": 100.0, "launch": 500.0, "teardown": 100.0}],
        }
    },
    "suite": {
        "tests": 3,
        "max_machines": 4,
        "floor ms": [1000.0],
        "VBoxManage ms": [],
        "one worker": [{"seconds": 2.25, "peak": 4, "left": [], "ways": {"forked": 3}, "rss": [100, 101, 102]}],
        "two workers": [{"seconds": 2.25, "peak": 4, "left": [], "ways": {"forked": 3}, "rss": [100, 101]}],
    },
    "plugin_cost": {
        "tests": 1000,
        "collect": {
            "with": [{"cpu": 1050.0, "wall": 1050.0}],
            "without": [{"cpu": 1000.0, "wall": 1000.0}],
            "bare fixture": [{"cpu": 1000.0, "wall": 1000.0}],
        },
        "import": [{"wall": 10.0, "imported": ["yaml"]}],
    },
    "many": {"milliseconds": {"1": [{"both": 100.0}], "16": [{"both": 120.0}]}},
}


def test_the_tables_are_those_of_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.updated(text, read_results()) == text, "run: python -m benchmarks.page"


def test_what_was_not_measured_is_said_to_be_so() -> None:
    found = figures({})
    assert found
    assert {figure.value for figure in found} == {NOT_MEASURED}
    assert not any(figure.met for figure in found)


def test_bars_that_are_met_are_said_to_be_so() -> None:
    assert [figure.name for figure in figures(WELL) if figure.met is False] == []
    assert "missed" not in text_table(figures(WELL))


@pytest.mark.parametrize(
    ("part", "change", "missed"),
    [
        ("fork", {"parked asked": 2}, "of those requests"),
        ("suite", {"max_machines": 3}, "the most machines"),
        ("suite", {"floor ms": [900.0]}, "3 short tests"),
        ("plugin_cost", {"import": [{"wall": 10.1, "imported": []}]}, "importing"),
        ("plugin_cost", {"import": [{"wall": 9.0, "imported": ["zeep"]}]}, "zeep"),
        ("many", {"milliseconds": {"1": [{"both": 100.0}], "16": [{"both": 121.0}]}}, "creating"),
    ],
)
def test_a_bar_that_is_missed_is_said_to_be_so(part: str, change: dict[str, Any], missed: str) -> None:
    results: Results = {**WELL, part: {**WELL[part], **change}}
    found = [figure for figure in figures(results) if figure.met is False]
    assert [figure.name.startswith(missed) for figure in found] == [True]


@pytest.mark.parametrize(
    ("workers", "change", "missed"),
    [
        ("one worker", {"ways": {"forked": 3, "cold": 1}}, "cold boots"),
        ("one worker", {"ways": {}}, "cold boots"),
        ("one worker", {"rss": [100, 101, 104]}, "growth"),
        ("two workers", {"left": ["pytest-x-1234"]}, "machines and disks left behind"),
        ("two workers", {"seconds": 2.3}, "the same suite with two workers"),
    ],
)
def test_a_suite_that_does_not_do_well_is_seen(workers: str, change: dict[str, Any], missed: str) -> None:
    suite = {**WELL["suite"], workers: [{**WELL["suite"][workers][0], **change}]}
    found = [figure for figure in figures({**WELL, "suite": suite}) if figure.met is False]
    assert [figure.name.startswith(missed) for figure in found] == [True]


def test_a_parked_machine_shows_only_what_the_test_waited_for() -> None:
    row = next(line for line in page.phases_table(WELL).splitlines() if "parked" in line)
    assert row == "| pytest-vbox, parked |  |  |  | 50 ms | 100 ms | 50 ms |"
