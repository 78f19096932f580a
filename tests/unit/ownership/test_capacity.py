"""The count of machines: room for all workers and runs, in order, and an error instead of waiting for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import Busy, Capacity, CapacityExceeded, Limits, Place

pytestmark = pytest.mark.slow

HOST: Final = "here:/home/me"
TWO: Final = Limits(2, 3000, 2)
# Obeys one line after the other: "take NAME MEMORY", "release NAME", and so on; answers each with one line.
PUPPET: Final = """
import sys
from pathlib import Path
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import Capacity, CapacityExceeded, Limits
capacity = Capacity(Path(sys.argv[1]), sys.argv[2], Limits(*map(int, sys.argv[3:6])), "run-puppet")
places = {}
print("ready", flush=True)
for line in sys.stdin:
    verb, *words = line.split()
    answer = "done"
    try:
        if verb == "take":
            said = []
            def wait():
                if not said:
                    said.append(print("waiting", flush=True))
            test = "test_" + words[0]
            places[words[0]] = capacity.take(words[0], int(words[1]), Deadline(20), test=test, on_wait=wait)
        elif verb == "wanted":
            answer = str(capacity.wanted)
        else:
            getattr(places[words[0]], verb)()
    except CapacityExceeded as error:
        answer = "exceeded: " + str(error).replace(chr(10), " / ")
    print(answer, flush=True)
capacity.close()
"""
# Takes places in eight threads and counts them by files in a folder of its own making.
HAMMER: Final = """
import os, sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import Capacity, Limits
state, inside, rounds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
capacity = Capacity(state, "here", Limits(3, 1000, 2), "run")
def work(number):
    for turn in range(rounds):
        name = f"{os.getpid()}-{number}-{turn}"
        place = capacity.take(name, 300, Deadline(50))
        mark = inside / (name + ".starting")
        mark.touch()
        seen = [path.suffix for path in inside.iterdir()]
        assert len(seen) <= 3, seen
        assert seen.count(".starting") <= 2, seen
        mark.rename(inside / (name + ".on"))
        place.started()
        (inside / (name + ".on")).unlink()
        place.release()
with ThreadPoolExecutor(8) as threads:
    list(threads.map(work, range(8)))
capacity.close()
print("fine")
"""


class Puppet:
    """Another process that is a participant."""

    def __init__(self, state: Path, limits: Limits = TWO) -> None:
        numbers = [str(number) for number in (limits.machines, limits.memory, limits.starting)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUPPET, str(state), HOST, *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def do(self, order: str) -> str:
        self.tell(order)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        with self.process:
            pass


class Bench:
    """Makes participants and threads, and ends them with the test."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.exits = ExitStack()

    def capacity(self, limits: Limits = TWO, host: str = HOST) -> Capacity:
        capacity = Capacity(self.state, host, limits, "run-1")
        self.exits.callback(capacity.close)
        return capacity

    def puppet(self, limits: Limits = TWO) -> Puppet:
        puppet = Puppet(self.state, limits)
        self.exits.callback(puppet.close)
        return puppet

    def thread(self) -> Thread:
        thread = Thread()
        self.exits.callback(thread.threads.shutdown)
        return thread


class Thread:
    """One thread, that is to say one claimant."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(1)

    def take(
        self, capacity: Capacity, name: str, memory: int = 1, *, seconds: float = 20, test: str = ""
    ) -> Future[Place]:
        """Ask for a place; a test named like the machine, by default."""
        return self.threads.submit(capacity.take, name, memory, Deadline(seconds), test=test or f"test_{name}")

    def wait(self, capacity: Capacity, name: str, memory: int = 1) -> Future[Place]:
        """Ask for a place that is not there; returns when the request is in the queue."""
        waits = threading.Event()
        future = self.threads.submit(
            capacity.take, name, memory, Deadline(20), test=f"test_{name}", on_wait=waits.set
        )
        assert waits.wait(10)
        return future

    def do(self, work: Callable[[], object]) -> None:
        """Do something as this claimant."""
        self.threads.submit(work).result(10)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.exits:
        yield bench


def _ledger(state: Path) -> Path:
    (path,) = (state / "capacity").glob("*.json")
    return path


def _wanted(capacity: Capacity) -> bool:
    """Read anew each time, which the type checker would not expect of an attribute."""
    return capacity.wanted


def _full(bench: Bench, *names: str) -> tuple[Capacity, dict[str, Place]]:
    """A participant that holds places which belong to a thread that never waits."""
    capacity, thread = bench.capacity(), bench.thread()
    return capacity, {name: thread.take(capacity, name).result(10) for name in names}


# Room


def test_the_defaults_come_from_memory_and_cores() -> None:
    assert Limits.of(16000, 4) == Limits(16, 12800, 4)
    assert Limits.of(16000, 1) == Limits(4, 12800, 1)
    assert Limits.of(16000, 0) == Limits(4, 12800, 1)
    assert Limits.of(16000, 8, 3) == Limits(3, 12800, 3)
    assert Limits.of(16000, 8, None) == Limits(32, 12800, 8)


@pytest.mark.parametrize("numbers", [(0, 1000, 1), (1, 1000, 0)])
def test_limits_that_allow_nothing_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least one machine"):
        Limits(*numbers)


@pytest.mark.parametrize(
    ("limits", "fits"), [(Limits(2, 9000, 9), 2), (Limits(9, 3500, 9), 3), (Limits(9, 9000, 4), 4)]
)
def test_machines_memory_and_starts_are_limited(bench: Bench, limits: Limits, fits: int) -> None:
    one, other = bench.capacity(limits), bench.capacity(limits)
    places = [(one, other)[number % 2].try_take(f"m-{number}", 1000) for number in range(6)]
    assert [place is not None for place in places] == [number < fits for number in range(6)]
    assert places[0] is not None
    places[0].release()
    assert one.try_take("m-7", 1000) is not None
    assert other.try_take("m-8", 1000) is None


def test_what_has_started_lets_others_start(bench: Bench) -> None:
    capacity = bench.capacity(Limits(9, 9000, 1))
    place = capacity.take("one", 1, Deadline(5))
    assert capacity.try_take("two", 1) is None
    place.started()
    place.started()
    assert capacity.try_take("two", 1) is not None


def test_hosts_have_counts_of_their_own(bench: Bench) -> None:
    one, other = (bench.capacity(Limits(1, 100, 1), host) for host in ("here", "there"))
    assert one.try_take("one", 100) is not None
    assert other.try_take("two", 100) is not None


def test_each_request_is_judged_by_the_limits_of_its_participant(bench: Bench) -> None:
    modest, greedy = bench.capacity(Limits(1, 1000, 9)), bench.capacity(Limits(3, 1000, 9))
    places = [greedy.try_take("one", 1), greedy.try_take("two", 1)]
    assert modest.try_take("three", 1) is None
    assert greedy.try_take("three", 1) is not None
    assert None not in places


def test_a_place_is_released_once_whatever_comes_later(bench: Bench) -> None:
    capacity = bench.capacity(Limits(1, 1000, 1))
    place = capacity.take("one", 1, Deadline(5))
    place.release()
    second = capacity.take("two", 1, Deadline(5))
    for late in (place.release, place.started, place.leaving, lambda: place.assign("test_x")):
        late()
    assert capacity.try_take("three", 1) is None
    second.release()
    assert (place.name, place.memory) == ("one", 1)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["take", "started", "leaving", "assign", "release"]),
            st.integers(0, 4),
            st.sampled_from([100, 400]),
        ),
        max_size=20,
    )
)
def test_any_order_of_steps_keeps_the_limits(tmp_path: Path, steps: list[tuple[str, int, int]]) -> None:
    limits = Limits(3, 900, 2)
    participants = [Capacity(tmp_path, HOST, limits, "run") for _ in range(2)]
    held: dict[int, Place] = {}
    starting: set[int] = set()
    for verb, key, memory in steps:
        if verb == "take" and key not in held:
            room = (
                len(held) < 3
                and sum(place.memory for place in held.values()) + memory <= 900
                and len(starting) < 2
            )
            place = participants[key % 2].try_take(f"m-{key}", memory)
            assert (place is not None) == room
            if place:
                held[key] = place
                starting.add(key)
        elif verb != "take" and key in held:
            held[key].assign("test_x") if verb == "assign" else getattr(held[key], verb)()
            starting -= set() if verb == "assign" else {key}
            if verb == "release":
                del held[key]
    for capacity in participants:
        capacity.close()
    assert list((tmp_path / "capacity").iterdir()) == []


# Order


def test_requests_of_threads_are_served_in_the_order_in_which_they_came(bench: Bench) -> None:
    capacity, places = _full(bench, "one", "two")
    threads = [bench.thread() for _ in range(4)]
    waiting = [thread.wait(capacity, f"m-{number}") for number, thread in enumerate(threads)]
    place = places["one"]
    for number, future in enumerate(waiting):
        place.release()
        place = future.result(10)
        assert place.name == f"m-{number}"
        assert not any(later.done() for later in waiting[number + 1 :])


def test_requests_of_processes_are_served_in_the_order_in_which_they_came(bench: Bench) -> None:
    _, places = _full(bench, "one", "two")
    puppets = [bench.puppet() for _ in range(2)]
    for number, puppet in enumerate(puppets):
        assert puppet.do(f"take m-{number} 1") == "waiting"
    places["one"].release()
    assert puppets[0].answer() == "done"
    assert puppets[0].do("release m-0") == "done"
    assert puppets[1].answer() == "done"


def test_a_small_request_does_not_pass_a_large_one(bench: Bench) -> None:
    capacity, places = _full(bench, "one")
    large = bench.thread().wait(capacity, "large", 3000)
    small = bench.thread().wait(capacity, "small", 10)
    assert capacity.try_take("smaller", 1) is None
    places["one"].release()
    large.result(10).release()
    assert small.result(10).name == "small"


def test_on_wait_is_not_called_if_there_is_room(bench: Bench) -> None:
    bench.capacity().take("one", 1, Deadline(5), on_wait=lambda: pytest.fail("there is room"))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_on_wait_raises_ends_the_wait_and_lets_the_next_one_come(
    bench: Bench, error: type[BaseException]
) -> None:
    capacity, places = _full(bench, "one", "two")

    def interrupt() -> None:
        assert _wanted(capacity)
        raise error

    with pytest.raises(error):
        capacity.take("three", 1, Deadline(20), on_wait=interrupt)
    assert not _wanted(capacity)
    places["one"].release()
    assert bench.capacity().try_take("four", 1) is not None


def test_who_waits_too_long_is_told_who_holds_what(bench: Bench) -> None:
    capacity, _ = _full(bench, "one", "two")
    with pytest.raises(Busy) as caught:
        capacity.take("three", 7, Deadline(0.05), test="test_three")
    text = str(caught.value)
    assert text.startswith("test test_three: no room for three (7 MiB) in ")
    assert f"  one (1 MiB, starting): test_one, process {os.getpid()}, run run-1" in text
    assert not _wanted(capacity)


def test_a_deadline_that_is_over_still_gives_what_is_free(bench: Bench) -> None:
    assert bench.capacity().take("one", 1, Deadline(0)).name == "one"


# Spare places


def test_a_spare_place_is_asked_for_when_somebody_waits(bench: Bench) -> None:
    owner, capacity = bench.capacity(), bench.capacity()
    spare = [owner.try_take("spare-1", 1), owner.try_take("spare-2", 1)]
    assert spare[0] is not None
    assert not _wanted(owner)
    future = bench.thread().wait(capacity, "three")
    assert _wanted(owner)
    assert _wanted(capacity)
    spare[0].leaving()
    assert not _wanted(owner), "one is enough"
    assert not future.done()
    spare[0].release()
    assert future.result(10).name == "three"
    assert not _wanted(owner)


def test_nobody_gets_a_spare_place_while_another_process_waits(bench: Bench) -> None:
    capacity, places = _full(bench, "one")
    puppet = bench.puppet()
    assert puppet.do("take big 3000") == "waiting"
    assert _wanted(capacity)
    assert capacity.try_take("spare", 1) is None
    places["one"].release()
    assert puppet.answer() == "done"
    assert puppet.do("wanted") == "False"


def test_no_spare_machine_has_to_go_for_one_that_waits_to_start(bench: Bench) -> None:
    capacity = bench.capacity(Limits(9, 9000, 1))
    spare = capacity.try_take("spare", 1)
    assert spare is not None
    future = bench.thread().wait(capacity, "two")
    assert not _wanted(capacity)
    assert capacity.try_take("three", 1) is None
    spare.started()
    assert future.result(10).name == "two"


def test_a_spare_place_belongs_to_the_thread_that_assigns_it(bench: Bench) -> None:
    capacity = bench.capacity()
    parked = [capacity.try_take("one", 1), capacity.try_take("two", 1)]
    thread = bench.thread()
    for place in parked:
        assert place is not None
        thread.do(partial(place.assign, "test_a"))
    with pytest.raises(CapacityExceeded, match=r"test test_three asks for a third machine"):
        thread.take(capacity, "three").result(10)
    # Not so for the one who parked them, whose wait may end.
    with pytest.raises(Busy, match=r"two \(1 MiB, starting\): test_a"):
        capacity.take("four", 1, Deadline(0.05))


# What can never be had


def test_more_machines_than_allowed_for_one_test_are_refused_at_once(bench: Bench) -> None:
    capacity = bench.capacity()
    places = [capacity.take(name, 1, Deadline(5)) for name in ("pytest-a-1", "pytest-b-2")]
    with pytest.raises(CapacityExceeded) as caught:
        capacity.take("pytest-c-3", 1, Deadline(None), test="tests/test_x.py::test_three")
    assert str(caught.value) == (
        "test tests/test_x.py::test_three asks for a third machine, and at most 2 are allowed at once on this "
        "computer (--vbox-max-machines): it holds pytest-a-1 (1 MiB), pytest-b-2 (1 MiB) itself, so waiting would "
        "never end. Use fewer machines in one test (those of class, module and session scope count as well), or "
        "allow more"
    )
    assert not _wanted(capacity)
    places[0].release()
    assert capacity.take("pytest-c-3", 1, Deadline(5)).name == "pytest-c-3"


def test_more_memory_than_there_is_is_refused_at_once(bench: Bench) -> None:
    capacity = bench.capacity()
    with pytest.raises(
        CapacityExceeded, match=r"^big asks .* 4096 MiB of 3000 MiB that machines may have .*: so "
    ):
        capacity.take("big", 4096, Deadline(None))
    capacity.take("one", 2000, Deadline(5))
    with pytest.raises(
        CapacityExceeded, match=r"with 1001 MiB .* 3001 MiB of 3000 MiB .* it holds one \(2000 MiB\)"
    ):
        capacity.take("two", 1001, Deadline(None), test="test_two")
    assert capacity.try_take("big", 4096) is None


def test_machines_that_other_threads_took_for_a_test_may_be_told(bench: Bench) -> None:
    capacity, _ = _full(bench, "one", "two")
    with pytest.raises(CapacityExceeded, match="asks for a third machine"):
        capacity.take("three", 1, Deadline(None), held=2)


def test_what_is_leaving_or_spare_is_not_held_for_ever(bench: Bench) -> None:
    capacity, thread = bench.capacity(), bench.thread()
    old = thread.take(capacity, "old").result(10)
    spare = capacity.try_take("spare", 1)
    assert spare is not None
    thread.do(old.leaving)
    future = thread.wait(capacity, "new")
    assert not future.done()
    old.release()
    new = future.result(10)
    thread.do(new.leaving)
    future = thread.wait(capacity, "newer")
    spare.release()
    assert future.result(10).name == "newer"


def test_a_new_thread_does_not_inherit_what_a_dead_one_held(bench: Bench) -> None:
    capacity = bench.capacity()
    for name in ("one", "two"):
        thread = threading.Thread(target=capacity.take, args=(name, 1, Deadline(5)))
        thread.start()
        thread.join()
    with pytest.raises(Busy):
        bench.thread().take(capacity, "three", seconds=0.01).result(10)


# Deadlocks


def test_of_two_processes_that_wait_for_each_other_the_last_one_gives_up(bench: Bench) -> None:
    first, last = bench.puppet(), bench.puppet()
    assert first.do("take a1 1") == "done"
    assert last.do("take b1 1") == "done"
    assert first.do("take a2 1") == "waiting"
    answer = last.do("take b2 5")
    assert answer.startswith(
        "exceeded: test test_b2 waits for room for b2, and all who hold machines wait as well"
    )
    assert (
        f"test test_a2 (process {first.process.pid}, run run-puppet) holds a1 (1 MiB) and waits for a2" in answer
    )
    assert "holds b1 (1 MiB) and waits for b2 (5 MiB)" in answer
    assert "allowed: 2 machines (--vbox-max-machines) and 3000 MiB of memory" in answer
    assert last.do("release b1") == "done"
    assert first.answer() == "done"


def test_of_those_who_wait_for_each_other_one_that_holds_nothing_is_spared(bench: Bench) -> None:
    capacity = bench.capacity()
    one, two, idle = (bench.thread() for _ in range(3))
    a1, b1 = one.take(capacity, "a1").result(10), two.take(capacity, "b1").result(10)
    a2, idler = one.wait(capacity, "a2"), idle.wait(capacity, "idle")
    with pytest.raises(CapacityExceeded, match=r"holds nothing and waits for idle"):
        two.take(capacity, "b2").result(10)
    b1.release()
    a2.result(10).release()
    assert idler.result(10).name == "idle"
    a1.release()


def test_one_that_waits_already_gives_up_when_nothing_else_will_come_free(bench: Bench) -> None:
    capacity, one, two = bench.capacity(Limits(9, 3000, 9)), bench.thread(), bench.thread()
    other = bench.capacity().take("other", 500, Deadline(5))
    one.take(capacity, "a1", 1000).result(10)
    b1 = two.take(capacity, "b1", 1000).result(10)
    a2, b2 = one.wait(capacity, "a2", 1500), two.wait(capacity, "b2", 1500)
    assert not b2.done()
    other.release()
    with pytest.raises(CapacityExceeded, match="test_b2 waits for room"):
        b2.result(10)
    assert not a2.done()
    b1.release()
    assert a2.result(10).name == "a2"


def test_nobody_gives_up_while_something_is_leaving_or_spare_or_in_use(bench: Bench) -> None:
    limits = Limits(3, 3000, 9)
    capacity, one, two = bench.capacity(limits), bench.thread(), bench.thread()
    a1, b1 = one.take(capacity, "a1").result(10), two.take(capacity, "b1").result(10)
    other = capacity.try_take("other", 1)
    assert other is not None
    a2, b2 = one.wait(capacity, "a2"), two.wait(capacity, "b2")
    steps: list[Callable[[], None]] = [partial(other.assign, "test_other"), other.started, other.leaving]
    for step in steps:
        step()
        assert not a2.done()
        assert not b2.done()
    other.release()
    a2.result(10)
    with pytest.raises(CapacityExceeded):
        # In use by a test that now waits, too.
        one.take(capacity, "a3").result(10)
    a1.release()
    assert b2.result(10).name == "b2"
    b1.release()


@pytest.mark.parametrize("spare", [True, False])
def test_nobody_waits_for_what_could_not_be_removed(bench: Bench, spare: bool) -> None:
    capacity, pool = bench.capacity(Limits(1, 3000, 1)), bench.thread()
    left = pool.threads.submit(capacity.try_take, "left", 1, spare=spare).result(10)
    assert left is not None
    left.leaving()
    left.stays()
    with pytest.raises(CapacityExceeded, match=r"left \(1 MiB\) could not be removed"):
        capacity.take("new", 1, Deadline(20), test="test_new")
    with pytest.raises(CapacityExceeded, match=r"left \(1 MiB\) could not be removed"):
        bench.thread().take(bench.capacity(Limits(1, 3000, 1)), "of-another").result(10)
    # It went after all.
    left.release()
    capacity.take("new", 1, Deadline(20)).release()


def test_of_those_who_wait_beside_what_could_not_be_removed_the_last_one_gives_up(bench: Bench) -> None:
    capacity, one, two = bench.capacity(Limits(3, 3000, 9)), bench.thread(), bench.thread()
    one.take(capacity, "left").result(10).stays()
    a1 = one.take(capacity, "a1").result(10)
    two.take(capacity, "b1").result(10)
    b2 = two.wait(capacity, "b2")
    with pytest.raises(CapacityExceeded, match="could not be removed"):
        one.take(capacity, "a2").result(10)
    assert not b2.done()
    a1.release()
    assert b2.result(10).name == "b2"


def test_one_that_can_finish_goes_first_if_all_would_wait_for_ever_otherwise(bench: Bench) -> None:
    limits = Limits(9, 3000, 9)
    capacity, one, idle = bench.capacity(limits), bench.thread(), bench.thread()
    a1 = one.take(capacity, "a1", 1000).result(10)
    large = idle.wait(capacity, "large", 2500)
    a2 = one.take(capacity, "a2", 500).result(10)
    assert not large.done()
    a1.release()
    a2.release()
    assert large.result(10).name == "large"


# The dead, and what is lost


def test_what_a_killed_process_held_is_given_on(bench: Bench) -> None:
    capacity = bench.capacity()
    puppet = bench.puppet()
    assert puppet.do("take one 1") == "done"
    assert puppet.do("take two 1") == "done"
    assert capacity.try_take("three", 1) is None
    future = bench.thread().wait(capacity, "three")
    puppet.kill()
    assert future.result(10).name == "three"
    assert capacity.try_take("four", 1) is not None


def test_a_killed_process_that_waits_is_in_nobodys_way(bench: Bench) -> None:
    capacity, places = _full(bench, "one")
    puppet = bench.puppet()
    assert puppet.do("take big 3000") == "waiting"
    future = bench.thread().wait(capacity, "two")
    puppet.kill()
    assert future.result(10).name == "two"
    assert not _wanted(capacity)
    places["one"].release()


def test_a_killed_process_leaves_no_files(bench: Bench, tmp_path: Path) -> None:
    other = Capacity(tmp_path, "another host", TWO, "run-2")
    puppet = bench.puppet()
    assert puppet.do("take one 1") == "done"
    puppet.kill()
    assert len(list((tmp_path / "capacity").iterdir())) == 3
    other.close()
    assert list((tmp_path / "capacity").iterdir()) == []


def test_what_a_killed_process_left_in_the_count_goes_with_the_last_who_counts(
    bench: Bench, tmp_path: Path
) -> None:
    other = bench.capacity()
    puppet = bench.puppet()
    assert puppet.do("take one 1") == "done"
    place = other.try_take("two", 1)
    puppet.kill()
    assert place is not None
    place.release()
    other.close()
    assert list((tmp_path / "capacity").iterdir()) == []


def test_closing_gives_everything_back_and_ends_all_waits(bench: Bench, tmp_path: Path) -> None:
    capacity, places = _full(bench, "one", "two")
    future = bench.thread().wait(capacity, "three")
    capacity.close()
    capacity.close()
    with pytest.raises(Busy, match="test test_three: the run ended before there was room for three"):
        future.result(10)
    with pytest.raises(Busy):
        capacity.take("four", 1, Deadline(5))
    assert capacity.try_take("four", 1) is None
    places["one"].release()
    assert not _wanted(capacity)
    assert list((tmp_path / "capacity").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[: len(text) // 2],
        lambda _: "[1, 2]",
        lambda _: "null",
        lambda _: "\0\0\0",
        lambda _: "[" * 5000,
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"memory": 1', '"memory": "1"'),
        lambda text: text.replace('"spare": false', '"spare": 7'),
        lambda text: text.replace('"slots"', '"places"'),
        lambda text: text.replace('"machines": 2', '"machines": 0'),
        lambda text: text.replace('"machines": 2', '"machines": Infinity'),
    ],
)
def test_a_ledger_that_makes_no_sense_is_put_right_by_those_who_wrote_in_it(
    bench: Bench, damage: Callable[[str], str]
) -> None:
    capacity, _ = _full(bench, "one")
    other, places = _full(bench, "two")
    path = _ledger(bench.state)
    text = path.read_text(encoding="utf-8")
    assert damage(text) != text
    path.write_text(damage(text), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert not _wanted(capacity)
    assert other.try_take("three", 1) is None
    assert len(json.loads(path.read_text(encoding="utf-8"))["participants"]) == 2
    places["two"].release()
    assert other.try_take("three", 1) is not None


def test_requests_outlive_the_loss_of_the_ledger(bench: Bench) -> None:
    capacity, places = _full(bench, "one", "two")
    third = bench.thread().wait(capacity, "three")
    _ledger(bench.state).unlink()
    fourth = bench.thread().wait(capacity, "four")
    places["one"].release()
    assert third.result(10).name == "three"
    assert not fourth.done()
    assert bench.capacity().try_take("five", 1) is None
    places["two"].release()
    assert fourth.result(10).name == "four"


# Many at once


def test_threads_of_several_processes_never_pass_the_limits(tmp_path: Path) -> None:
    (inside := tmp_path / "inside").mkdir()
    command = [sys.executable, "-c", HAMMER, str(tmp_path), str(inside), "2"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0] for process in processes] == ["fine\n"] * 3
    assert list((tmp_path / "capacity").iterdir()) == []
