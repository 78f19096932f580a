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
            pass
    assert {path.name for path in tmp_path.iterdir()} == {"state"}
    assert len(list((folder / "locks").iterdir())) == len(NAMES)


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


def test_a_port_that_something_else_listens_on_is_not_chosen(tmp_path: Path, few_ports: range) -> None:
    with socket.create_server(("127.0.0.1", few_ports[0])):
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


def test_ports_are_below_those_that_systems_hand_out_by_themselves(tmp_path: Path) -> None:
    # Linux starts at 32768, macOS and Windows at 49152; below 1024 one must be root.
    reserved = [reserve_port(tmp_path) for _ in range(20)]
    assert len({lock.port for lock in reserved}) == 20
    assert all(1024 < lock.port < 32768 for lock in reserved)
