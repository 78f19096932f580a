"""What the errors say, and that they survive the way between processes."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path

import pytest

from pytest_vbox.guest import (
    CommandError,
    CommandTimeout,
    ConnectionLost,
    CopyFailed,
    GuestError,
    GuestUnreachable,
    HostKeyMismatch,
    IncompatibleServer,
    KeyUnusable,
    LoginRefused,
    WaitTimeout,
)
from pytest_vbox.guest.errors import excerpt

ALL = [
    GuestError("plain"),
    GuestUnreachable(("h", 22), phase="login", elapsed=3.0, last="silent", probes=1, hint="do this"),
    LoginRefused("u", tried=["password"], allowed=["publickey"], detail="no\x1b[2J", hint="do this"),
    HostKeyMismatch(expected="a", got="b"),
    KeyUnusable(Path("k"), "why"),
    IncompatibleServer("no kex"),
    ConnectionLost("gone", stdout="o", stderr="e"),
    CopyFailed("why"),
    WaitTimeout("a port", elapsed=1.5, last="closed"),
    CommandError(["a", "b c"], -9, stdout="o", stderr="e", hint="do this"),
    CommandTimeout("a | b", 3.5, stdout="o", stderr="e", note="killed"),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_pickling_keeps_type_fields_text_and_cause(error: GuestError) -> None:
    error.__cause__ = ValueError("the cause")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert str(copy) == str(error)
    assert repr(copy.__cause__) == "ValueError('the cause')"
    assert "\x1b" not in str(copy)


def test_a_cause_that_can_not_be_pickled_is_told() -> None:
    class Local(Exception):
        pass

    error = CopyFailed("why")
    error.__cause__ = Local("deep")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(copy.__cause__) == "Local: deep"


def test_catching_them_as_the_standard_library_does() -> None:
    assert issubclass(CommandError, subprocess.CalledProcessError)
    assert issubclass(CommandTimeout, subprocess.TimeoutExpired)
    assert issubclass(WaitTimeout, TimeoutError)


def test_a_long_stream_is_cut_with_a_note() -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    shown = excerpt("stdout", text).splitlines()
    assert shown[0] == f"--- stdout, the last 40 of 100 lines ({len(text)} characters in all) ---"
    assert shown[1:] == [f"line {number}" for number in range(60, 100)]


def test_a_long_line_is_cut_with_a_note() -> None:
    shown = excerpt("stderr", "x" * 100_000)
    assert shown.startswith("--- stderr, the last 1 of 1 lines (100000 characters in all) ---\nxxx")
    assert len(shown) < 9000


def test_an_empty_stream_is_called_so() -> None:
    assert excerpt("stdout", "") == excerpt("stdout", None) == "--- stdout: empty ---"


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (2, "exit status 2:"),
        (-9, "signal 9 (SIGKILL):"),
        (-99, "signal 99 (SIG?):"),
        (137, "exit status 137 (as a shell reports SIGKILL):"),
    ],
)
def test_how_a_command_ended(returncode: int, words: str) -> None:
    assert words in str(CommandError("x", returncode, stdout="", stderr=""))
