"""Exceptions that repeat what somebody else said, as causes of ours."""

from __future__ import annotations

import itertools
import pickle
import traceback

import pytest

from pytest_vbox.images import ImageError
from pytest_vbox.machines.errors import MachineError, StepError
from pytest_vbox.printable import Foreign, harmless, stand_in
from pytest_vbox.virtualbox.errors import error_for

ESCAPES = "\x1b]0;owned\x07\x9b31m\u202e"


def _raised(*links: BaseException) -> BaseException:
    """The first of some exceptions, each caused by the next, with a traceback."""
    for error, cause in itertools.pairwise(links):
        error.__cause__ = cause
    try:
        raise links[0]
    except BaseException as error:  # noqa: BLE001 - it is asked for
        return error


def test_a_cause_that_can_be_shown_stays_what_it_is() -> None:
    error = _raised(OSError(28, "No space left on device"), ValueError("why"))
    assert harmless(error) is error
    assert isinstance(error.__cause__, ValueError)


def test_of_one_that_can_not_be_shown_stay_type_text_notes_traceback_and_what_was_behind_it() -> None:
    error = _raised(ValueError(f"said {ESCAPES}"), OSError(28, "No space left on device"))
    error.add_note(f"note {ESCAPES}")
    shown = harmless(error)
    assert str(shown).splitlines() == [
        r"ValueError: said \x1b]0;owned\x07\x9b31m\u202e",
        r"note \x1b]0;owned\x07\x9b31m\u202e",
    ]
    assert shown.__traceback__ is error.__traceback__
    assert isinstance(shown.__cause__, OSError)


def test_what_is_behind_it_is_looked_at_too_whether_it_is_a_cause_or_happened_before() -> None:
    error = _raised(KeyError("a"), ValueError("b"))
    assert error.__cause__ is not None
    error.__cause__.__context__ = ValueError(ESCAPES)
    shown = harmless(error)
    assert shown is error
    assert "\x1b" not in "".join(traceback.format_exception(shown))
    assert "owned" in "".join(traceback.format_exception(shown))


def test_a_circle_of_causes_has_an_end() -> None:
    one, two = ValueError(ESCAPES), ValueError("b")
    one.__cause__, two.__cause__ = two, one
    assert "\x1b" not in "".join(traceback.format_exception(harmless(one)))


def test_a_stand_in_survives_the_way_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(stand_in(ValueError(ESCAPES))))  # noqa: S301
    assert isinstance(copy, Foreign)
    assert str(copy) == r"ValueError: \x1b]0;owned\x07\x9b31m\u202e"


@pytest.mark.parametrize(
    "error",
    [
        error_for(0x80004005, f"no {ESCAPES}", "IMachine_getName", {"name": ESCAPES}),
        MachineError(f"no {ESCAPES}"),
        StepError(f"no {ESCAPES}", 1),
        ImageError(f"no {ESCAPES}"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_that_repeat_what_others_said_are_printable(error: Exception) -> None:
    assert r"no \x1b]0;owned\x07\x9b31m\u202e" in str(error)
    assert str(error).isprintable()
    assert getattr(error, "text", "").isprintable()
