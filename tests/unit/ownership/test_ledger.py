"""The ledger: written before a thing exists, struck after it is gone, read by others when its process died."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from pytest_vbox.ownership import (
    Busy,
    Entry,
    Ledger,
    ReaperUnavailable,
    abandoned,
    names_written_down,
    remove_ended_runs,
)

ONE = Entry("id-1", "pytest-one", "here:/home/me", "test_a.py::test_one", "2026-01-01T00:00:00+00:00")
TWO = Entry("id-2", "pytest-zwei-ü", "there:/home/me")
LEAVE = """
import sys
from pathlib import Path
from pytest_vbox.ownership import Entry, Ledger
ledger = Ledger(Path(sys.argv[1]), "run-1")
ledger.add(Entry("id-1", "one", "here"))
ledger.add(Entry("id-2", "two", "there"))
ledger.strike("id-2")
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, "run-1")


def _files(state: Path) -> list[Path]:
    return sorted((state / "runs").glob("*/*.json"))


def _leave(state: Path, *entries: Entry) -> Path:
    """A ledger that was given up with entries in it."""
    _leave_in(state, *entries)
    (path,) = _files(state)
    return path


def _leave_in(state: Path, *entries: Entry) -> None:
    left = Ledger(state, "run-0")
    left.add(*entries)
    left.close()


def _seen(state: Path) -> list[list[str]]:
    with abandoned(state) as found:
        return [[entry.id for entry in left.entries] for left in found]


# One's own


def test_an_entry_is_on_the_disk_when_it_was_added(tmp_path: Path, ledger: Ledger) -> None:
    assert _files(tmp_path) == []
    ledger.add(ONE)
    ledger.add(TWO)
    (path,) = _files(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["run"], document["process"]["pid"]) == ("run-1", os.getpid())
    assert [entry["id"] for entry in document["entries"]] == ["id-1", "id-2"]
    assert document["entries"][0] == {
        "id": "id-1",
        "name": "pytest-one",
        "host": "here:/home/me",
        "test": "test_a.py::test_one",
        "since": "2026-01-01T00:00:00+00:00",
        "kind": "machine",
        "ports": [],
    }


def test_an_entry_without_a_time_gets_the_present_one(ledger: Ledger) -> None:
    ledger.add(TWO)
    (entry,) = ledger.entries
    assert datetime.now(UTC) - datetime.fromisoformat(entry.since) < timedelta(minutes=1)
    assert (entry.id, entry.name, entry.host) == (TWO.id, TWO.name, TWO.host)


def test_a_struck_entry_is_gone_from_the_disk(tmp_path: Path, ledger: Ledger) -> None:
    ledger.add(ONE)
    ledger.add(TWO)
    ledger.strike("id-1")
    ledger.strike("never-there")
    assert [entry.id for entry in ledger.entries] == ["id-2"]
    (path,) = _files(tmp_path)
    assert "pytest-one" not in path.read_text(encoding="utf-8")


def test_adding_again_replaces(ledger: Ledger) -> None:
    ledger.add(ONE)
    ledger.add(Entry("id-1", "renamed", "here", since="now"))
    assert [entry.name for entry in ledger.entries] == ["renamed"]


@pytest.mark.parametrize("use", [lambda _: None, lambda ledger: (ledger.add(ONE), ledger.strike("id-1"))])
def test_an_empty_ledger_leaves_nothing_behind(
    tmp_path: Path, ledger: Ledger, use: Callable[[Ledger], object]
) -> None:
    use(ledger)
    ledger.close()
    assert list((tmp_path / "runs").iterdir()) == []


def test_threads_may_write_at_once(tmp_path: Path, ledger: Ledger) -> None:
    def work(number: int) -> None:
        ledger.add(Entry(f"id-{number}", "x", "here"))
        if number % 2:
            ledger.strike(f"id-{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(20)))
    assert {entry.id for entry in ledger.entries} == {f"id-{number}" for number in range(0, 20, 2)}
    (path,) = _files(tmp_path)
    assert len(json.loads(path.read_text(encoding="utf-8"))["entries"]) == 10


# Those of the dead


def test_the_living_are_left_alone(tmp_path: Path, ledger: Ledger) -> None:
    ledger.add(ONE)
    assert _seen(tmp_path) == []


def test_what_a_killed_process_made_is_found_and_what_it_removed_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        assert _seen(tmp_path) == []
        process.kill()
    assert _seen(tmp_path) == [["id-1"]]


def test_a_ledger_that_was_closed_with_entries_is_for_others_to_clean_up(tmp_path: Path) -> None:
    _leave(tmp_path, ONE, TWO)
    with abandoned(tmp_path) as (left,):
        assert left.entries == [ONE, left.entries[1]]


def test_only_one_cleans_up_at_a_time(tmp_path: Path) -> None:
    _leave(tmp_path, ONE)
    with abandoned(tmp_path) as first:
        assert len(first) == 1
        assert _seen(tmp_path) == []
    assert _seen(tmp_path) == [["id-1"]]


def test_struck_entries_are_gone_and_with_the_last_one_the_ledger(tmp_path: Path) -> None:
    _leave(tmp_path, ONE, TWO)
    with abandoned(tmp_path) as (left,):
        left.strike(ONE)
    assert _seen(tmp_path) == [["id-2"]]
    with abandoned(tmp_path) as (left,):
        left.strike(left.entries[0])
    assert _seen(tmp_path) == []
    assert list((tmp_path / "runs").iterdir()) == []


def test_what_is_left_after_a_strike_is_all_that_the_dead_process_wrote(tmp_path: Path, ledger: Ledger) -> None:
    ledger.logged_on("session-1")
    ledger.locks_with("object-1")
    ledger.add(ONE, TWO)
    written = json.loads(ledger.path.read_text(encoding="utf-8"))
    ledger.close()
    with abandoned(tmp_path) as (left,):
        left.strike(ONE)
    del written["entries"][0]
    assert json.loads(ledger.path.read_text(encoding="utf-8")) == written


def test_an_error_while_cleaning_up_lets_the_next_one_try(tmp_path: Path) -> None:
    _leave(tmp_path, ONE)
    with pytest.raises(ZeroDivisionError), abandoned(tmp_path):
        raise ZeroDivisionError
    assert _seen(tmp_path) == [["id-1"]]


def _damage(path: Path, damage: Callable[[str], str]) -> None:
    """Leave another ledger, with what one has in it, damaged."""
    damaged = path.with_name("0-damaged.json")
    damaged.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    damaged.with_suffix(".lock").touch()


@pytest.mark.parametrize("damage", [lambda _: "", lambda text: text[: len(text) // 2], lambda _: "\0\0\0\0"])
def test_a_torn_ledger_has_nothing_in_it_and_harms_no_other(tmp_path: Path, damage: Callable[[str], str]) -> None:
    _damage(_leave(tmp_path, ONE), damage)
    assert _seen(tmp_path) == [[], ["id-1"]]
    with abandoned(tmp_path) as found:
        assert [left.unreadable for left in found] == ["", ""]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "[1, 2]",
        lambda _: "null",
        lambda text: text.replace('"format": 2', '"format": 3'),
        lambda text: text.replace('"entries"', '"things"'),
        lambda text: text.replace('"name"', '"nombre"'),
        lambda text: text.replace('"machine"', '"network"'),
        lambda _: '{"format": 2, "entries": [7]}',
        lambda _: '{"format": 2, "entries": 7}',
        lambda _: "[" * 100_000 + "]" * 100_000,
    ],
)
def test_a_ledger_that_another_version_wrote_is_told_from_an_empty_one_and_harms_no_other(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    _damage(_leave(tmp_path, ONE), damage)
    assert _seen(tmp_path) == [[], ["id-1"]]
    with abandoned(tmp_path) as (unreadable, whole):
        assert (unreadable.unreadable != "", whole.unreadable) == (True, "")


@pytest.fixture
def broken_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ledger can be read."""
    real = Path.read_text

    def read_text(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path.suffix == ".json":
            raise OSError(errno.EIO, "input/output error")
        return real(path, encoding, errors)

    monkeypatch.setattr(Path, "read_text", read_text)


def test_a_ledger_that_cannot_be_read_just_now_is_told_from_an_empty_one(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _leave(tmp_path, ONE)
    request.getfixturevalue("broken_disk")
    with abandoned(tmp_path) as (left,):
        assert "input/output error" in left.unreadable


def test_half_of_a_new_ledger_is_not_read(tmp_path: Path) -> None:
    # A process that died while it wrote has left the whole old one, and a file of another name.
    path = _leave(tmp_path, ONE)
    path.with_suffix(".new").write_text("{")
    assert _seen(tmp_path) == [["id-1"]]


def test_where_a_crash_of_the_system_tore_a_ledger_its_successor_is_read(tmp_path: Path) -> None:
    path = _leave(tmp_path, ONE)
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.write_bytes(b"\0" * 100)
    assert _seen(tmp_path) == [["id-1"]]


def test_the_session_and_the_ports_are_written_down_with_what_is_there(tmp_path: Path, ledger: Ledger) -> None:
    ledger.logged_on("session-1")
    assert _files(tmp_path) == []
    ledger.add(ONE)
    ledger.ports("id-1", (20123, 20124))
    ledger.ports("never-there", (1,))
    ledger.locks_with("object-1")
    (path,) = _files(tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["session"] == "session-1"
    ledger.close()
    with abandoned(tmp_path) as (left,):
        assert (left.session, left.entries[0].ports, left.run) == ("session-1", (20123, 20124), "run-1")
        assert left.session_objects == ["object-1"]


def test_what_machines_are_locked_with_is_written_down_at_once_and_belongs_to_one_session(
    tmp_path: Path, ledger: Ledger
) -> None:
    ledger.logged_on("session-1")
    ledger.locks_with("object-1")
    (path,) = _files(tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["session_objects"] == ["object-1"]
    ledger.logged_on("session-2")
    ledger.locks_with("object-2")
    assert json.loads(path.read_text(encoding="utf-8"))["session_objects"] == ["object-2"]
    ledger.close()
    assert _files(tmp_path) == []


def test_what_cannot_be_written_down_is_not_there(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add(ONE)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            ledger.add(TWO)
        ledger.locks_with("object-1")  # without which nothing could be removed; it is written with what comes next
    assert [entry.id for entry in ledger.entries] == ["id-1"]
    ledger.ports("id-1", (20123,))
    ledger.close()
    assert _seen(tmp_path) == [["id-1"]]
    with abandoned(tmp_path) as (left,):
        assert left.session_objects == ["object-1"]


def test_nothing_is_written_down_before_somebody_watches(tmp_path: Path, ledger: Ledger) -> None:
    def nobody() -> None:
        raise ReaperUnavailable("nobody there")

    ledger.before_add = nobody
    with pytest.raises(ReaperUnavailable):
        ledger.add(ONE)
    assert _files(tmp_path) == []


def test_workers_of_a_run_share_a_folder(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path, "run-1"), Ledger(tmp_path, "run-1")
    first.add(ONE)
    first.close()
    second.close()
    (path,) = _files(tmp_path)
    assert path.parent.name == "run-1"
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, path.with_suffix(".lock").name]


@pytest.mark.usefixtures("ledger")
def test_the_folder_of_a_run_whose_reaper_was_killed_goes_but_not_that_of_the_living(tmp_path: Path) -> None:
    dead = tmp_path / "runs" / "dead"
    dead.mkdir(parents=True)
    for name in ("reaper.json", "reaper.sock", "reaper.lock"):
        (dead / name).touch()
    starting = tmp_path / "runs" / "starting"
    starting.mkdir()
    with FileLock(starting / "reaper.lock"):
        remove_ended_runs(tmp_path)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["run-1", "starting"]


def test_the_names_in_all_ledgers_are_known_of_the_living_and_of_the_dead(tmp_path: Path, ledger: Ledger) -> None:
    assert names_written_down(tmp_path) == frozenset()
    ledger.add(ONE)
    _leave_in(tmp_path, TWO)
    assert names_written_down(tmp_path) == {ONE.name, TWO.name}


def test_of_a_ledger_that_another_version_wrote_every_text_may_be_a_name(tmp_path: Path) -> None:
    _damage(_leave(tmp_path, TWO), lambda _: json.dumps({"format": 3, 'a "quoted" \\': {"machine": [ONE.name]}}))
    assert ONE.name in names_written_down(tmp_path)


def test_where_a_ledger_cannot_be_read_nobody_takes_its_names_for_unknown(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _leave(tmp_path, ONE)
    request.getfixturevalue("broken_disk")
    with pytest.raises(Busy, match="input/output error"):
        names_written_down(tmp_path)


# Several at once


def test_the_folder_of_a_run_may_go_while_somebody_looks_for_ledgers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave(tmp_path, ONE)
    ending = tmp_path / "runs" / "a-run-that-ends"
    real = os.scandir

    def scandir(folder: Path) -> Iterator[os.DirEntry[str]]:
        if Path(folder) == ending:
            ending.rmdir()
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    ending.mkdir()
    assert _seen(tmp_path) == [["id-1"]]
    ending.mkdir()
    assert names_written_down(tmp_path) == {ONE.name}
    ending.mkdir()
    remove_ended_runs(tmp_path)
    assert not ending.exists()


@pytest.mark.parametrize(
    ("where", "what", "error"),
    [
        (Path, "mkdir", FileNotFoundError()),
        (Path, "mkdir", FileExistsError()),
        (FileLock, "acquire", FileNotFoundError()),
        (FileLock, "acquire", Timeout("its.lock")),
    ],
)
def test_a_ledger_can_be_made_while_others_look_and_tidy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: type, what: str, error: Exception
) -> None:
    real, errors = getattr(where, what), [error, error]

    def fails_twice(*args: object, **kwargs: object) -> object:
        if errors:
            raise errors.pop()
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(where, what, fails_twice)
        ledger = Ledger(tmp_path, "run-1")
    ledger.add(ONE)
    assert _seen(tmp_path) == []
    ledger.close()
    assert _seen(tmp_path) == [["id-1"]]


def test_whoever_looks_does_not_keep_the_lock_of_a_ledger_that_is_just_being_made(tmp_path: Path) -> None:
    lock = tmp_path / "runs" / "run-1" / "1-new.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with abandoned(tmp_path) as found, FileLock(lock, timeout=0):
        assert found == []


def test_without_any_ledger_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert _seen(tmp_path / "new") == []
