"""Which process it was, and whether it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pytest_vbox.ownership import ProcessId


def test_this_process_lives() -> None:
    mine = ProcessId.mine()
    assert mine.pid == os.getpid()
    assert not mine.is_gone
    assert ProcessId.of(os.getpid()) == mine
    assert ProcessId.from_json(mine.to_json()) == mine


def test_a_process_that_ended_is_gone_also_while_nobody_has_fetched_its_exit_code() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = ProcessId.of(process.pid)
        assert other is not None
        seen = [other.is_gone]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        seen.append(other.is_gone)
    assert [*seen, other.is_gone] == [False, True, True]


def test_a_process_is_found_while_it_lives() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = ProcessId.of(child.pid)
        assert identity is not None
        found = identity.find()
        assert found is not None
        assert found.pid == child.pid
        child.kill()
    assert identity.find() is None
    assert replace(ProcessId.mine(), computer="another").find() is None
    assert replace(ProcessId.mine(), boot="an earlier one").find() is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="elsewhere the calendar is all there is")
@pytest.mark.parametrize("seconds", [-86400.0, -2.0, 2.0, 86400.0])
def test_a_process_is_found_again_after_the_clock_was_set(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ProcessId.mine()
    real = psutil.Process.create_time
    # psutil's time is that of the boot, which moves with the clock, and what has passed since.
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + seconds)
    assert mine.find() is not None
    assert not mine.is_gone
    assert ProcessId.of(mine.pid) == mine


def test_another_process_of_the_same_number_is_not_the_same() -> None:
    assert replace(ProcessId.mine(), started=1.0).is_gone


def test_after_a_boot_nobody_lives_who_lived_before() -> None:
    assert replace(ProcessId.mine(), boot="an earlier one").is_gone


def test_of_a_process_on_another_computer_nobody_can_say_that_it_is_gone() -> None:
    assert not replace(ProcessId.mine(), computer="another", pid=1, started=1.0).is_gone


@pytest.mark.parametrize(
    "document",
    [None, 7, "text", [], {}, {"pid": 1}, {"computer": 1, "boot": "", "pid": 1, "started": 1.0}]
    + [
        {"computer": "", "boot": "", "pid": pid, "started": 1.0}
        for pid in ("1", True, None, 1.5, 0, -1, 2**40, 10**400)
    ]
    + [
        {"computer": "", "boot": "", "pid": 1, "started": started}
        for started in ("1", True, None, float("nan"), float("inf"), -(10**400))
    ],
)
def test_what_makes_no_sense_is_no_process(document: object) -> None:
    assert ProcessId.from_json(document) is None
