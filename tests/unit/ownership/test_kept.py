"""The list of kept machines, and what was done about the dead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_vbox.ownership import KeptMachine, KeptMachines, report, take_unseen
from pytest_vbox.ownership.reports import log_file


def _machine(number: int) -> KeptMachine:
    return KeptMachine(f"id-{number}", f"pytest-{number}", "here", "test_a", "2026-01-01", "ssh x", "rm x")


def test_machines_are_added_and_struck_by_several_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: KeptMachines(tmp_path).add(_machine(number)), range(12)))
    kept = KeptMachines(tmp_path)
    assert kept.ids() == {f"id-{number}" for number in range(12)}
    kept.strike("id-3", "never-there")
    assert len(kept.all()) == 11
    assert _machine(4) in kept.all()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"machines": 7}', '{"machines": [{"id": 1}]}', "\0"])
def test_a_list_that_makes_no_sense_is_empty_and_can_be_written_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "kept.json").write_text(text)
    kept = KeptMachines(tmp_path)
    assert kept.all() == []
    kept.add(_machine(1))
    assert kept.all() == [_machine(1)]


def test_it_says_how_to_enter_and_to_remove() -> None:
    assert "ssh x" in str(_machine(1))
    assert "rm x" in str(_machine(1))


def test_a_report_is_in_the_log_and_shown_once(tmp_path: Path) -> None:
    report(tmp_path, "run-1", [])
    assert not log_file(tmp_path).exists()
    report(tmp_path, "run-1-and-more", ["removed one", "removed two"])
    report(tmp_path, "run-2", ["removed three"])
    shown = take_unseen(tmp_path)
    assert [line.partition(" run ")[2] for line in shown] == [
        "run-1-an: removed one",
        "run-1-an: removed two",
        "run-2: removed three",
    ]
    assert take_unseen(tmp_path) == []
    assert log_file(tmp_path).read_text(encoding="utf-8").splitlines() == shown


def test_a_report_has_nothing_that_a_terminal_obeys_and_a_line_for_each_sentence(tmp_path: Path) -> None:
    report(tmp_path, "run-1", ["removed x of \x1b]0;owned\x07\n2026 run of: a line of another's"])
    (line,) = take_unseen(tmp_path)
    assert "removed x of \\x1b]0;owned\\x07\\n2026" in line
    assert "\x1b" not in log_file(tmp_path).read_text(encoding="utf-8")


def test_a_long_log_is_begun_anew_and_the_old_one_kept(tmp_path: Path) -> None:
    log_file(tmp_path).write_text("x" * 1_100_000)
    report(tmp_path, "run-1", ["removed one"])
    assert log_file(tmp_path).stat().st_size < 1000
    assert (tmp_path / "reaper.log.1").stat().st_size == 1_100_000
