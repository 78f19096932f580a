"""The pool: machines that are forked and connected while tests run, and frozen until a test asks for them.

What is parked follows what is asked for next, as far as that is known; what nobody will ask for goes. A parked
machine takes memory, but no processor, and it is given up where another worker waits for room.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Protocol

from pytest_vbox.machines.errors import BootError
from pytest_vbox.machines.machine import Machine

logger = logging.getLogger(__name__)

# Seconds between two looks at what other workers do: whether they wait for room, or have left some.
_LOOK: Final = 0.2


@dataclass(frozen=True)
class Wanted:
    """What a machine is asked for: the arguments of the call, the defaults filled in.

    Attributes:
        image: The image, or what it has to be, as JSON.
        profile: The hardware profile, likewise.
        hardware: The keys that come over it, likewise.
    """

    image: str
    profile: str
    hardware: str

    @classmethod
    def of(cls, image: object, profile: object, hardware: Mapping[str, object] | None) -> Wanted:
        """What a call asks for."""
        return cls(*(json.dumps(part, sort_keys=True, default=str) for part in (image, profile, hardware or {})))

    @property
    def arguments(
        self,
    ) -> tuple[str | dict[str, object] | None, str | dict[str, object] | None, dict[str, object]]:
        """Image, profile and hardware again."""
        return json.loads(self.image), json.loads(self.profile), json.loads(self.hardware)


class Supplier(Protocol):
    """Makes and removes what is parked."""

    def prepare(self, wanted: Wanted) -> Machine | None:
        """A machine that is ready and frozen; None if there is no room, or it cannot be forked."""

    def discard(self, machine: Machine) -> None:
        """Remove one that nobody wants any more."""

    @property
    def crowded(self) -> bool:
        """Whether others wait for room."""


class Pool:
    """The parked machines of one process.

    Args:
        supplier: Makes and removes them.
        size: How many there may be, those in the making included.
    """

    def __init__(self, supplier: Supplier, size: int) -> None:
        self._supplier = supplier
        self._size = size
        self._parked: list[tuple[Wanted, Machine]] = []
        self._making: list[tuple[Wanted, Future[Machine | None]]] = []
        self._upcoming: list[Wanted] = []
        self._mutex = threading.Lock()
        self._closed = threading.Event()
        self._threads = ThreadPoolExecutor(max(1, size), thread_name_prefix="pytest-vbox-pool")
        self._watcher: threading.Thread | None = None
        # Whether there was no room for what is asked for next.
        self._starved = False

    def expect(self, upcoming: Sequence[Wanted]) -> None:
        """Say what will be asked for, in this order; replaces what was said before."""
        with self._mutex:
            self._upcoming = list(upcoming)
        self._schedule()

    def take(self, wanted: Wanted, fits: Callable[[Machine], bool]) -> tuple[Machine, bool] | None:
        """A machine that was prepared, or is being prepared now; and whether it was ready.

        Args:
            wanted: What is asked for.
            fits: Whether a machine is what that means now.

        Raises:
            BootError: One was being prepared, and did not come up.
        """
        with self._mutex:
            if wanted in self._upcoming:
                self._upcoming.remove(wanted)
            found = self._pop(wanted)
            making = next((future for what, future in self._making if what == wanted), None)
            if found is None and making is not None:
                self._making.remove((wanted, making))
        ready = found is not None
        # Before it is waited for, so that the one after it is begun as soon as there is a thread for it.
        self._schedule()
        if found is None and making is not None:
            try:
                found = self._result(making)
            except BaseException:
                self._back(wanted, making)
                raise
        if found is not None and not fits(found):
            self._supplier.discard(found)
            return None
        return (found, ready) if found is not None else None

    def retry(self) -> None:
        """There may be room now for what there was none for."""
        self._schedule()

    def give_up(self) -> bool:
        """Let one parked machine go, for whoever needs the room. Returns whether there was one."""
        with self._mutex:
            if not self._parked:
                return False
            _, machine = self._parked.pop()
        self._supplier.discard(machine)
        return True

    def close(self) -> None:
        """Let all go, and make no more."""
        self._closed.set()
        with self._mutex:
            self._upcoming.clear()
            making = [future for _, future in self._making]
        for future in making:
            future.cancel()
        wait(making)
        self._threads.shutdown(wait=True)
        while self.give_up():
            pass

    def _pop(self, wanted: Wanted) -> Machine | None:
        for entry in self._parked:
            if entry[0] == wanted:
                self._parked.remove(entry)
                return entry[1]
        return None

    def _back(self, wanted: Wanted, making: Future[Machine | None]) -> None:
        """Nobody waits for one that is being prepared any more: it is to be parked, or let go, as any other."""
        with self._mutex:
            self._making.append((wanted, making))
        if making.done():
            self._made(wanted, making)

    def _result(self, making: Future[Machine | None]) -> Machine | None:
        try:
            return making.result()
        except BootError:
            raise
        except Exception:
            logger.debug("a machine could not be prepared", exc_info=True)
            return None

    def _schedule(self) -> None:
        """Begin what is missing, and let go what nobody will ask for."""
        if self._size == 0 or self._closed.is_set():
            return
        with self._mutex:
            leaving = list(self._unwanted())
            begun = list(self._begun(self._missing()))
            self._making += begun
        for what, future in begun:
            # Not under the lock: of one that is done already, it is called at once.
            future.add_done_callback(lambda done, what=what: self._made(what, done))  # type: ignore[misc]
        for machine in leaving:
            self._supplier.discard(machine)

    def _begun(self, missing: Sequence[Wanted]) -> Iterator[tuple[Wanted, Future[Machine | None]]]:
        for what in missing:
            hopeless = threading.Event()
            try:
                yield what, self._threads.submit(self._prepare, what, hopeless)
            except RuntimeError:
                # No thread can be started; it will be made when it is asked for. It may be in the queue already.
                hopeless.set()
                logger.debug("a machine is not prepared", exc_info=True)
                return

    def _prepare(self, what: Wanted, hopeless: threading.Event) -> Machine | None:
        machine = self._supplier.prepare(what) if not hopeless.is_set() else None
        if machine is not None and hopeless.is_set():
            self._supplier.discard(machine)
            return None
        return machine

    def _missing(self) -> list[Wanted]:
        next_ones = Counter(self._upcoming[: self._size])
        next_ones.subtract(what for what, _ in self._parked)
        next_ones.subtract(what for what, _ in self._making)
        room = self._size - len(self._parked) - len(self._making)
        return list((+next_ones).elements())[: max(0, room)]

    def _unwanted(self) -> Iterator[Machine]:
        """What is parked and not asked for; and, where it takes the place of what is, what is asked for late."""
        still, soon = Counter(self._upcoming), Counter(self._upcoming[: self._size])
        full = len(self._parked) + len(self._making) >= self._size and bool(self._upcoming)
        for entry in list(self._parked):
            what, machine = entry
            counted = soon if full else still
            if counted[what] > 0:
                counted[what] -= 1
                continue
            self._parked.remove(entry)
            yield machine

    def _made(self, what: Wanted, future: Future[Machine | None]) -> None:
        with self._mutex:
            if (what, future) not in self._making:
                return  # somebody is waiting for it
            self._making.remove((what, future))
            if future.cancelled() or future.exception() is not None:
                return
            machine = future.result()
            self._starved = machine is None
            if machine is not None:
                self._parked.append((what, machine))
            self._watch()
        if machine is not None:
            self._schedule()

    def _watch(self) -> None:
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._look, name="pytest-vbox-pool-watch", daemon=True)
            try:
                self._watcher.start()
            except RuntimeError:
                # No thread can be started. Who comes next may start it; at the end what is parked goes anyway.
                logger.debug("nobody looks after what is parked", exc_info=True)

    def _look(self) -> None:
        """Give machines up while other workers wait for room; try again where there was none for ours."""
        while not self._closed.wait(_LOOK):
            with self._mutex:
                starved, self._starved = self._starved, False
                if not self._parked and not starved:
                    self._watcher = None
                    return
            if self._is_crowded():
                self.give_up()
            elif starved:
                self._schedule()

    def _is_crowded(self) -> bool:
        try:
            return self._supplier.crowded
        except OSError:
            # As where no file can be opened any more; that may be over at the next look.
            logger.debug("cannot see whether others wait for room", exc_info=True)
            return False
