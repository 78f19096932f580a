"""cloud-init in a guest: when it is done, how it failed, and logins refused while it is at work."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import (
    CloudInitDone,
    CloudInitFailed,
    Connection,
    GuestUnreachable,
    Login,
    LoginRefused,
    WaitTimeout,
    cloud_init,
    connect,
    load_key,
    readiness,
    wait_for,
)
from pytest_vbox.guest import connection as connection_module

from .server import USER, Behaviour, GuestServer, new_key_text


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(connection_module, "_RETRY", 0.01)
    monkeypatch.setattr(connection_module, "_REFUSED", 0.01)


@pytest.fixture
def run_folder(tmp_path: Path, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for /run/cloud-init; the guest has a cloud-init, its log and a sudo."""
    folder, programs = tmp_path / "run", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    for name, text in (("cloud-init", "exit 1"), ("sudo", 'while [ "$1" != sh ]; do shift; done; exec "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    behaviour.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    log = tmp_path / "output.log"
    log.write_text("".join(f"line {number}\n" for number in range(60)) + "E: Unable to locate package nginks\n")
    monkeypatch.setattr(cloud_init, "OUTPUT_LOG", str(log))
    monkeypatch.setattr(cloud_init, "_LOOK", cloud_init._LOOK.replace("/run/cloud-init", str(folder)))
    return folder


class LastLook(Deadline):
    """A deadline that gives a look its time, and is over after it."""

    @property
    def expired(self) -> bool:
        return True


class Until(Deadline):
    """A deadline that is over once something has happened: nothing here depends on how fast it was."""

    def __init__(self, happened: Callable[[], bool]) -> None:
        super().__init__(30)
        self._happened = happened

    @property
    def remaining(self) -> float:
        return 0.0 if self._happened() else super().remaining


def status(now: str | None = None, /, **stages: Any) -> str:
    """A report; a stage ``modules_final`` stands for ``modules-final``."""
    named = {stage.replace("_", "-"): report for stage, report in stages.items()}
    return json.dumps({"v1": {"datasource": None, "stage": now, **named}}, indent=1)


def result(*errors: str) -> str:
    return json.dumps({"v1": {"datasource": "DataSourceNoCloud [seed=/dev/sr0]", "errors": errors}}, indent=1)


def test_done_is_done(connection: Connection, run_folder: Path) -> None:
    (run_folder / "result.json").write_text(result())
    (run_folder / "status.json").write_text(status(modules_final={"errors": [], "finished": 5.5}))
    wait_for(connection, CloudInitDone(), Deadline(10))


def test_it_is_waited_for(connection: Connection, run_folder: Path) -> None:
    seen: list[str | None] = []

    class Watched(CloudInitDone):
        def look(self, connection: Connection, deadline: Deadline) -> str | None:
            seen.append(super().look(connection, deadline))
            files = [
                ("status.json", '{"v1": '),
                ("status.json", status("modules-config")),
                ("result.json", result()),
            ]
            if len(seen) <= len(files):
                name, text = files[len(seen) - 1]
                (run_folder / name).write_text(text)
            return seen[-1]

    wait_for(connection, Watched(), Deadline(10))
    assert seen == ["it has not begun", "between two of its stages", "it is in its stage modules-config", None]


def test_errors_of_the_result_are_told_once_with_the_end_of_the_log(
    connection: Connection, run_folder: Path
) -> None:
    error = "('scripts_user', RuntimeError('Runparts: 1 failures (runcmd) in 1 attempted commands'))"
    (run_folder / "result.json").write_text(result(error))
    (run_folder / "status.json").write_text(status(modules_final={"errors": [error]}))
    with pytest.raises(CloudInitFailed) as caught:
        wait_for(connection, CloudInitDone(), Deadline(10))
    failed = caught.value
    assert failed.errors == (error,)
    assert str(failed).startswith(
        f"cloud-init failed in the guest:\n  {error}\n--- /var/log/cloud-init-output.log "
    )
    assert str(failed).rstrip().endswith("E: Unable to locate package nginks")
    assert "line 0\n" not in str(failed)
    again = pickle.loads(pickle.dumps(failed))  # noqa: S301 - made right here
    assert (str(again), again.errors) == (str(failed), failed.errors)


def test_an_early_error_is_not_waited_out(connection: Connection, run_folder: Path) -> None:
    (run_folder / "status.json").write_text(status("modules-final", init={"errors": ["no user could be made"]}))
    with pytest.raises(CloudInitFailed, match="no user could be made"):
        wait_for(connection, CloudInitDone(), Deadline(10))


def test_what_it_got_over_is_a_warning(
    connection: Connection, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run_folder / "result.json").write_text(result())
    stage = {"errors": [], "recoverable_errors": {"DEPRECATED": ["the key chef is deprecated"]}}
    (run_folder / "status.json").write_text(status(modules_config=stage))
    with caplog.at_level(logging.WARNING):
        wait_for(connection, CloudInitDone(), Deadline(10))
    assert "DEPRECATED: the key chef is deprecated" in caplog.text


def test_a_guest_whose_cloud_init_is_switched_off(connection: Connection, run_folder: Path) -> None:
    (run_folder / "disabled").touch()
    with pytest.raises(CloudInitFailed, match=r"switched off in the guest: .*NoCloud"):
        wait_for(connection, CloudInitDone(), Deadline(10))


@pytest.mark.skipif(Path("/usr/bin/cloud-init").exists(), reason="this computer has a cloud-init")
def test_a_guest_without_cloud_init(connection: Connection, run_folder: Path, behaviour: Behaviour) -> None:
    behaviour.environment["PATH"] = os.environ["PATH"]
    run_folder.rmdir()
    with pytest.raises(CloudInitFailed, match=r"no cloud-init in the guest. Use a cloud image, or"):
        wait_for(connection, CloudInitDone(), Deadline(10))


def test_one_that_takes_too_long_shows_its_stage_and_its_log(connection: Connection, run_folder: Path) -> None:
    (run_folder / "status.json").write_text(status("modules-final"))
    with pytest.raises(WaitTimeout) as caught:
        wait_for(connection, CloudInitDone(), LastLook(30))
    text = str(caught.value)
    assert "gave up waiting for cloud-init to be done" in text
    assert "last seen: it is in its stage modules-final\n---" in text
    assert "nginks" in text


# Logging in while the account is still in the making


def test_a_refused_login_is_tried_again_until_the_key_is_there(
    server: GuestServer, behaviour: Behaviour, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text(new_key_text())

    def make_the_account() -> None:
        if len(server.attempts) > 2:
            behaviour.keys.append(load_key(path))

    login = Login(USER, private_key=path)
    with connect(server.address, login, Deadline(20), on_wait=make_the_account, retry_refused=True) as connected:
        assert connected.alive
    assert server.connections >= 3
    assert server.most_open == 1


def test_one_that_stays_refused_says_so_and_how_often(server: GuestServer, login: Login) -> None:
    wrong = Login(USER, password="wrong")
    with pytest.raises(LoginRefused, match=r"refused to log in 'vagrant', \d+ times; tried password") as caught:
        connect(server.address, wrong, Until(lambda: len(server.attempts) >= 3), retry_refused=True)
    assert caught.value.tries >= 2
    assert isinstance(caught.value.__cause__, GuestUnreachable)
    assert login.user == USER


@pytest.mark.slow
def test_a_refusal_is_the_reason_though_the_guest_is_silent_at_the_end(
    server: GuestServer, behaviour: Behaviour
) -> None:
    def then_silence() -> None:
        if server.attempts:
            behaviour.connections = ["reset"] * 100

    wrong, deadline = Login(USER, password="wrong"), Until(lambda: server.connections > 3)
    with pytest.raises(LoginRefused):
        connect(server.address, wrong, deadline, on_wait=then_silence, retry_refused=True)
    assert len(server.attempts) < 3
