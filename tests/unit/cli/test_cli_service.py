"""The command ``pytest-vbox``, where no VirtualBox is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_vbox import places
from pytest_vbox.cli import main
from pytest_vbox.ownership import ProcessId
from pytest_vbox.service import VirtualBoxNotFound, endpoint
from pytest_vbox.service.record import Record


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--version"], "pytest-vbox, version "),
        (["--help"], "machines for tests"),
        (["service", "--help"], "private web service"),
        (["gc", "--help"], "left behind"),
    ],
)
def test_help_explains_every_command(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert words in result.output


def test_a_service_that_does_not_run_is_said_with_an_exit_code() -> None:
    result = CliRunner().invoke(main, ["service", "status"])
    assert (result.exit_code, result.output) == (1, "not running\n")
    assert CliRunner().invoke(main, ["service", "stop"]).output == "not running\n"


def test_a_service_that_runs_is_shown_without_its_password_and_stopped() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        identity = ProcessId.of(child.pid)
        assert identity is not None
        Record("http://127.0.0.1:20001", "pytest-vbox", "hush", ProcessId.mine(), identity).write(
            places.state_folder()
        )
        result = CliRunner().invoke(main, ["service", "status"])
        child.kill()
    assert (result.exit_code, result.output) == (
        0,
        f"running at http://127.0.0.1:20001 (process {child.pid}, kept by {os.getpid()})\n",
    )


def test_cleaning_up_without_virtualbox_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise VirtualBoxNotFound("no VirtualBox found on this computer")

    monkeypatch.setattr(endpoint, "find_installation", nowhere)
    monkeypatch.setattr(endpoint, "answers", lambda *_: False)
    result = CliRunner().invoke(main, ["gc"])
    assert (result.exit_code, result.output) == (1, "Error: no VirtualBox found on this computer\n")
