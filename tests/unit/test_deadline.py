"""One deadline handed down instead of timeouts that are summed by hand."""

from __future__ import annotations

import math

import pytest

from pytest_vbox.deadline import Deadline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which stands still until its only entry is changed."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_time_goes_by_and_is_never_negative(clock: list[float]) -> None:
    deadline = Deadline(10)
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (0, 10, False)
    clock[0] += 4
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (4, 6, False)
    clock[0] += 6
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (10, 0, True)
    clock[0] += 100
    assert (deadline.elapsed, deadline.remaining, deadline.expired) == (110, 0, True)


def test_without_a_limit_it_never_expires(clock: list[float]) -> None:
    deadline = Deadline(None)
    clock[0] += 1e9
    assert not deadline.expired
    assert deadline.remaining == math.inf
    assert deadline.at_most(5) == 5


@pytest.mark.parametrize("seconds", [0, -1])
def test_one_that_is_over_from_the_start_leaves_no_time(seconds: float) -> None:
    deadline = Deadline(seconds)
    assert deadline.expired
    assert deadline.at_most(5) == 0


def test_a_step_and_a_part_get_no_more_than_is_left(clock: list[float]) -> None:
    deadline = Deadline(10)
    clock[0] += 7
    assert deadline.at_most(2) == 2
    assert deadline.at_most(5) == 3
    assert deadline.sooner(2).remaining == 2
    part = deadline.sooner(5)
    assert (part.remaining, part.elapsed) == (3, 0)


@pytest.mark.usefixtures("clock")
def test_it_shows_what_is_left() -> None:
    assert repr(Deadline(10)) == "Deadline(10 s, 10.0 s left)"
    assert repr(Deadline(None)) == "Deadline(inf s, inf s left)"
