"""The count of machines over workers and runs: limits, order, the dead, and no waiting without end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import Busy, Capacity, CapacityExceeded, Limits, Place

Make = Callable[..., Capacity]

# Takes places as its first argument says, tells so, and waits until its input ends.
HOLDER = """
import sys
from pathlib import Path
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import Capacity, CapacityExceeded, Limits

capacity = Capacity(Path(sys.argv[1]), "host", Limits(int(sys.argv[2]), 1000, 9), "other")
for line in sys.stdin:
    try:
        place = capacity.take(line.strip(), 10, Deadline(20), test=f"the test of {line.strip()}")
        print("took", line.strip(), flush=True)
    except CapacityExceeded as error:
        print("refused", error, flush=True)
capacity.close()
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Capacity] = []

    def capacity(machines: int = 2, memory: int = 1000, starting: int = 9) -> Capacity:
        made.append(Capacity(tmp_path, "host", Limits(machines, memory, starting), "run"))
        return made[-1]

    yield capacity
    for capacity_ in made:
        capacity_.close()
    assert {path.suffix for path in (tmp_path / "capacity").iterdir()} <= {".json", ".lock"}


class Other:
    """Another process."""

    def __init__(self, state: Path, machines: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(state), str(machines)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    process = Other(tmp_path, 2)
    yield process
    process.end()


def take(capacity: Capacity, name: str = "m", memory: int = 10, seconds: float = 10, test: str = "") -> Place:
    return capacity.take(name, memory, Deadline(seconds), test=test)


# Limits


def test_the_default_follows_memory_and_cores() -> None:
    assert Limits.of(10_000, 2, None) == Limits(8, 8000, 2)
    assert Limits.of(10_000, 1, None) == Limits(4, 8000, 1)
    assert Limits.of(10_000, 8, 3) == Limits(3, 8000, 8)


@pytest.mark.parametrize(
    ("limits", "memory"), [((2, 1000, 9), 10), ((9, 1000, 9), 500), ((9, 1000, 2), 10)], ids=["many", "big", "new"]
)
def test_a_request_waits_until_there_is_room(make: Make, limits: tuple[int, int, int], memory: int) -> None:
    capacity = make(*limits)
    with ThreadPoolExecutor() as threads:  # two of somebody else's
        first, second = (threads.submit(take, capacity, memory=memory).result() for _ in range(2))
    assert capacity.try_take("m", memory) is None
    waited: list[int] = []
    threading.Timer(0.05, first.release).start()
    third = capacity.take("m", memory, Deadline(10), on_wait=lambda: waited.append(1))
    assert waited == [1]
    for place in (second, third, third):
        place.release()
    assert capacity.try_take("m", memory) is not None


def test_one_that_has_started_makes_room_for_the_next_to_start(make: Make) -> None:
    capacity = make(9, 1000, 1)
    first = take(capacity)
    assert capacity.try_take("m", 1) is None
    first.started()
    assert capacity.try_take("m", 1) is not None


def test_there_is_an_end_to_waiting_and_it_says_who_holds_what(make: Make) -> None:
    capacity = make(1)
    with ThreadPoolExecutor() as threads:
        threads.submit(take, capacity, "the-other").result()
    with pytest.raises(Busy, match=r"no room for m within 0 s; there are: the-other"):
        take(capacity, seconds=0.01)
    assert not capacity.wanted


# Never


def test_more_than_is_allowed_is_refused_at_once_with_what_is_held(make: Make) -> None:
    capacity = make(2)
    take(capacity, "one")
    take(capacity, "two")
    with pytest.raises(
        CapacityExceeded,
        match=r"t\.py::test_three asks for one more machine, and at most 2 are allowed at once "
        r"\(--vbox-max-machines\): it holds one, two itself",
    ):
        take(capacity, "three", test="t.py::test_three")
    assert not capacity.wanted


def test_more_memory_than_there_is_is_refused_at_once(make: Make) -> None:
    capacity = make()
    with pytest.raises(
        CapacityExceeded, match="big needs 1001 MiB of memory, and all machines together may take 1000"
    ):
        take(capacity, "big", 1001)
    take(capacity, "one", 600)
    with pytest.raises(CapacityExceeded, match=r"asks for 500 MiB more.*it holds 600 MiB itself \(one\)"):
        take(capacity, "two", 500)


def test_what_is_spare_or_leaving_is_not_held_for_ever(make: Make) -> None:
    capacity = make(1)
    spare = capacity.try_take("spare", 10)
    assert spare is not None
    given_up: list[bool] = []

    def give_up() -> None:
        given_up.append(capacity.wanted)
        spare.release()

    first = capacity.take("one", 10, Deadline(10), on_wait=give_up)
    assert given_up == [True]
    first.leaving()
    threading.Timer(0.05, first.release).start()
    take(capacity, "two").release()
    other = capacity.try_take("three", 10)
    assert other is not None
    other.assign("a test")
    with pytest.raises(CapacityExceeded, match="it holds three itself"):
        take(capacity, "four")


def test_of_two_who_wait_for_each_other_the_last_to_ask_is_told(make: Make, other: Other) -> None:
    capacity = make(2)
    mine = take(capacity, "mine", test="my test")
    other.ask("theirs")
    assert other.hear() == "took theirs\n"
    other.ask("more")
    while not capacity.wanted:
        pass
    with pytest.raises(
        CapacityExceeded, match=r"the test of more holds theirs; my test holds mine|my test holds mine"
    ):
        take(capacity, "too-much", test="my test")
    mine.release()
    assert other.hear() == "took more\n"


# Order, and the dead


def test_requests_are_served_in_their_order_over_processes(make: Make, tmp_path: Path) -> None:
    capacity = make(1)
    first = take(capacity)
    others = [Other(tmp_path, 1) for _ in range(2)]
    try:
        for number, process in enumerate(others):
            process.ask(f"m{number}")
            while sum(entry.waiting for entry in capacity._read()) <= number:
                pass
        # Somebody who does not wait comes not before those who do.
        first.release()
        assert capacity.try_take("m", 1) is None
        assert others[0].hear() == "took m0\n"
        others[0].end()
        assert others[1].hear() == "took m1\n"
    finally:
        for process in others:
            process.end()


def test_what_a_killed_process_held_or_waited_for_counts_no_more(make: Make, other: Other) -> None:
    capacity = make(2)
    other.ask("a")
    other.ask("b")
    assert [other.hear(), other.hear()] == ["took a\n", "took b\n"]
    assert capacity.try_take("m", 1) is None
    other.process.kill()
    other.process.wait(10)
    take(capacity).release()


@pytest.mark.parametrize("content", ["", "{", '{"format": 2}', '{"format": 1, "machines": [{"x": 1}]}', "[]"])
def test_a_torn_file_is_written_anew(make: Make, tmp_path: Path, content: str) -> None:
    one, two = make(2), make(2)
    place = take(one)
    (file,) = (tmp_path / "capacity").glob("*.json")
    file.write_text(content)
    # Whoever comes next does not know of it, until its owner does anything.
    place.started()
    assert take(two) is not None
    assert two.try_take("m", 1) is None


def test_an_interrupted_wait_leaves_no_trace(make: Make) -> None:
    capacity = make(1)
    with ThreadPoolExecutor() as threads:
        threads.submit(take, capacity).result()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capacity.take("m", 1, Deadline(10), on_wait=interrupt)
    assert not capacity.wanted


def test_there_are_never_more_than_allowed(make: Make) -> None:
    participants = [make(3, 1000, 2) for _ in range(3)]
    there, most, mutex = [0], [0], threading.Lock()

    def one(number: int) -> None:
        place = participants[number % 3].take(f"m{number}", 10, Deadline(30))
        with mutex:
            there[0] += 1
            most[0] = max(most[0], there[0])
        place.started()
        with mutex:
            there[0] -= 1
        place.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(48)))
    assert 0 < most[0] <= 3
    assert participants[0]._read() == []


def test_a_closed_participant_gives_everything_back(make: Make, tmp_path: Path) -> None:
    capacity = Capacity(tmp_path, "host", Limits(1, 100, 1), "run")
    take(capacity)
    capacity.close()
    take(make(1)).release()
