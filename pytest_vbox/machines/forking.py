"""Forking: what a machine is forked from, made if there is none yet, and the fork itself, ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import find_tool, new_key
from pytest_vbox.images import state_of
from pytest_vbox.machines.body import Built
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.errors import BootError
from pytest_vbox.machines.golden import Golden, golden_plan
from pytest_vbox.machines.golden_key import golden_key, subject
from pytest_vbox.machines.golden_machines import SNAPSHOT_PATIENCE, GoldenMachines
from pytest_vbox.machines.machine import Machine
from pytest_vbox.machines.maker import Maker, disk_of
from pytest_vbox.machines.plan import Plan, machine_name
from pytest_vbox.machines.steps import run_step
from pytest_vbox.ownership import Entry, Kind, Ledger, Place
from pytest_vbox.records import Way
from pytest_vbox.virtualbox.errors import ObjectNotFound, VirtualBoxError

logger = logging.getLogger(__name__)

# Seconds from which on a phase is worth telling.
_WORTH_TELLING: Final = 0.05
# Characters kept of what a guest says it has for its random pool; what makes no sense is looked for again.
_LONGEST_TOOL: Final = 100
# The phases in which a fork that does not come up speaks against what it was forked from.
_OF_ORIGIN: Final = frozenset({"launch", "ssh"})


class ForkFailed(Exception):
    """A fork did not come up."""

    def __init__(self, golden: Golden, error: BootError) -> None:
        super().__init__(golden, error)
        self.golden = golden
        self.error = error


class Household(Protocol):
    """Whoever keeps the machines that are made here."""

    def machine(self, made: tuple[Built, dict[str, float]], place: Place | None) -> Machine:
        """A machine of what was made, with the seconds that took."""

    def gone(self, machine: Machine) -> None:
        """Remove a machine; it keeps its place."""

    def part_with(self, machine: Machine, error: BaseException) -> None:
        """Take a machine away that did not come up, unless it is to be kept."""

    def remove_after(self, machine: Machine, error: BaseException) -> None:
        """Take a machine away after something failed."""

    def tell(self, machine: Machine, way: Way, seconds: float, *, purpose: str = "test") -> None:
        """Write down how a machine came."""


class Forker:
    """Makes forks.

    Args:
        context: Where machines live.
        maker: Makes them.
        golden: What they are forked from.
        ledger: Where they are written down.
        household: Keeps them.
        project: From where images and profiles were read.
        trim: Keeps what is kept for later runs within its size.
    """

    def __init__(
        self,
        context: Context,
        maker: Maker,
        golden: GoldenMachines,
        ledger: Ledger,
        household: Household,
        *,
        project: str,
        trim: Callable[[], object],
    ) -> None:
        self._context = context
        self._maker = maker
        self._golden = golden
        self._platform = golden.platform
        self._ledger = ledger
        self._household = household
        self._project = project
        self._trim = trim

    def key_of(self, plan: Plan) -> str:
        """The digest of what a fork is forked from."""
        own = self._context.key_is_ours_to_make(plan.model.image)
        self._maker.settle_disks(plan.model, Deadline(plan.boot_timeout))
        return golden_key(self._platform, plan.model, None if own else plan.key)

    def fork(self, plan: Plan, key: str, place: Place) -> Machine:
        """A fork that is up, with its ``on_fork`` done; it has the place, which after an error is the caller's.

        Raises:
            ForkFailed: It did not come up, though what it is forked from did.
            NoGolden: It cannot be forked.
        """
        started = time.monotonic()
        golden = self._ready(plan, key, place)
        seconds = time.monotonic() - started
        try:
            made = timed("clone", lambda: self._maker.fork(_for_fork(plan, golden), golden))
        except ObjectNotFound:
            # Somebody took it away between two looks; who asks again sees so.
            self._golden.forget(golden)
            golden = self._ready(plan, key, place)
            made = timed("clone", lambda: self._maker.fork(_for_fork(plan, golden), golden))
        machine = self._household.machine(made, place)
        if seconds > _WORTH_TELLING:
            machine._made["golden"] = seconds
        try:
            machine.start()
            for number, step in enumerate(plan.model.image.on_fork, start=1):
                run_step(machine, number, step, "on_fork")
        except BaseException as error:
            with noting(error, machine.name):
                self._household.gone(machine)
            if isinstance(error, BootError) and error.phase in _OF_ORIGIN:
                raise ForkFailed(golden, error) from error
            raise
        return machine

    def _ready(self, plan: Plan, key: str, place: Place) -> Golden:
        found = self._golden.find(key)
        if found is not None:
            return found
        # Whoever makes it waits for nothing but its boot.
        deadline = Deadline(2 * plan.boot_timeout + SNAPSHOT_PATIENCE)
        golden = self._golden.ready(
            key,
            deadline,
            lambda: self._golden_machine(plan, key, place),
            on_wait=self._context.check_wanted,
        )
        try:
            self._golden.remove_outdated(golden)
            self._trim()
        except (OSError, VirtualBoxError):
            # Others may be at the same; what is left over does not keep anybody from a machine.
            logger.warning("could not tidy what is kept for later runs", exc_info=True)
        return golden

    @contextmanager
    def _golden_machine(self, plan: Plan, key: str, place: Place) -> Iterator[tuple[Machine, Golden]]:
        """A machine to be made a golden one: booted, and ready."""
        started = time.monotonic()
        with self._with_key(golden_plan(plan, machine_name(f"golden-{plan.model.image_name}"))) as own:
            machine = self._household.machine(timed("clone", lambda: self._maker.cold(own)), place)
            try:
                machine.start()
                yield machine, self._described(machine, key, time.monotonic() - started)
            except BaseException as error:
                machine._place = None  # it is for whoever asked
                if isinstance(error, BootError):
                    self._household.part_with(machine, error)
                else:
                    self._household.remove_after(machine, error)
                raise
        self._strike(own.id)
        machine._forwards.release()
        self._household.tell(machine, Way.COLD, time.monotonic() - started, purpose="golden")

    @contextmanager
    def _with_key(self, plan: Plan) -> Iterator[Plan]:
        """The plan with a key that is made for the golden machine, and goes with that, where it needs one."""
        if not self._context.key_is_ours_to_make(plan.model.image):
            yield plan
            return
        path = self._golden.new_key_file()
        # Of this VirtualBox: the cleaner of another one does not know the golden machine that may have it.
        what, host = "the key of a golden machine", self._maker.identity
        self._ledger.add(Entry(str(path), what, host, plan.owner.test, kind=Kind.FILE))
        try:
            new_key(path)
            yield replace(plan, key=path)
        except BaseException:
            path.unlink(missing_ok=True)
            self._ledger.strike(str(path))
            raise
        # From here on the golden machine says that it is its own.
        self._strike(str(path))

    def _strike(self, entry_id: str) -> None:
        """Take out of the ledger what is whole now and stays; who reads that later finds out all the same."""
        with suppress(OSError):
            self._ledger.strike(entry_id)

    def _described(self, machine: Machine, key: str, seconds: float) -> Golden:
        plan, model = machine._plan, machine._plan.model
        own = self._context.key_is_ours_to_make(model.image)
        asks = model.image.user != "root" and machine.run("sudo -n true", check=False).returncode != 0
        disk = disk_of(model.image)
        return Golden(
            id=plan.id,
            name=plan.name,
            key=key,
            subject=subject(model, self._project),
            image=model.image_name,
            profile=model.profile_name,
            virtualbox=self._platform.version,
            base=(str(disk.resolve()), state_of(disk)) if self._context.local else (str(disk), ""),
            host_key=machine._host_key or "",
            private_key=str(plan.key) if own else None,
            sudo_asks=asks,
            tool=machine.run(find_tool(), sudo=True, check=False).stdout.strip()[:_LONGEST_TOOL],
            cold_seconds=seconds,
            ssh_seconds=machine.phases.get("ssh", 0.0),
        )


def _for_fork(plan: Plan, golden: Golden) -> Plan:
    """The plan with the key that the golden machine's guest was told of, where that was made for it."""
    return plan if golden.private_key is None else replace(plan, key=Path(golden.private_key))


def timed(phase: str, make: Callable[[], Built]) -> tuple[Built, dict[str, float]]:
    """What was made, and the seconds that took as a phase."""
    started = time.monotonic()
    return make(), {phase: time.monotonic() - started}


@contextmanager
def noting(error: BaseException, name: str) -> Iterator[None]:
    """Say with an error, instead of in its place, that removing a machine failed too."""
    try:
        yield
    except VirtualBoxError as second:
        error.add_note(f"(then removing the machine {name} failed too: {second})")
