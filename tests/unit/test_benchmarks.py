"""The parts of the benchmarks that need no VirtualBox."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import plot, suites
from benchmarks.common import RESULTS, Options, clean_environment, phases_table, run_to_end
from benchmarks.figures import duration


def options(*arguments: str) -> Options:
    return Options.parse("", ["--image", "tiny", *arguments])


def test_a_quick_try_leaves_the_results_alone() -> None:
    tried = options("--quick")
    tried.results.rmdir()
    assert tried.runs == 2
    assert tried.results != RESULTS
    assert options().results == RESULTS


def test_as_many_runs_as_are_asked_for() -> None:
    assert options().runs == 20
    assert options("--runs", "3").runs == 3


@pytest.mark.slow
def test_a_generated_suite_has_as_many_tests_as_are_asked_for() -> None:
    with suites.Suite(options(), "test", 3, wait_for_parked=True) as suite:
        # Without the plugin: that they are collected does not depend on it.
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:vbox"]
        status, output = run_to_end(command, suite.folder, clean_environment(), 60)
        folder = suite.folder
    assert (status, output.count("test_one_machine[")) == (0, 3)
    assert not folder.exists()


def test_a_table_has_a_column_for_each_way_and_no_phase_that_none_has() -> None:
    table = phases_table({"ours": [{"launch": 1.0}, {"launch": 3.0}], "theirs": [{}]}, ["create", "launch"])
    assert [line.split() for line in table.splitlines()] == [["median,", "ms", "ours", "theirs"], ["launch", "2"]]


@pytest.mark.parametrize(("milliseconds", "text"), [(1.24, "1.2 ms"), (49.6, "50 ms"), (1500, "1.50 s")])
def test_times_are_shown_in_the_unit_that_suits_them(milliseconds: float, text: str) -> None:
    assert duration(milliseconds) == text


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ways = {"raw fork": [{"create": 60.0, "ready": 1000.0}], "parked hit": [{"ready": 50.0}]}
    runs = [{"seconds": 2.0}]
    suite = {"tests": 3, "VBoxManage ms": [9.0], "floor ms": [9.0], "one worker": runs, "two workers": runs}
    plot.draw({"fork": {"milliseconds": ways}, "suite": suite}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
