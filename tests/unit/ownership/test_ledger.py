"""The ledger: written before a thing exists, struck after it is gone, read by others when its process died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pytest_vbox.ownership import Entry, Ledger, abandoned

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
    return sorted((state / "ledgers").glob("*.json"))


def _leave(state: Path, *entries: Entry) -> Path:
    """A ledger that was given up with entries in it."""
    left = Ledger(state, "run-0")
    for entry in entries:
        left.add(entry)
    (path,) = _files(state)
    left.close()
    return path


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
    assert (document["run"], document["pid"]) == ("run-1", os.getpid())
    assert [entry["id"] for entry in document["machines"]] == ["id-1", "id-2"]
    assert document["machines"][0] == {
        "id": "id-1",
        "name": "pytest-one",
        "host": "here:/home/me",
        "test": "test_a.py::test_one",
        "since": "2026-01-01T00:00:00+00:00",
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
    assert list((tmp_path / "ledgers").iterdir()) == []


def test_threads_may_write_at_once(tmp_path: Path, ledger: Ledger) -> None:
    def work(number: int) -> None:
        ledger.add(Entry(f"id-{number}", "x", "here"))
        if number % 2:
            ledger.strike(f"id-{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(20)))
    assert {entry.id for entry in ledger.entries} == {f"id-{number}" for number in range(0, 20, 2)}
    (path,) = _files(tmp_path)
    assert len(json.loads(path.read_text(encoding="utf-8"))["machines"]) == 10


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
    assert list((tmp_path / "ledgers").iterdir()) == []


def test_an_error_while_cleaning_up_lets_the_next_one_try(tmp_path: Path) -> None:
    _leave(tmp_path, ONE)
    with pytest.raises(ZeroDivisionError), abandoned(tmp_path):
        raise ZeroDivisionError
    assert _seen(tmp_path) == [["id-1"]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda _: "[1, 2]",
        lambda _: "null",
        lambda _: "\0\0\0\0",
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"machines"', '"things"'),
        lambda text: text.replace('"name"', '"nombre"'),
        lambda _: '{"format": 1, "machines": [7]}',
        lambda _: '{"format": 1, "machines": 7}',
    ],
)
def test_a_ledger_that_makes_no_sense_has_nothing_in_it_and_harms_no_other(
    tmp_path: Path, damage: Callable[[str], str]
) -> None:
    path = _leave(tmp_path, ONE)
    damaged = path.with_name("0-damaged.json")
    damaged.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert _seen(tmp_path) == [[], ["id-1"]]


def test_half_of_a_new_ledger_is_not_read(tmp_path: Path) -> None:
    # A process that died while it wrote has left the whole old one, and a file of another name.
    path = _leave(tmp_path, ONE)
    path.with_suffix(".new").write_text("{")
    assert _seen(tmp_path) == [["id-1"]]


def test_without_any_ledger_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert _seen(tmp_path / "new") == []
