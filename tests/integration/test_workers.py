"""Several workers and runs on one host: one golden machine for all, no more machines than allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from machine_support import names_of_ours

from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.plan import GOLDEN_GROUP

SUITE = """
    import pytest

    @pytest.mark.parametrize("number", range({tests}))
    def test_it(vbox, number):
        assert vbox.run("ls /root/number", check=False).returncode
        vbox.run("touch /root/number")
"""

Describe = Callable[[str], None]


@pytest.fixture
def describe(suite: pytest.Pytester, own_image: Callable[[str], Path]) -> Describe:
    """Describes an image of its own, so that no other test's golden machine serves it."""

    def add(name: str) -> None:
        folder = suite.path / "profiles"
        folder.mkdir(exist_ok=True)
        disk = own_image(f"{name}.vdi")
        (folder / f"{name}.yaml").write_text(f"images: {{{name}: {{extends: tiny, disk: {disk}}}}}")

    return add


def start(suite: pytest.Pytester, *arguments: str) -> subprocess.Popen[str]:
    """A run of the suite, which goes on while the test does."""
    command = [sys.executable, "-m", "pytest", "--vbox=require", "-p", "no:cacheprovider", "-q", *arguments]
    return subprocess.Popen(
        command, cwd=suite.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def passed(run: subprocess.Popen[str], tests: int) -> str:
    """Wait for the end of a run whose tests all pass; what it wrote."""
    output, _ = run.communicate(timeout=240)
    assert run.returncode == 0, output
    assert f"{tests} passed" in output
    return output


def test_two_runs_at_the_same_time_share_a_golden_machine(
    suite: pytest.Pytester, describe: Describe, vbox_host: VirtualBoxHost
) -> None:
    describe("shared")
    suite.makepyfile(SUITE.format(tests=2))
    runs = [start(suite, "--vbox-image=shared") for _ in range(2)]
    for run in runs:
        passed(run, 2)
    assert [golden.image for golden in vbox_host.golden.all()].count("shared") == 1
    assert not [name for name in names_of_ours(vbox_host) if "shared" in name]


def test_another_worker_makes_the_golden_machine_if_the_one_at_it_is_killed(
    suite: pytest.Pytester, describe: Describe, vbox_host: VirtualBoxHost
) -> None:
    describe("orphan")
    suite.makepyfile(SUITE.format(tests=1))
    first = start(suite, "--vbox-image=orphan")
    wait_until(lambda: bool(half_made(vbox_host, "orphan")))
    second = start(suite, "--vbox-image=orphan")
    wait_until(lambda: len(half_made(vbox_host, "orphan")) == 1)
    first.kill()
    first.communicate()
    passed(second, 1)
    # What the dead one left, the next run takes away.
    passed(start(suite, "--vbox-image=orphan"), 1)
    assert half_made(vbox_host, "orphan") == []
    assert [golden.image for golden in vbox_host.golden.all()].count("orphan") == 1


def test_a_limit_of_one_machine_with_two_workers_comes_to_an_end(
    suite: pytest.Pytester, describe: Describe, vbox_host: VirtualBoxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe("single")
    # A count of their own: the tests that run beside this one are not to be waited for.
    monkeypatch.setenv("XDG_STATE_HOME", str(suite.path / "state"))
    suite.makepyfile(SUITE.format(tests=4))
    run = start(suite, "--vbox-image=single", "-n2", "--vbox-max-machines=1")
    most = 0
    while run.poll() is None:
        machines = [name for name in names_of_ours(vbox_host) if "single" in name or "test_it" in name]
        most = max(most, len([name for name in machines if _is_online(vbox_host, name)]))
        time.sleep(0.05)
    passed(run, 4)
    assert most == 1


def test_asking_for_three_machines_where_two_are_allowed_is_an_error_that_explains(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(suite.path / "state"))
    suite.makepyfile(
        """
        def test_three(vbox_machine):
            for _ in range(3):
                vbox_machine()
        """
    )
    result = suite.runpytest_subprocess("--vbox=require", "--vbox-max-machines=2", "--vbox-prewarm=2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*CapacityExceeded: *test_three asks for a third machine, and at most 2*",
        ]
    )


def test_the_second_run_of_a_suite_boots_nothing(suite: pytest.Pytester, describe: Describe) -> None:
    describe("warm")
    suite.makepyfile(SUITE.format(tests=3))
    report = suite.path / "report.json"
    ways = []
    for _ in range(2):
        passed(start(suite, "--vbox-image=warm", f"--vbox-report={report}"), 3)
        ways.append([record["way"] for record in json.loads(report.read_text())["machines"]])
    assert "cold" in ways[0]
    assert "cold" not in ways[1]


def half_made(host: VirtualBoxHost, image: str) -> list[str]:
    """The golden machines of an image that are not whole yet."""
    whole = {golden.name for golden in host.golden.all()}
    names = [machine.name for machine in host.api.machines_by_groups([GOLDEN_GROUP])]
    return [name for name in names if image in name and name not in whole]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_online(host: VirtualBoxHost, name: str) -> bool:
    try:
        return host.api.find_machine(name).state.is_online
    except Exception:  # noqa: BLE001 - gone while we looked
        return False
