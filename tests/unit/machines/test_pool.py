"""The pool: what is parked follows what is asked for next, and nothing else stays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from pytest_vbox.machines import BootError, Machine
from pytest_vbox.machines.pool import Pool, Wanted

A, B, C = (Wanted.of(image, None, None) for image in "abc")


class Parked:
    """Stands for a machine."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted


class Supplier:
    """Makes what stands for machines, when it is let."""

    def __init__(self) -> None:
        self.made: list[Parked] = []
        self.gone: list[Parked] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.room = True
        self.crowded = False
        self.error: Exception | None = None

    def prepare(self, wanted: Wanted) -> Machine | None:
        assert self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        if not self.room:
            return None
        self.made.append(Parked(wanted))
        return cast("Machine", self.made[-1])

    def discard(self, machine: Machine) -> None:
        self.gone.append(cast("Parked", machine))

    @property
    def there(self) -> list[str]:
        return sorted(parked.wanted.image for parked in self.made if parked not in self.gone)


@pytest.fixture
def supplier() -> Supplier:
    return Supplier()


@pytest.fixture
def pool(supplier: Supplier) -> Iterator[Pool]:
    pool = Pool(supplier, 2)
    yield pool
    supplier.go_on.set()
    pool.close()


def soon(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.001)


def anything(_: Machine) -> bool:
    return True


def test_arguments_survive() -> None:
    assert Wanted.of({"os_family": "x"}, None, {"memory": 5}).arguments == (
        {"os_family": "x"},
        None,
        {"memory": 5},
    )
    assert Wanted.of("a", None, {}) == Wanted.of("a", None, None)
    assert hash(A) != hash(B)


def test_the_next_ones_are_made_and_handed_out(pool: Pool, supplier: Supplier) -> None:
    pool.expect([A, A, B])
    soon(lambda: len(pool._parked) == 2)
    assert supplier.there == ['"a"', '"a"']
    taken = pool.take(A, anything)
    assert taken is not None
    assert taken[1]
    # What is taken is not expected any more, so there is room for the one after.
    soon(lambda: supplier.there == ['"a"', '"a"', '"b"'])
    assert len(supplier.made) == 3


def test_what_is_being_made_is_waited_for(pool: Pool, supplier: Supplier) -> None:
    supplier.go_on.clear()
    pool.expect([A])
    threading.Timer(0.05, supplier.go_on.set).start()
    taken = pool.take(A, anything)
    assert taken is not None
    assert not taken[1]
    assert len(supplier.made) == 1


def test_what_nobody_asks_for_goes(pool: Pool, supplier: Supplier) -> None:
    pool.expect([A, B])
    soon(lambda: len(pool._parked) == 2)
    pool.expect([C, B])
    soon(lambda: supplier.there == ['"b"', '"c"'])
    pool.expect([])
    soon(lambda: supplier.there == [])


def test_what_comes_late_makes_room_for_what_comes_next(pool: Pool, supplier: Supplier) -> None:
    pool.expect([A, B])
    soon(lambda: len(pool._parked) == 2)
    pool.expect([C, C, A, B])
    soon(lambda: supplier.there == ['"c"', '"c"'])


def test_what_is_not_there_is_not_waited_for(pool: Pool, supplier: Supplier) -> None:
    assert pool.take(A, anything) is None
    supplier.room = False
    pool.expect([A])
    assert pool.take(A, anything) is None
    assert supplier.made == []


def test_what_does_not_fit_any_more_is_let_go(pool: Pool, supplier: Supplier) -> None:
    pool.expect([A])
    soon(lambda: len(pool._parked) == 1)
    assert pool.take(A, lambda _: False) is None
    assert len(supplier.gone) == 1


def test_a_boot_that_fails_is_told_to_whoever_waits_and_other_failures_are_tried_again_by_them(
    pool: Pool, supplier: Supplier
) -> None:
    supplier.go_on.clear()
    supplier.error = BootError("m", "ssh", 1.0, "did not come up")
    pool.expect([A])
    threading.Timer(0.02, supplier.go_on.set).start()
    with pytest.raises(BootError):
        pool.take(A, anything)
    supplier.error = RuntimeError("anything")
    assert pool.take(A, anything) is None


def test_parked_machines_are_given_up_where_others_wait(pool: Pool, supplier: Supplier) -> None:
    pool.expect([A, A])
    soon(lambda: len(pool._parked) == 2)
    assert pool.give_up()
    assert len(supplier.there) == 1
    supplier.crowded = True
    supplier.room = False
    soon(lambda: supplier.there == [])
    assert not pool.give_up()


def test_where_there_was_no_room_it_is_tried_again(pool: Pool, supplier: Supplier) -> None:
    supplier.room = False
    pool.expect([A])
    soon(lambda: not pool._making)
    supplier.room = True
    soon(lambda: supplier.there == ['"a"'])


def test_the_end_leaves_nothing(supplier: Supplier) -> None:
    pool = Pool(supplier, 2)
    supplier.go_on.clear()
    pool.expect([A, B, C])
    threading.Timer(0.02, supplier.go_on.set).start()
    pool.close()
    assert supplier.there == []
    pool.expect([A])
    assert supplier.there == []


def test_without_room_for_any_nothing_is_made(supplier: Supplier) -> None:
    pool = Pool(supplier, 0)
    pool.expect([A])
    assert pool.take(A, anything) is None
    pool.close()
    assert supplier.made == []


def test_a_machine_is_parked_though_no_thread_can_be_started_to_look_after_it(
    pool: Pool, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "pytest-vbox-pool-watch":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    pool.expect([A])
    soon(lambda: len(pool._parked) == 1)
    monkeypatch.undo()
    pool.close()
    assert supplier.there == []


@pytest.mark.slow
def test_a_look_that_fails_is_not_the_last_one(
    pool: Pool, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []

    def crowded(_: Supplier) -> bool:
        looks.append(True)
        if len(looks) == 1:
            raise OSError(24, "Too many open files")
        supplier.room = False
        return True

    monkeypatch.setattr(Supplier, "crowded", property(crowded), raising=False)
    pool.expect([A])
    soon(lambda: len(looks) > 1 and supplier.there == [])
