"""What a run tells of its machines: the table, the notes, the report, and the line on the terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pytest_vbox.live import LiveLine
from pytest_vbox.records import Journal, Record, Way
from pytest_vbox.summary import Story, document, duration, percentile, table, told_by

FORKED = Record(
    "pytest-a-1", "tiny", "small", "t.py::a", Way.FORKED, 1.5, {"launch": 0.5, "ssh": 1.0}, {}, cold_seconds=7.5
)
PARKED = Record("pytest-a-2", "tiny", "small", "t.py::b", Way.PARKED, 0.02, {"resume": 0.02}, {}, cold_seconds=7.5)
GOLDEN = Record("pytest-golden-1", "tiny", "small", "", Way.COLD, 7.5, {"launch": 0.5}, purpose="golden")
COLD = Record("pytest-a-3", "tiny", "small", "t.py::c", Way.COLD, 8.0, {"launch": 1.0}, {"a free place": 2.0})

SUITE = """
import pytest
from pytest_vbox.records import Record, Way

@pytest.fixture(scope="session")
def vbox_host(pytestconfig, vbox_settings):
    from pytest_vbox.fixtures import JOURNAL
    from pytest_vbox.records import Journal
    journal = pytestconfig.stash[JOURNAL] = Journal()
    journal.virtualbox = "7.2"
    return journal

@pytest.mark.parametrize("number", range(4))
def test_it(vbox_host, number):
    vbox_host.came()
    vbox_host.add(Record("m", "tiny", "small", "t", Way.FORKED, number + 1.0, {"ssh": 0.5}, cold_seconds=10.0))
    vbox_host.note("something happened")
"""


def story(*records: Record) -> Story:
    return Story(list(records), ["a note"], [2, 1])


# Figures


def test_the_table_has_a_row_for_each_way_and_what_was_saved_and_waited_for() -> None:
    assert table(story(FORKED, FORKED, PARKED, GOLDEN, COLD)) == [
        "machines    how many  median   95 %  where the median went",
        "cold               1   8.0 s  8.0 s  launch 1.0 s",
        "forked             2   1.5 s  1.5 s  launch 500 ms, ssh 1.0 s",
        "parked hit         1   20 ms  20 ms  resume 20 ms",
        "golden             1   7.5 s  7.5 s  launch 500 ms",
        "saved: about 19.5 s against booting each of them",
        "at once: at most 3 in 2 processes",
        "waited for a free place: 2.0 s in 1 of 5 requests",
    ]


def test_without_machines_there_is_nothing_to_tell() -> None:
    assert table(Story()) == []
    assert document(Story(), {})["machines"] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.0214, "21 ms"),
        (0.9996, "1.0 s"),
        (99.9, "99.9 s"),
        (99.96, "1 min 40 s"),
        (7325, "122 min 5 s"),
    ],
)
def test_times_are_written_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([1.0], 95) == 1.0
    assert percentile([float(number) for number in range(1, 21)], 95) == 19.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0


def test_records_survive_the_way_from_a_worker() -> None:
    journal = Journal()
    for record in (FORKED, GOLDEN, COLD):
        journal.add(record)
    assert (journal.note("x"), journal.note("x")) == (True, False)
    gathered = Story()
    for _ in range(2):
        gathered.add(json.loads(json.dumps(told_by(journal))))
    assert gathered.records == [FORKED, GOLDEN, COLD] * 2
    assert gathered.notes == ["x"]


def test_waiting_is_counted_for_the_thread_that_waits() -> None:
    told: list[str | None] = []
    journal = Journal(told.append)
    with journal.doing("SSH of m", 300), journal.waiting("a free place", "2 of 2 taken"):
        threading.Event().wait(0.02)
    assert told == ["SSH of m, at most 300 s", "a free place (2 of 2 taken)", "SSH of m, at most 300 s", None]
    others: list[dict[str, float]] = []
    other = threading.Thread(target=lambda: others.append(journal.take_waited()))
    other.start()
    other.join()
    assert others == [{}]
    assert list(journal.take_waited()) == ["a free place"]
    assert journal.take_waited() == {}


# In a run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
def test_the_summary_and_the_report_have_the_machines_of_all_processes(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess("--vbox-durations", "--vbox-report=out/report.json", *workers)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "*= VirtualBox machines =*",
            "forked  * 4 *2.5 s*4.0 s  ssh 500 ms",
            "saved: about 30.0 s*",
            "something happened",
        ]
    )
    assert str(result.stdout).count("something happened") == 1
    report = json.loads((pytester.path / "out" / "report.json").read_text())
    assert report["format"] == 1
    assert report["about"]["virtualbox"] == "7.2"
    assert report["about"]["processes"] == (2 if workers else 1)
    assert report["ways"]["forked"]["count"] == len(report["machines"]) == 4
    assert report["ways"]["forked"]["phases"]["ssh"] == {"p50": 0.5, "p95": 0.5, "max": 0.5}
    assert (report["saved_seconds"], report["peak"], report["notes"]) == (30.0, 4, ["something happened"])


@pytest.mark.slow
def test_without_being_asked_only_what_everybody_should_know_is_shown(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["something happened"])
    result.stdout.no_fnmatch_line("*saved:*")


@pytest.mark.slow
def test_a_report_without_machines_is_written_and_one_that_cannot_be_is_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    pytester.runpytest_subprocess("--vbox-report=report.json").assert_outcomes(passed=1)
    assert json.loads((pytester.path / "report.json").read_text())["machines"] == []
    result = pytester.runpytest_subprocess("--vbox-report=report.json/below.json")
    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines(["--vbox-report: cannot write */report.json/below.json: *"])


# The line


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    yield ours, theirs
    os.close(ours)


def read(descriptor: int, until: str) -> str:
    seen, end = "", time.monotonic() + 10
    while until not in seen:
        assert time.monotonic() < end, seen
        try:
            seen += os.read(descriptor, 4096).decode()
        except BlockingIOError:
            continue
    return seen


def test_the_line_appears_after_a_while_and_is_taken_away(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    live = LiveLine(terminal[1], lambda: 10, patience=0.02)
    live.watch("SSH of pytest-x, at most 300 s")
    assert " … waiting for SSH of pytest-x, at most 300 s: 0 s" in read(terminal[0], "\x1b8")
    live.watch(None)
    assert read(terminal[0], "\x1b[K") == "\x1b[K"
    # What others wait for is not shown.
    other = threading.Thread(target=lambda: live.watch("nothing of interest"))
    other.start()
    other.join()
    live.close()
    live.close()
    with pytest.raises(OSError):  # noqa: PT011 - EIO or EAGAIN, as the system likes
        os.read(terminal[0], 1)


def test_where_there_is_no_room_nothing_is_written(
    terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    live = LiveLine(terminal[1], lambda: 50, patience=0.0)
    live.watch("SSH")
    live.close()
    with pytest.raises(OSError):  # noqa: PT011 - as above
        os.read(terminal[0], 1)


@pytest.mark.slow
def test_a_run_on_a_terminal_shows_the_line_and_one_in_a_pipe_does_not(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    pytester.makepyfile(
        """
        import threading
        from pytest_vbox.fixtures import LIVE

        def test_waits(pytestconfig):
            live = pytestconfig.stash.get(LIVE, None)
            if live is not None:
                live._patience = 0.02
                live.watch("what comes")
                threading.Event().wait(0.3)
                live.watch(None)
        """
    )
    ours, theirs = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"], stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = ""
    with suppress(OSError):  # the end, where the other side of a terminal is closed
        while piece := os.read(ours, 4096):
            seen += piece.decode(errors="replace")
    os.close(ours)
    assert run.wait(10) == 0, seen
    assert " … waiting for what comes: 0 s" in seen
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert "waiting for" not in str(result.stdout)
