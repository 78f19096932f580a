"""Nothing of a guest's drives the terminal that pytest writes to, however a test brings it there."""

from __future__ import annotations

import pytest

from pytest_vbox.virtualbox.errors import Failed, ServiceUnavailable

from .fake_host import FakeHost

TITLE = "\x1b]0;owned\x07"
SHOWN = r"\x1b]0;owned\x07"
BODIES = {
    "comparison": "assert f'one\\ntwo {TITLE}\\nthree' == 'one\\ntwo\\nthree'",
    "exception": "raise ValueError(TITLE)",
    "cause": "raise ValueError('why') from OSError(TITLE)",
    "note": "error = ValueError('why'); error.add_note(TITLE); raise error",
    "group": "raise ExceptionGroup('both', [ValueError(TITLE), OSError(TITLE)])",
    "failure": "pytest.fail(TITLE, pytrace=False)",
    "skip": "pytest.skip(TITLE)",
    "output": "print(TITLE); sys.stderr.write(TITLE); assert False",
    "log": "logging.getLogger('x').warning(TITLE); assert False",
}
HEAD = f"import logging, pytest, sys, time\nTITLE = {TITLE!r}\n"


def _is_harmless(text: str) -> bool:
    return not any(sign in text for sign in "\x1b\x07\x9b\u202e\r")


def _printed(suite: pytest.Pytester, *options: str) -> str:
    result = suite.runpytest("--color=no", "-ra", *options)
    return result.stdout.str() + result.stderr.str()


@pytest.mark.slow
@pytest.mark.parametrize("tb", ["auto", "short", "native", "line"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.usefixtures("host")
def test_the_report_of_a_test_with_a_machine_is_printable(suite: pytest.Pytester, body: str, tb: str) -> None:
    suite.makepyfile(f"{HEAD}def test_it(vbox_machine):\n    {body}\n")
    printed = _printed(suite, f"--tb={tb}", "--showlocals")
    assert "1 failed" in printed or "1 skipped" in printed
    assert SHOWN in printed or tb == "line"
    assert _is_harmless(printed)


@pytest.mark.usefixtures("host")
def test_so_is_that_of_its_set_up_of_a_passed_test_and_of_one_that_asks_for_a_machine_later(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")  # pytest cuts no line of its summary to the width of a terminal then
    suite.makepyfile(
        f"{HEAD}@pytest.fixture\ndef broken(vbox_machine):\n    raise ValueError(TITLE)\n"
        "def test_set_up(broken): pass\n"
        "def test_passes(vbox_machine): print(TITLE)\n"
        "def test_asks_later(request):\n    request.getfixturevalue('vbox_machine')\n    raise ValueError(TITLE)\n"
    )
    printed = _printed(suite, "-rA")
    assert "1 failed, 1 passed, 1 error" in printed
    assert printed.count(SHOWN) == 5, "the output, and both errors: in their reports and in the summary"
    assert _is_harmless(printed)


def test_an_error_of_virtualbox_is_printable_as_failure_warning_and_reason_to_skip(
    suite: pytest.Pytester, host: FakeHost
) -> None:
    suite.makepyfile("def test_it(vbox_machine): vbox_machine()\ndef test_other(vbox_machine): vbox_machine()\n")
    host.errors["remove"] = Failed(TITLE)
    printed = _printed(suite)
    assert f"could not be removed: {SHOWN}" in printed
    assert _is_harmless(printed)
    host.errors = {"make": Failed(TITLE)}
    assert _is_harmless(printed := _printed(suite))
    assert SHOWN in printed
    host.errors = {"connect": ServiceUnavailable(TITLE)}
    assert _is_harmless(printed := _printed(suite))
    assert f"VirtualBox cannot be used: {SHOWN}" in printed


@pytest.mark.usefixtures("host")
def test_colours_stay_where_pytest_uses_them(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"{HEAD}def test_it(vbox_machine):\n    print('\\033[31mred\\033[8mhidden')\n    {BODIES['comparison']}\n"
    )
    printed = suite.runpytest("--color=yes").stdout.str()
    assert "\x1b[31mred\\x1b[8mhidden" in printed
    assert SHOWN in printed
    assert TITLE not in printed
    # Of the lines of a difference none has an escaped colour.
    assert r"\x1b[0m" not in printed
    assert r"\x1b[9" not in printed


def test_tests_without_machines_are_shown_as_pytest_shows_them(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_it():\n    print('\\033[31mred'); assert False\n")
    assert "\x1b[31mred" in _printed(suite)
