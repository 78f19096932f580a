"""Locks and ports that hold over all processes of a user, and come back when one dies."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import Busy, held, locks, reserve_port

pytestmark = pytest.mark.slow

HOLD = """
import sys
from pathlib import Path
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import held
with held(Path(sys.argv[1]), sys.argv[2], Deadline(10)):
    print("held", flush=True)
    sys.stdin.read()
"""
RESERVE = """
import sys
from pathlib import Path
from pytest_vbox.ownership import locks
locks._PORTS = range(int(sys.argv[2]), int(sys.argv[2]) + 4)
locks._TRIES = 4
ports = [locks.reserve_port(Path(sys.argv[1])) for _ in range(2)]
print(*(port.port for port in ports), flush=True)
sys.stdin.read()
"""
COUNT = """
import sys
from pathlib import Path
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import held
state, number = map(Path, sys.argv[1:])
for _ in range(100):
    with held(state, "number", Deadline(30)):
        number.write_text(str(int(number.read_text()) + 1))
"""
RESERVE_OFTEN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pytest_vbox.ownership import locks
locks._PORTS = range(int(sys.argv[3]), int(sys.argv[3]) + 64)
locks._TRIES = 64
def reserve(_):
    port = locks.reserve_port(Path(sys.argv[1]))
    mark = Path(sys.argv[2], str(port.port))
    mark.touch(exist_ok=False)
    mark.unlink()
    port.release()
with ThreadPoolExecutor(8) as threads:
    list(threads.map(reserve, range(120)))
"""
NAMES = [
    "service",
    "base /home/me/images/ubuntu 12.04 (64).vdi",
    "base C:\\Images\\x.vdi",
    "",
    "..",
    "../../escape",
    "a\0b\nc",
    "ü🦆",
    "x" * 5000,
    "%s{}$HOME",
]


@contextmanager
def _other_process(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that goes on until the block ends, and the first line it says."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process, process.stdout.readline()
        process.stdin.close()


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    inside = threading.Lock()

    def enter(_: int) -> bool:
        with held(tmp_path, "one", Deadline(10)):
            alone = inside.acquire(blocking=False)
            inside.release()
        return alone

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(enter, range(8)))


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_who_waits_in_vain_is_told_for_what(tmp_path: Path, seconds: float) -> None:
    with held(tmp_path, "one", Deadline(10)):
        with pytest.raises(Busy, match=r"^one: another process held the lock .*one\.lock for \d+ s$"):
            held(tmp_path, "one", Deadline(seconds)).__enter__()
        with held(tmp_path, "two", Deadline(0)):
            pass


def test_an_expired_deadline_is_enough_for_a_free_lock(tmp_path: Path) -> None:
    with held(tmp_path, "one", Deadline(0)):
        pass


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path, "one", Deadline(0)):
        raise ZeroDivisionError
    with held(tmp_path, "one", Deadline(0)):
        pass


def test_another_process_holds_it_too_until_it_is_killed(tmp_path: Path) -> None:
    with _other_process(HOLD, str(tmp_path), "the base") as (process, said):
        assert said == "held\n"
        with pytest.raises(Busy), held(tmp_path, "the base", Deadline(0)):
            raise AssertionError("two at once")
        process.kill()
        with held(tmp_path, "the base", Deadline(10)):
            pass


def test_any_text_is_a_name_and_no_two_are_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for index, name in enumerate(NAMES):
        with held(folder, name, Deadline(0)), held(folder, NAMES[index - 1], Deadline(0)):
            assert {path.name for path in tmp_path.iterdir()} == {"state"}
            assert len(_files(folder / "locks")) == 2


def test_a_lock_that_was_given_back_leaves_no_file(tmp_path: Path) -> None:
    with held(tmp_path, "one", Deadline(0)):
        assert _files(tmp_path / "locks") == {"one.lock"}
    assert _files(tmp_path / "locks") == set()


def test_locks_whose_files_come_and_go_keep_processes_apart(tmp_path: Path) -> None:
    """Each adds one to a number in a file, which loses some as soon as two hold the lock at once."""
    number = tmp_path / "number"
    number.write_text("0")
    workers = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path), str(number)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [worker.wait(30) for worker in workers] == [0] * 4
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.close()
    assert number.read_text() == "400"
    assert _files(tmp_path / "locks") == set()


def test_files_of_the_dead_are_swept_away_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_swept", set())
    folder = tmp_path / "locks"
    folder.mkdir()
    for name in ("base 1", "base 2", "capacity"):
        (folder / f"{name}.lock").touch()
    (folder / "notes.txt").touch()
    with _other_process(HOLD, str(tmp_path), "golden") as (process, said):
        assert said == "held\n"
        with held(tmp_path, "one", Deadline(0)):
            assert _files(folder) == {"capacity.lock", "golden.lock", "notes.txt", "one.lock"}
        process.kill()
        process.wait()
    monkeypatch.setattr(locks, "_swept", set())
    with held(tmp_path, "one", Deadline(0)):
        assert _files(folder) == {"capacity.lock", "notes.txt", "one.lock"}


def _files(folder: Path) -> set[str]:
    """What is in a folder of locks, but for the folder's own."""
    return {path.name for path in folder.iterdir()} - {".lock"}


# Ports


@pytest.fixture
def few_ports(monkeypatch: pytest.MonkeyPatch) -> range:
    """Let there be only four ports to choose from, all of them free now."""
    for first in range(20000, 30000, 4):
        ports = range(first, first + 4)
        if all(map(_is_free, ports)):
            monkeypatch.setattr(locks, "_PORTS", ports)
            monkeypatch.setattr(locks, "_TRIES", 4)
            return ports
    raise AssertionError("no ports on this computer")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_reserved_port_is_free_and_nobody_elses(tmp_path: Path, few_ports: range) -> None:
    reserved = [reserve_port(tmp_path) for _ in few_ports]
    assert sorted(lock.port for lock in reserved) == list(few_ports)
    for lock in reserved:
        with socket.create_server(("127.0.0.1", lock.port)):
            pass
    with pytest.raises(Busy, match=r"no free port on 127\.0\.0\.1 among 4 tried between"):
        reserve_port(tmp_path)
    reserved[2].release()
    assert reserve_port(tmp_path).port == reserved[2].port


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_something_else_listens_on_is_not_chosen(
    kind: socket.SocketKind, tmp_path: Path, few_ports: range
) -> None:
    with socket.socket(type=kind) as other:
        other.bind(("127.0.0.1", few_ports[0]))
        reserved = [reserve_port(tmp_path) for _ in few_ports[1:]]
        with pytest.raises(Busy):
            reserve_port(tmp_path)
    assert few_ports[0] not in [lock.port for lock in reserved]


def test_processes_do_not_choose_the_same_port(tmp_path: Path, few_ports: range) -> None:
    with _other_process(RESERVE, str(tmp_path), str(few_ports[0])) as (process, said):
        ours = [reserve_port(tmp_path) for _ in range(2)]
        theirs = [int(word) for word in said.split()]
        assert sorted([*(lock.port for lock in ours), *theirs]) == list(few_ports)
        with pytest.raises(Busy):
            reserve_port(tmp_path)
        process.kill()
        process.wait()
        # What a dead process had is free again.
        assert reserve_port(tmp_path).port in theirs


def test_a_port_may_be_released_by_another_thread_and_leaves_no_file(tmp_path: Path, few_ports: range) -> None:
    with ThreadPoolExecutor(1) as thread:
        reserved = [thread.submit(reserve_port, tmp_path).result() for _ in few_ports]
    for lock in reserved:
        lock.release()
        lock.release()
    assert _files(tmp_path / "ports") == set()
    again = [reserve_port(tmp_path) for _ in few_ports]
    assert sorted(lock.port for lock in again) == list(few_ports)


def test_threads_of_several_processes_never_get_the_same_port(tmp_path: Path) -> None:
    first = next(port for port in range(20000, 30000, 64) if all(map(_is_free, range(port, port + 64))))
    marks = tmp_path / "marks"
    marks.mkdir()
    command = [sys.executable, "-c", RESERVE_OFTEN, str(tmp_path), str(marks), str(first)]
    runs = [subprocess.Popen(command) for _ in range(3)]
    assert [run.wait(30) for run in runs] == [0] * 3
    assert _files(tmp_path / "ports") == set()


def test_port_files_of_the_dead_are_swept_away(
    tmp_path: Path, few_ports: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_swept", set())
    folder = tmp_path / "ports"
    folder.mkdir()
    for port in range(1000, 1080):
        (folder / f"{port}.lock").touch()
    with _other_process(RESERVE, str(tmp_path), str(few_ports[0])) as (_, said):
        ours = reserve_port(tmp_path)
        assert _files(folder) == {f"{port}.lock" for port in (ours.port, *map(int, said.split()))}


def test_ports_are_below_those_that_systems_hand_out_by_themselves(tmp_path: Path) -> None:
    # Linux starts at 32768, macOS and Windows at 49152; below 1024 one must be root.
    reserved = [reserve_port(tmp_path) for _ in range(20)]
    assert len({lock.port for lock in reserved}) == 20
    assert all(1024 < lock.port < 32768 for lock in reserved)
