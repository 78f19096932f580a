"""The marker: given to every test that uses a machine, checked before the first one runs."""

from __future__ import annotations

import pytest

from .fake_host import FakeHost, set_by

SUITE = """
    import pytest

    def test_plain(): pass
    def test_settings(vbox_settings, vbox_artifacts_dir): pass
    def test_factory(vbox_machine): pass
    def test_one(vbox): pass
    def test_session(session_vbox_machine): pass
    def test_host(vbox_host): pass

    @pytest.fixture
    def server(module_vbox_machine): pass

    def test_through_a_fixture(server): pass

    @pytest.mark.usefixtures("class_vbox_machine")
    class TestClass:
        def test_inside(self): pass

    @pytest.mark.parametrize("x", [1])
    def test_parametrized(x, package_vbox_machine): pass

    @pytest.mark.vbox
    def test_marked_by_hand(): pass
"""
QUICK = ["test_plain", "test_settings"]
MACHINE = [
    "test_factory",
    "test_host",
    "test_inside",
    "test_marked_by_hand",
    "test_one",
    "test_parametrized[1]",
    "test_session",
    "test_through_a_fixture",
]


def _collected(suite: pytest.Pytester, *arguments: str) -> list[str]:
    result = suite.runpytest("--collect-only", "-q", *arguments)
    return sorted(line.rpartition("::")[2] for line in result.outlines if "::" in line)


def test_quick_and_integration_run_are_told_apart(suite: pytest.Pytester) -> None:
    suite.makepyfile(SUITE)
    assert _collected(suite, "-m", "not vbox") == QUICK
    assert _collected(suite, "-m", "vbox") == MACHINE
    assert _collected(suite) == sorted(QUICK + MACHINE)


def test_a_doctest_or_another_kind_of_test_is_not_disturbed(suite: pytest.Pytester) -> None:
    suite.maketxtfile(test_doc=">>> 1 + 1\n2\n")
    suite.runpytest("-m", "not vbox").assert_outcomes(passed=1)


def test_the_closest_marker_wins_key_by_key(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.vbox(image="module", profile="module", name="module")

        @pytest.mark.vbox(profile="class", start=False)
        class TestClass:
            @pytest.mark.vbox(name="test", hardware={"memory": 512}, boot_timeout=7, reset="fresh")
            def test_one(self, vbox): pass

            def test_two(self, vbox): pass
        """
    )
    suite.runpytest("--strict-markers").assert_outcomes(passed=2)
    first, second = map(set_by, host.made)
    assert first == {
        "image": "module",
        "profile": "class",
        "name": "test",
        "hardware": {"memory": 512},
        "reset": "fresh",
        "start": False,
        "boot_timeout": 7,
    }
    assert second == {"image": "module", "profile": "class", "name": "module", "start": False}


def test_without_a_marker_the_defaults_are_meant(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile("def test_one(vbox): pass")
    suite.runpytest().assert_outcomes(passed=1)
    assert list(map(set_by, host.made)) == [{"start": True}]


@pytest.mark.parametrize(
    ("marker", "what"),
    [
        ("vbox('ubuntu')", "arguments have to be named"),
        ("vbox(img='ubuntu')", "unknown img"),
        ("vbox(image='ubuntu', memory=1, cpus=2)", "unknown memory, cpus"),
    ],
)
def test_a_marker_that_is_used_wrongly_is_answered_with_the_right_one(
    suite: pytest.Pytester, host: FakeHost, marker: str, what: str
) -> None:
    suite.makepyfile(
        f"""
        import pytest

        def test_plain(): print("it was run")

        @pytest.mark.{marker}
        def test_wrong(vbox): pass
        """
    )
    result = suite.runpytest("-s")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: *::test_wrong: @pytest.mark.vbox: {what}; it goes like this: @pytest.mark.vbox(image='NAME', *"]
    )
    result.stdout.no_fnmatch_line("*it was run*")
    assert host.log == []
    # Whoever does not run it is not bothered.
    suite.runpytest("-k", "plain").assert_outcomes(passed=1, deselected=1)


def test_the_signature_that_is_shown_is_one_that_works(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile("import pytest\n\n@pytest.mark.vbox(1)\ndef test_one(vbox): pass\n")
    text = suite.runpytest().stderr.str()
    shown = text[text.index("it goes like this: ") :].removeprefix("it goes like this: ").splitlines()[0]
    suite.makepyfile(f"import pytest\n\n{shown}\ndef test_one(vbox): pass\n")
    suite.runpytest().assert_outcomes(passed=1)
    assert len(host.made) == 1
