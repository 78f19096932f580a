"""Which process it was, and whether it lives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

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


def test_another_process_of_the_same_number_is_not_the_same() -> None:
    assert replace(ProcessId.mine(), started=1.0).is_gone


def test_after_a_boot_nobody_lives_who_lived_before() -> None:
    assert replace(ProcessId.mine(), boot="an earlier one").is_gone


def test_of_a_process_on_another_computer_nobody_can_say_that_it_is_gone() -> None:
    assert not replace(ProcessId.mine(), computer="another", pid=1, started=1.0).is_gone


@pytest.mark.parametrize(
    "document",
    [None, 7, "text", [], {}, {"pid": 1}, {"computer": 1, "boot": "", "pid": 1, "started": 1.0}]
    + [{"computer": "", "boot": "", "pid": pid, "started": 1.0} for pid in ("1", True, None, 1.5)]
    + [{"computer": "", "boot": "", "pid": 1, "started": started} for started in ("1", True, None)],
)
def test_what_makes_no_sense_is_no_process(document: object) -> None:
    assert ProcessId.from_json(document) is None
