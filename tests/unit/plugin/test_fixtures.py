"""The fixtures: machines for as long as their scope, and a result that nothing masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox.machines import Diagnosis
from pytest_vbox.settings import Reset
from pytest_vbox.virtualbox.errors import Failed

from .fake_host import FakeHost, FakeMachine, set_by


def _log(host: FakeHost) -> list[str]:
    """What happened since the connection stood."""
    assert host.log[0] == "connect"
    return host.log[1:]


# For how long


@pytest.mark.parametrize("fixture", ["vbox_machine", "class_vbox_machine", "module_vbox_machine"])
def test_machines_live_as_long_as_the_scope_they_were_made_in(
    suite: pytest.Pytester, host: FakeHost, fixture: str
) -> None:
    module = f"""
    import pytest

    class TestFirst:
        def test_a(self, {fixture}): {fixture}()
        def test_b(self, package_vbox_machine, session_vbox_machine):
            package_vbox_machine()
            session_vbox_machine()

    def test_c(): pass
    """
    package = suite.mkpydir("package")
    for name in ("test_one.py", "test_two.py"):
        (package / name).write_text("\n".join(line[4:] for line in module.splitlines()))
    suite.makepyfile(test_z="def test_last(vbox_host): vbox_host.log.append('last test')")
    suite.runpytest().assert_outcomes(passed=7)
    made, removed = "made machine-1", "removed machine-1"
    shared = ["made machine-2", "made machine-3"]
    first = [made, removed, *shared] if fixture == "vbox_machine" else [made, *shared, removed]
    second = [line[:-1] + str(int(line[-1]) + 3) for line in first]
    log = _log(host)
    assert log[:9] == [*first, *second, "last test"]
    # For pytest, a fixture of a plugin belongs to no package, so the scope "package" ends with the run.
    assert sorted(log[9:-1]) == [f"removed machine-{number}" for number in (2, 3, 5, 6)]
    assert log[-1] == "close"


def test_every_call_makes_another_machine_for_its_test(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile(
        """
        def test_one(vbox_machine):
            one = vbox_machine("ubuntu", "large")
            two = vbox_machine(name="db", hardware={"cpus": 2}, reset="disk", start=False, boot_timeout=9)
            assert one is not two
        """
    )
    suite.runpytest("-rA").assert_outcomes(passed=1)
    first, second = host.made
    assert set_by(first) == {"image": "ubuntu", "profile": "large", "start": True}
    assert set_by(second) == {
        "name": "db",
        "hardware": {"cpus": 2},
        "reset": Reset.DISK,
        "start": False,
        "boot_timeout": 9,
    }
    assert first["test"].endswith(".py::test_one")
    assert _log(host) == ["made machine-1", "made machine-2", "removed machine-1", "removed machine-2", "close"]


def test_nothing_is_connected_for_tests_that_use_no_machine(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile("def test_one(vbox_settings, vbox_artifacts_dir, vbox_ssh_key): assert vbox_ssh_key is None")
    suite.runpytest().assert_outcomes(passed=1)
    assert host.log == []


def test_a_project_may_override_the_small_fixtures(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makeconftest(
        """
        import dataclasses
        from pathlib import Path
        import pytest

        @pytest.fixture(scope="session")
        def vbox_ssh_key(): return Path("/keys/own")

        @pytest.fixture(scope="session")
        def vbox_artifacts_dir(): return Path("/elsewhere")

        @pytest.fixture(scope="session")
        def vbox_settings(vbox_settings): return dataclasses.replace(vbox_settings, image="ours")
        """
    )
    suite.makepyfile("def test_one(vbox): pass")
    suite.runpytest().assert_outcomes(passed=1)
    assert host.settings.image == "ours"
    assert (host.connected["ssh_key"], host.connected["artifacts"]) == (Path("/keys/own"), Path("/elsewhere"))
    assert host.connected["root"] == suite.path
    assert host.connected["run"]


# What nothing masks


@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        ("pass", "passed", Failed("it does not let go")),
        ("assert 1 == 2", "failed", RuntimeError("it does not let go")),
    ],
)
def test_a_machine_that_cannot_be_removed_is_a_warning(
    suite: pytest.Pytester, host: FakeHost, body: str, outcome: str, error: Exception
) -> None:
    host.errors["remove"] = error
    suite.makepyfile(f"def test_one(vbox_machine):\n    vbox_machine()\n    vbox_machine()\n    {body}\n")
    result = suite.runpytest("-W", "default")
    result.assert_outcomes(**{outcome: 1}, warnings=2)
    result.stdout.fnmatch_lines(
        [
            "*PytestVboxWarning: machine machine-1 could not be removed: it does not let go*. The next run*",
            "*PytestVboxWarning: machine machine-2 could not be removed: *",
        ]
    )
    assert _log(host)[-3:] == ["removed machine-1", "removed machine-2", "close"]


def test_a_connection_that_cannot_be_closed_is_a_warning(suite: pytest.Pytester, host: FakeHost) -> None:
    host.errors["close"] = Failed("gone")
    suite.makepyfile("def test_one(vbox): pass")
    result = suite.runpytest("-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*PytestVboxWarning: closing VirtualBox at http://127.0.0.1:1: gone*"])


def test_a_machine_that_does_not_come_up_is_an_error_with_its_report(
    suite: pytest.Pytester, host: FakeHost
) -> None:
    host.errors["make"] = Failed("Starting VM: no memory")
    suite.makepyfile("def test_one(vbox): pass\ndef test_two(vbox_machine): vbox_machine()\n")
    result = suite.runpytest()
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(["E *Failed: Starting VM: no memory*"])
    assert _log(host) == ["close"]


# What is shown of machines in failed tests


@pytest.mark.usefixtures("host")
def test_a_failed_test_shows_its_machines_and_saves_what_they_show(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one(vbox, vbox_machine):\n    vbox_machine()\n    assert 'a' == 'b'\n")
    result = suite.runpytest("--vbox-artifacts=shown")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *AssertionError*",
            "*- VirtualBox machine machine-1 -*",
            "machine state: Running",
            "    login:",
            "saved: *shown/machine-1/screenshot.png",
            "*- VirtualBox machine machine-2 -*",
        ]
    )
    assert (suite.path / "shown" / "machine-1" / "screenshot.png").read_bytes() == b"png"


def test_a_test_that_passes_shows_and_saves_nothing(suite: pytest.Pytester, host: FakeHost) -> None:
    suite.makepyfile("def test_one(vbox): pass")
    suite.runpytest().stdout.no_fnmatch_line("*VirtualBox machine machine-1*")
    assert not (suite.path / ".pytest_vbox").exists()
    assert len(host.made) == 1


@pytest.mark.parametrize("trouble", ["unwritable", "blind"])
def test_trouble_with_showing_does_not_end_the_run(
    suite: pytest.Pytester, host: FakeHost, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    if trouble == "unwritable":
        suite.makefile("", shown="a file where the folder would be")
    else:
        monkeypatch.setattr(FakeMachine, "diagnose", lambda _: Diagnosis.missing)  # type: ignore[attr-defined]
    suite.makepyfile("def test_one(vbox): assert 'a' == 'b'\ndef test_two(): pass\n")
    result = suite.runpytest("--vbox-artifacts=shown")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *AssertionError*", "*- VirtualBox machine machine-1 -*"])
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert len(host.made) == 1


# Machines that are kept

KEEP = """
    import pytest

    def test_good(vbox): pass
    def test_bad(vbox): assert 0

    class TestClass:
        def test_inside(self, class_vbox_machine):
            class_vbox_machine()
            assert 0

        def test_after(self): pass

    @pytest.fixture
    def broken(vbox): raise ValueError

    def test_set_up(broken): pass
"""


@pytest.mark.parametrize(
    ("keep", "kept"),
    [("never", []), ("failed", [2, 3, 4]), ("always", [1, 2, 3, 4])],
    ids=lambda value: str(value),
)
def test_machines_are_kept_as_asked_for(
    suite: pytest.Pytester, host: FakeHost, keep: str, kept: list[int]
) -> None:
    suite.makepyfile(KEEP)
    result = suite.runpytest(f"--vbox-keep={keep}")
    result.assert_outcomes(passed=2, failed=2, errors=1)
    lines = [line for line in result.outlines if line.startswith("kept machine")]
    assert lines == [f"kept machine machine-{number}: ssh -p 1 root@127.0.0.1" for number in kept]
    assert ("VirtualBox machines that were kept" in result.stdout.str()) is bool(kept)
    removed = [line for line in host.log if line.startswith("removed")]
    assert removed == [f"removed machine-{number}" for number in range(1, 5) if number not in kept]
