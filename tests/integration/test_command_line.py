"""The command ``pytest-vbox``, as a user types it, with real VirtualBox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.ownership import KeptMachine, KeptMachines

Typed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(vbox_host: VirtualBoxHost) -> Typed:
    """Runs the command in a process of its own, with the same VirtualBox."""
    del vbox_host  # it has to be there

    def run(*arguments: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest_vbox.cli", *arguments],
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            env={**os.environ, **environment},
        )

    return run


def test_a_machine_is_listed_entered_looked_at_stopped_and_removed(
    typed: Typed, vbox_machine: MachineFactory, vbox_host: VirtualBoxHost, tmp_path: Path
) -> None:
    vm = vbox_machine(name="typed")
    (entry,) = (
        entry for entry in json.loads(typed("machines", "list", "--json").stdout) if entry["name"] == vm.name
    )
    assert (entry["state"], entry["image"], entry["profile"]) == ("Running", "tiny", "tiny")
    assert entry["test"].endswith("test_a_machine_is_listed_entered_looked_at_stopped_and_removed")
    assert entry["ssh"] == "{}:{}".format(*vm.address)
    assert vm.name in typed("machines", "list").stdout

    done = typed("machines", "ssh", vm.name, "echo", "in;", "echo", "out", ">&2;", "exit", "7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "out\n")
    assert typed("machines", "ssh", vm.name, typed="hostname\nexit 5\n").returncode == 5

    picture = tmp_path / "screen.png"
    assert typed("machines", "screenshot", vm.name, str(picture)).returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")

    vm._disconnect()
    assert typed("machines", "stop", vm.name).stdout == f"{vm.name} is off\n"
    assert vm.state == "PoweredOff"
    assert typed("machines", "remove", vm.name).stdout == f"removed {vm.name}\n"
    assert vm.name not in [machine.name for machine in vbox_host.api.machines]


def test_kept_machines_are_listed_as_such_and_removed_together(
    typed: Typed, vbox_host: VirtualBoxHost, tmp_path: Path
) -> None:
    machines = [vbox_host.machine(start=False, name=name) for name in ("kept", "other")]
    # A list of kept machines of this test's own: those of other tests shall stay.
    state = tmp_path / "pytest-vbox"
    state.mkdir(mode=0o700)
    (state / "locks").mkdir()
    kept = KeptMachines(state)
    for machine_id in (machines[0].id, "of a machine that is gone"):
        kept.add(KeptMachine(machine_id, "x", vbox_host.identity, "", "", "", ""))
    here = {"XDG_STATE_HOME": str(tmp_path)}
    listed = {
        entry["name"]: entry["kept"] for entry in json.loads(typed("machines", "list", "--json", **here).stdout)
    }
    assert [listed[machine.name] for machine in machines] == [True, False]
    assert typed("machines", "remove", **here).returncode == 2
    assert typed("machines", "remove", "--kept", **here).stdout == f"removed {machines[0].name}\n"
    assert kept.all() == []
    there = [machine.name for machine in vbox_host.api.machines]
    assert [machine.name in there for machine in machines] == [False, True]
    for machine in machines:
        vbox_host.remove(machine)


def test_a_machine_that_is_not_ours_is_not_found(typed: Typed, vbox_host: VirtualBoxHost) -> None:
    name = "pytest-looks-like-ours"
    foreign = vbox_host.api.create_machine("", name, ["/"], "Other_64")
    foreign.save_settings()
    vbox_host.api.register_machine(foreign)
    try:
        done = typed("machines", "remove", name)
        assert done.returncode == 1
        assert f"no machine of pytest-vbox is named '{name}'" in done.stderr
        assert vbox_host.api.find_machine(name).name == name
    finally:
        from pytest_vbox.deadline import Deadline
        from pytest_vbox.virtualbox.enums import CleanupMode

        machine = vbox_host.api.find_machine(name)
        machine.unregister(CleanupMode.UNREGISTER_ONLY)
        machine.delete_config([]).wait(Deadline(10))


def test_try_gives_a_shell_in_a_new_machine_that_is_gone_afterwards(
    typed: Typed, vbox_host: VirtualBoxHost
) -> None:
    done = typed("try", "tiny", "--profile", "tiny", typed="echo I am $(whoami)\nexit 3\n")
    assert (done.returncode, done.stdout) == (3, "I am root\n")
    assert "is ready after" in done.stderr
    assert not [machine.name for machine in vbox_host.api.machines if "try-tiny" in machine.name]


def test_the_doctor_finds_nothing_wrong_here(typed: Typed) -> None:
    done = typed("doctor", "--json")
    assert done.returncode == 0, done.stdout
    found = {finding["name"]: finding["state"] for finding in json.loads(done.stdout)}
    assert found["web service"] == found["machine folder"] == found["images and profiles"] == "pass"


def test_the_doctor_says_when_the_service_is_dead_or_the_password_wrong(typed: Typed, tmp_path: Path) -> None:
    done = typed("doctor", "--json", "--url", "http://127.0.0.1:9")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert (found["web service"]["state"], "connection refused" in found["web service"]["found"]) == ("fail", True)
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    done = typed("doctor", "--json", "--password-file", str(wrong))
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert (done.returncode, found["web service"]["state"]) == (1, "fail")
