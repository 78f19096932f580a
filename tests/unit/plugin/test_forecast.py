"""What the host is told will be asked for, and machines of wider scope that are reset before every test."""

from __future__ import annotations

from typing import Any

import pytest

from unit.plugin.fake_host import FakeHost, set_by

Run = Any


def asked(host: FakeHost) -> list[list[dict[str, Any]]]:
    """What was expected, each time, without what is not given."""
    return [[set_by(wanted) for wanted in upcoming] for upcoming in host.expected]


def test_markers_say_what_comes_next(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile(
        """
        import pytest

        def test_default(vbox): pass

        @pytest.mark.vbox(image="b", hardware={"memory": 5})
        def test_marked(vbox): pass

        def test_plain(): pass

        @pytest.mark.vbox(start=False)
        def test_not_started(vbox): pass

        @pytest.mark.vbox(reset="disk")
        def test_booted(vbox): pass

        @pytest.mark.vbox(name="own")
        def test_named(vbox): pass

        @pytest.mark.skip
        def test_skipped(vbox): pass

        @pytest.mark.vbox(reset="each", profile="p")
        def test_last(vbox): pass
        """
    )
    suite.runpytest().assert_outcomes(passed=7, skipped=1)
    marked: dict[str, Any] = {"image": "b", "hardware": {"memory": 5}}
    last: dict[str, Any] = {"profile": "p"}
    assert asked(host) == [[{}, marked, last], [marked, last], *[[last]] * 6]


def test_a_factory_is_known_by_the_test_before(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_two(vbox_machine, number):
            vbox_machine("a")
            vbox_machine("b", hardware={"memory": 5})

        def test_other(vbox_machine): pass
        """
    )
    suite.runpytest().assert_outcomes(passed=3)
    both = [{"image": "a"}, {"image": "b", "hardware": {"memory": 5}}]
    assert asked(host) == [[{}, {}, {}], [*both, *both], both]


def test_a_module_asks_for_its_machines_once(suite: pytest.Pytester, host: FakeHost) -> None:
    module = """
        import pytest

        @pytest.fixture(scope="module")
        def server(module_vbox_machine):
            return module_vbox_machine("{name}")

        def test_one(server): pass
        def test_two(server): pass
    """
    suite.makepyfile(test_a=module.format(name="a"), test_b=module.format(name="b"))
    suite.runpytest().assert_outcomes(passed=4)
    assert asked(host) == [[{}, {}], [{}], [{}], []]


def test_with_other_ways_nothing_is_said_wrongly(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile("def test_plain(): pass\ndef test_last(vbox_host): pass")
    suite.runpytest("--vbox-reset=disk").assert_outcomes(passed=2)
    assert asked(host) == [[]]


def test_machines_of_wider_scope_are_reset_before_every_test_that_wants_it(
    suite: pytest.Pytester, host: FakeHost
) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def server(module_vbox_machine):
            return module_vbox_machine()

        @pytest.fixture(scope="class")
        def client(class_vbox_machine):
            return class_vbox_machine()

        def test_first(server): pass

        @pytest.mark.vbox(reset="each")
        class TestBoth:
            def test_one(self, server, client): pass
            def test_two(self, server, client): pass
            def test_neither(self): pass

        def test_last(server): pass
        """
    )
    suite.runpytest().assert_outcomes(passed=5)
    assert [entry for entry in host.log if entry.startswith("reset")] == [
        "reset machine-1",
        "reset machine-1",
        "reset machine-2",
    ]


def test_a_wrong_reset_is_an_error_before_the_first_test(suite: pytest.Pytester) -> None:
    suite.makepyfile("import pytest\n@pytest.mark.vbox(reset='always')\ndef test_it(vbox): pass")
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*reset has to be one of live, disk, fresh, each, not 'always'"])
