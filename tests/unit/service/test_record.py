"""What is written down of the private service, and who uses it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pytest_vbox.ownership import ProcessId
from pytest_vbox.service.record import Lease, Record, in_use

PROGRAM = "import sys; from pathlib import Path; from pytest_vbox.service.record import Lease\n"
HOLD = PROGRAM + "lease = Lease(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def record() -> Record:
    me = ProcessId.mine()
    return Record(url="http://127.0.0.1:20000", user="pytest-vbox", password="hush", keeper=me, service=me)


def _mine(**changes: object) -> dict[str, object]:
    return ProcessId.mine().to_json() | changes


def _only_file(state: Path) -> Path:
    (path,) = (path for path in state.iterdir() if path.is_file())
    return path


def test_what_was_written_is_read(tmp_path: Path, record: Record) -> None:
    assert Record.read(tmp_path) is None
    record.write(tmp_path)
    assert Record.read(tmp_path) == record
    Record.erase(tmp_path)
    assert Record.read(tmp_path) is None
    Record.erase(tmp_path)


def test_writing_again_replaces_and_leaves_nothing_else(tmp_path: Path, record: Record) -> None:
    record.write(tmp_path)
    other = replace(record, password="psst")
    other.write(tmp_path)
    assert Record.read(tmp_path) == other
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name != "posix", reason="has no modes")
def test_only_the_user_may_read_the_password(tmp_path: Path, record: Record) -> None:
    before = os.umask(0)
    try:
        record.write(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(_only_file(tmp_path).stat().st_mode) == 0o600


def test_the_password_is_not_shown(record: Record) -> None:
    assert "hush" not in repr(record)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "null",
        lambda _: "\0" * 50,
        lambda text: text.replace("url", "address"),
        lambda text: text.replace("http://127.0.0.1:20000", "http://127.0.0.1"),
        lambda text: text.replace("http://127.0.0.1:20000", "http://127.0.0.1:soon"),
        lambda text: json.dumps(json.loads(text) | {"url": 5}),
        lambda text: json.dumps(json.loads(text) | {"keeper": _mine(pid="one")}),
        lambda text: json.dumps(json.loads(text) | {"service": {"pid": 1}}),
        lambda text: json.dumps(json.loads(text) | {"service": 7}),
        lambda text: json.dumps(json.loads(text) | {"keeper": _mine(pid=float("inf"))}),
        lambda text: json.dumps(json.loads(text) | {"keeper": _mine(pid=10**4000, started=10**4000)}),
        lambda text: json.dumps(json.loads(text) | {"keeper": _mine(pid=-1)}),
        lambda text: json.dumps(json.loads(text) | {"keeper": _mine(pid=2**40)}),
        lambda text: json.dumps(json.loads(text) | {"user": None}),
        lambda text: json.dumps(json.loads(text) | {"ready": "yes"}),
        lambda _: "[" * 100_000,
    ],
)
def test_a_record_that_makes_no_sense_is_none(
    tmp_path: Path, record: Record, damage: Callable[[str], str]
) -> None:
    record.write(tmp_path)
    path = _only_file(tmp_path)
    path.write_text(damage(path.read_text()))
    assert Record.read(tmp_path) is None


# Leases


def test_a_lease_keeps_the_service_in_use_until_it_is_released(tmp_path: Path) -> None:
    assert not in_use(tmp_path)
    first, second = Lease(tmp_path), Lease(tmp_path)
    assert in_use(tmp_path)
    first.release()
    assert in_use(tmp_path)
    second.release()
    assert not in_use(tmp_path)
    second.release()


def test_the_lease_of_a_dead_process_counts_no_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert in_use(tmp_path)
        child.kill()
    assert not in_use(tmp_path)
    assert list(tmp_path.glob("leases/*")) == []


@pytest.mark.slow
def test_leases_are_not_swept_away_while_they_are_made(tmp_path: Path) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            in_use(tmp_path)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(100):
            lease = Lease(tmp_path)
            assert in_use(tmp_path)
            lease.release()
    finally:
        done.set()
        sweeper.join()


def test_the_record_is_plain_json(tmp_path: Path, record: Record) -> None:
    record.write(tmp_path)
    assert json.loads(_only_file(tmp_path).read_text()) == asdict(record)
