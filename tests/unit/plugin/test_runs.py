"""Runs in processes of their own: what is imported, and several workers."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

CONFTEST = """
    import json, os, sys
    from pathlib import Path

    def pytest_unconfigure(config):
        Path("modules.json").write_text(json.dumps(sorted(sys.modules)))
"""
SUITE = """
    import pytest

    def test_plain(): pass

    @pytest.mark.vbox(image="x")
    def test_one(vbox): pass

    def test_two(session_vbox_machine): pass
"""
HEAVY = {"zeep", "paramiko", "pydantic", "lxml", "requests", "yaml", "psutil", "cryptography"}


@pytest.fixture
def quiet(suite: pytest.Pytester) -> pytest.Pytester:
    """A suite whose runs need no other plugin's time."""
    suite.makeini("[pytest]\naddopts = -p no:cacheprovider\n")
    return suite


@pytest.mark.usefixtures("broken_yaml")
def test_a_quick_run_imports_nothing_that_machines_need(quiet: pytest.Pytester) -> None:
    quiet.makeconftest(CONFTEST)
    quiet.makepyfile(SUITE)
    quiet.runpytest_subprocess("-m", "not vbox").assert_outcomes(passed=1, deselected=2)
    modules = set(json.loads((quiet.path / "modules.json").read_text()))
    assert "pytest_vbox.plugin" in modules
    assert modules & HEAVY == set()


def test_workers_skip_alone_and_hand_in_what_they_kept(quiet: pytest.Pytester) -> None:
    # Stands for pytest_vbox.hosts, so that nothing heavy is loaded.
    quiet.makeconftest(
        """
        import os, sys, types
        from pytest_vbox.service import VirtualBoxNotFound

        class Host:
            machines = ()

            def machine(self, *_, **__): return types.SimpleNamespace(name="one")
            def wanted(self, **_): return None
            def expect(self, _): pass
            def problems(self): return []
            def keep(self, machine): return f"kept machine {machine.name} of {os.environ['PYTEST_XDIST_WORKER']}"
            def close(self): pass

        def connect_host(settings, **_):
            if os.environ["PYTEST_XDIST_WORKER"] == "gw1":
                raise VirtualBoxNotFound("none here")
            host = Host()
            host.settings = settings
            return host

        sys.modules["pytest_vbox.hosts"] = types.SimpleNamespace(connect_host=connect_host)
        """
    )
    quiet.makepyfile(SUITE)
    result = quiet.runpytest_subprocess("-n2", "--dist=each", "-rs", "--vbox-keep=always")
    result.assert_outcomes(passed=4, skipped=2)
    result.stdout.fnmatch_lines_random(
        ["SKIPPED *: VirtualBox cannot be used: none here", "*VirtualBox machines that were kept*"]
    )
    assert [line for line in result.outlines if line.startswith("kept")] == ["kept machine one of gw0"]
