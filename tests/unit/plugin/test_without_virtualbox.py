"""Where VirtualBox cannot be used, or is not wanted: skipped with the reason, or refused with what to do."""

from __future__ import annotations

import pytest

from pytest_vbox.virtualbox.errors import LogonRefused, ServiceUnavailable, UnsupportedVersion
from unit.kit.service import FakeService, Silence

from .fake_host import FakeHost

SUITE = """
    def test_plain(): pass
    def test_one(vbox): pass
    def test_two(session_vbox_machine): pass
"""
# Discard: nobody listens there.
NOWHERE = "http://127.0.0.1:9"


def test_by_default_machine_tests_are_skipped_with_the_reason(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    result = suite.runpytest("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED *: VirtualBox cannot be used: no VirtualBox found*Install it"] * 2)


def test_required_they_are_errors_that_say_what_to_install(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    result = suite.runpytest("--vbox=require")
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        ["VirtualBox cannot be used, and --vbox=require: no VirtualBox found on this computer. Install it"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.usefixtures("broken_yaml")
def test_switched_off_they_are_all_skipped_and_nothing_is_read(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile(SUITE)
    result = suite.runpytest("--vbox=off", "-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED [[]2[]]*machine tests are switched off (--vbox=off)"])
    assert host.log == []


def test_a_fixture_asked_for_at_run_time_is_switched_off_too(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile("def test_one(request): request.getfixturevalue('vbox_machine')")
    suite.runpytest("--vbox=off").assert_outcomes(skipped=1)
    assert host.log == []


def test_a_service_that_does_not_answer_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(vbox): pass")
    result = suite.runpytest("-rs", f"--vbox-url={NOWHERE}")
    result.stdout.fnmatch_lines([f"SKIPPED*web service at {NOWHERE}/ does not answer: connection refused"])
    result = suite.runpytest("--vbox=require", f"--vbox-url={NOWHERE}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*--vbox=require: *{NOWHERE}/ does not answer: connection refused"])


def test_wrong_credentials_are_no_reason_to_skip(suite: pytest.Pytester, service: FakeService) -> None:
    suite.makepyfile("def test_one(vbox): pass")
    service.answer("IWebsessionManager_logon", Silence())
    result = suite.runpytest(f"--vbox-url={service.url}", "--vbox-user=me")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*LogonRefused: IWebsessionManager::logon(username='me', password='…')*"])


def test_a_virtualbox_that_is_too_old_is_no_reason_to_skip(suite: pytest.Pytester, service: FakeService) -> None:
    suite.makepyfile("def test_one(vbox): pass")
    service.add("virtualbox", Version="4.3.40", APIVersion="4_3", Revision=1)
    result = suite.runpytest(f"--vbox-url={service.url}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UnsupportedVersion: VirtualBox 4.3.40 (API 4.3) is not supported*5.2 to 7.2"])


@pytest.mark.parametrize("kind", [LogonRefused, UnsupportedVersion, ServiceUnavailable])
def test_only_what_cannot_be_reached_is_skipped(
    suite: pytest.Pytester, host: FakeHost, kind: type[Exception]
) -> None:
    host.errors["connect"] = kind("why")
    suite.makepyfile("def test_one(vbox): pass")
    outcome = "skipped" if kind is ServiceUnavailable else "errors"
    suite.runpytest().assert_outcomes(**{outcome: 1})


def test_a_password_file_that_is_not_there_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(vbox): pass")
    result = suite.runpytest("--vbox-password-file=none", f"--vbox-url={NOWHERE}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: --vbox-password-file: cannot read *none*"])


# Broken YAML


def test_broken_yaml_ends_the_run_before_any_test(suite: pytest.Pytester, broken_yaml: str) -> None:
    suite.makepyfile("def test_plain(): print('it was run')\ndef test_one(vbox): pass\n")
    result = suite.runpytest("-s")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{broken_yaml}*memroy*memory*"])
    result.stdout.no_fnmatch_line("*it was run*")


@pytest.mark.usefixtures("broken_yaml")
@pytest.mark.parametrize("arguments", [("-m", "not vbox"), ("-k", "plain"), ("test_a.py::test_plain",)])
def test_broken_yaml_does_not_disturb_other_tests(suite: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    suite.makepyfile(test_a="def test_plain(): pass\ndef test_one(vbox): pass\n")
    suite.runpytest(*arguments).assert_outcomes(passed=1, deselected=0 if "::" in arguments[0] else 1)


@pytest.mark.usefixtures("broken_yaml")
def test_broken_yaml_does_not_hinder_collecting(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(vbox): pass\n")
    result = suite.runpytest("--collect-only")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*<Function test_one>*"])


def test_a_profiles_folder_that_is_not_there_is_named(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(vbox): pass\n")
    result = suite.runpytest("--vbox-profiles=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{suite.path}/none*"])


def test_broken_yaml_is_told_by_a_test_that_could_not_be_known_to_need_it(
    suite: pytest.Pytester, broken_yaml: str
) -> None:
    # So it is in the workers of pytest-xdist too, which cannot end the run before its first test.
    suite.makepyfile("def test_one(request): request.getfixturevalue('vbox_machine')\n")
    result = suite.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *UsageError: {broken_yaml}*memroy*"])
