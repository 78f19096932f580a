"""How a request for a machine is answered: with one that is parked, with a fork, or with one that is booted."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.exhaustion import explain
from pytest_vbox.machines import fork, removal, seed_drive
from pytest_vbox.machines.body import Built
from pytest_vbox.machines.context import Context, NotWanted
from pytest_vbox.machines.disposal import Disposal
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.forking import Forker, ForkFailed, noting, timed
from pytest_vbox.machines.golden_machines import GoldenMachines, NoGolden
from pytest_vbox.machines.machine import Machine
from pytest_vbox.machines.maker import Maker
from pytest_vbox.machines.plan import Plan
from pytest_vbox.machines.pool import Pool, Wanted
from pytest_vbox.models import MachineModel
from pytest_vbox.ownership import Capacity, KeptMachine, KeptMachines, Ledger, Place
from pytest_vbox.records import Record, Way
from pytest_vbox.settings import Keep, Reset, Settings
from pytest_vbox.virtualbox.errors import ObjectNotFound, VirtualBoxError

logger = logging.getLogger(__name__)

# Seconds to wait for others' machines to go: as long as their tests take.
_PATIENCE: Final = 3600.0
# MiB that VirtualBox needs for a machine besides its memory.
_OVERHEAD: Final = 64
# How many golden machines of one kind may turn out to be of no use before the run does without.
_MOST_DISCARDED: Final = 2
# For ssh by hand: nothing of the user's own, and no host key that would be taken for a known one later.
_PLAIN: Final = (
    f"-F {os.devnull} -o IdentitiesOnly=yes -o IdentityAgent=none -o UserKnownHostsFile={os.devnull} "
    "-o StrictHostKeyChecking=no"
)


class Supply:
    """Answers requests.

    Args:
        context: Where machines live.
        maker: Makes them.
        golden: What they are forked from.
        ledger: Where they are written down.
        capacity: Gives what all of them may take.
        settings: What the user set.
        project: From where images and profiles were read.
        planned: Turns what is asked for into a plan, for the pool.
        trim: Keeps what is kept for later runs within its size.
    """

    def __init__(
        self,
        context: Context,
        maker: Maker,
        golden: GoldenMachines,
        ledger: Ledger,
        capacity: Callable[[], Capacity],
        *,
        settings: Settings,
        project: str,
        planned: Callable[[Wanted], Plan],
        trim: Callable[[], object],
    ) -> None:
        self._context = context
        self._session = context.session
        self._journal = context.journal
        self._maker = maker
        self._golden = golden
        self._ledger = ledger
        self._capacity = capacity
        self._planned = planned
        self._forker = Forker(context, maker, golden, ledger, self, project=project, trim=trim)
        self._settings = settings
        self._discarded: dict[str, int] = {}
        self._hopeless: dict[str, str] = {}
        self._disposal = Disposal()
        self.pool = Pool(self, settings.prewarm)

    # Answering

    def cold(self, plan: Plan, *, start: bool = True, place: Place | None = None) -> Machine:
        """A machine of its own, booted (unless it shall not be)."""
        try:
            made = timed("clone", lambda: self._maker.cold(plan))
        except BaseException:
            self._release(place)
            raise
        machine = self.machine(made, place)
        if start:
            try:
                machine.start()
            except BaseException as error:
                self.part_with(machine, error)
                raise
        return machine

    def live(self, plan: Plan, wanted: Wanted | None) -> tuple[Machine, Way]:
        """A machine that goes on where another one of its kind was ready, or one that was booted after all.

        Args:
            plan: What it shall be.
            wanted: What was asked for, if one that is parked will do.
        """
        reason = fork.why_not(plan.model)
        if reason is not None:
            return self._unforked(plan, reason)
        key = self._forker.key_of(plan)
        if key in self._hopeless:
            return self._unforked(plan, self._hopeless[key])
        parked = self.pool.take(wanted, lambda machine: _is_of(machine, key)) if wanted is not None else None
        if parked is not None:
            machine, ready = parked
            if self._unpark(machine, plan):
                return machine, Way.PARKED if ready else Way.FORKED
            self.discard(machine)
        place = self.take_place(plan)
        try:
            return self._forker.fork(plan, key, place), Way.FORKED
        except NoGolden as error:
            lacking = explain(error, f"taking the snapshot that {plan.name} is forked from", self._context.folders)
            if lacking is not None:
                self._release(place)
                raise lacking from error
            self._hopeless[key] = str(error)
            return self._unforked(plan, str(error), place)
        except ForkFailed as failure:
            return self._booted_after_all(plan, key, failure, place), Way.COLD
        except BaseException:
            self._release(place)
            raise

    def prepare(self, wanted: Wanted) -> Machine | None:
        """A machine for the pool; see `Supplier`."""
        plan = self._planned(wanted)
        if fork.why_not(plan.model) is not None:
            return None
        key = self._forker.key_of(plan)
        place = None if key in self._hopeless else self._capacity().try_take(plan.name, _memory(plan.model))
        if place is None:
            return None
        self._journal.came()
        try:
            machine = self._forker.fork(plan, key, place)
        except NoGolden as error:
            self._release(place)
            if explain(error, "preparing a machine", self._context.folders) is None:
                self._hopeless[key] = str(error)
            return None
        except BaseException:
            self._release(place)
            raise
        try:
            machine._park()
        except BaseException as error:
            self.remove_after(machine, error)
            raise
        return machine

    @property
    def crowded(self) -> bool:
        """Whether others wait for room."""
        return self._capacity().wanted

    def take_place(self, plan: Plan) -> Place:
        """A share of the host; waits until there is one."""
        memory, test = _memory(plan.model), plan.owner.test
        place = self._capacity().try_take(plan.name, memory, spare=False)
        if place is None:
            # What is parked goes, for as long as there is need to wait.
            with self._journal.waiting("a free place"):
                place = self._capacity().take(
                    plan.name, memory, Deadline(_PATIENCE), test=test, on_wait=self._make_room
                )
        place.assign(test)
        self._journal.came()
        return place

    def _make_room(self) -> None:
        self._context.check_wanted()
        self.pool.give_up()

    # Starting again

    def rebuild(self, machine: Machine, mode: Reset) -> Built:
        """Make a machine anew, not started yet; see `Machine.reset`."""
        self._session.refresh()
        plan = machine._plan
        if mode is Reset.FRESH:
            built = self._maker.cold(self._to_be_booted(plan.renewed()))
            self.gone(machine)
            return built
        # The same name, UUID and ports, for whoever has written them down.
        removal.remove(self._session, plan.id, plan.name, local=self._context.local)
        if mode is Reset.LIVE and machine._origin is not None:
            # Nothing stood on its origin any more, so somebody may have taken that away.
            with suppress(ObjectNotFound):
                return self._maker.fork(plan, machine._origin, machine._forwards)
        return self._maker.cold(plan, machine._forwards)

    def was_reset(self, machine: Machine, seconds: float) -> None:
        """Write down that a machine was made pristine again."""
        self.tell(machine, Way.RESET, seconds)

    def tell(self, machine: Machine, way: Way, seconds: float, *, purpose: str = "test") -> None:
        """Write down how a machine came.

        Args:
            machine: The machine.
            way: How it came.
            seconds: What the caller saw of it.
            purpose: What it is for, as in `Record`.
        """
        plan, origin = machine._plan, machine._origin
        self._journal.add(
            Record(
                machine=plan.name,
                image=plan.model.image_name,
                profile=plan.model.profile_name,
                test=plan.owner.test,
                way=way,
                seconds=seconds,
                phases=dict(machine.phases),
                waited=self._journal.take_waited(),
                cold_seconds=origin.cold_seconds if origin is not None else None,
                purpose=purpose,
            )
        )

    # Taking away

    def remove(self, machine: Machine) -> None:
        """Take a machine away: switched off, unregistered, its own files deleted. Twice does no harm."""
        try:
            self.gone(machine)
        except BaseException:
            if machine._place is not None:
                machine._place.stays()
            raise
        place, machine._place = machine._place, None
        self._release(place)
        self.pool.retry()

    def discard(self, machine: Machine) -> None:
        """Take a machine away while the caller goes on; see `problems`."""
        if machine._place is not None:
            machine._place.leaving()
        self._disposal.submit(machine.name, lambda: self.remove(machine))

    @contextmanager
    def parting_with(self, machine: Machine) -> Iterator[None]:
        """Take a machine away at the end of the block; after an error it may be one to be kept."""
        try:
            yield
        except BaseException as error:
            self.part_with(machine, error)
            raise
        self.remove(machine)

    def problems(self) -> list[tuple[str, Exception]]:
        """The machines that could not be removed meanwhile, and why."""
        return self._disposal.problems()

    def keep(self, machine: Machine) -> str:
        """Let a machine live on after the run. Returns how to enter it and how to remove it."""
        # Whoever enters it later has to find the key.
        machine._plan = replace(machine._plan, key=self._context.lasting_key(machine._plan.key, machine.api))
        kept = self._kept_machine(machine)
        # In this order, so that it is in one of both lists whatever dies.
        KeptMachines(self._context.state).add(kept)
        machine._sign_as_kept()
        self._ledger.strike(machine.id)
        machine._forwards.release()
        place, machine._place = machine._place, None
        self._release(place)
        return str(kept)

    def _kept_machine(self, machine: Machine) -> KeptMachine:
        enter = "it has no SSH"
        if machine._forwards.ssh_port is not None:
            host, port = machine.address
            private_key = machine._plan.key
            key = f"-i {shlex.quote(str(private_key))}" if private_key else "-o IdentityFile=none"
            user = shlex.quote(machine._plan.model.image.user)
            enter = f"pytest-vbox machines ssh {machine.name}, or: ssh -p {port} {key} {_PLAIN} -l {user} {host}"
        return KeptMachine(
            machine.id,
            machine.name,
            self._maker.identity,
            machine._plan.owner.test,
            datetime.now(UTC).isoformat(timespec="seconds"),
            enter,
            f"VBoxManage controlvm {machine.name} poweroff; "
            f"VBoxManage unregistervm {machine.name} --delete{seed_drive.removal_by_hand(machine.api)}",
        )

    def close(self) -> None:
        """Let all go that is parked, and wait until everything is gone that was to go."""
        self.pool.close()
        self._disposal.close()

    # For those who fork

    def machine(self, made: tuple[Built, dict[str, float]], place: Place | None) -> Machine:
        """A machine of what was made, with the seconds that took."""
        built, phases = made
        machine = Machine(self._context, built, self, place)
        machine._made.update(phases)
        return machine

    def part_with(self, machine: Machine, error: BaseException) -> None:
        """Take a machine away that did not come up, unless it is to be kept; the error stays what is told."""
        wanted = isinstance(error, Exception) and not isinstance(error, NotWanted)
        if wanted and self._settings.keep is not Keep.NEVER:
            try:
                error.add_note(self.keep(machine))
                return
            except (OSError, VirtualBoxError) as second:
                error.add_note(f"(then keeping the machine {machine.name} failed, so it is removed: {second})")
        self.remove_after(machine, error)

    def remove_after(self, machine: Machine, error: BaseException) -> None:
        """Take a machine away after something failed, which stays what is told."""
        with noting(error, machine.name):
            self.remove(machine)

    def gone(self, machine: Machine) -> None:
        """Remove a machine from VirtualBox, with its ports and its line in the ledger; it keeps its place."""
        plan = machine._plan
        machine._disconnect()
        self._session.refresh()
        machine._unlock()
        self._maker.take_away(plan.id, plan.name)
        machine._forwards.release()
        # It is gone, which whoever reads the ledger later will find; what is written next says so too.
        with suppress(OSError):
            self._ledger.strike(plan.id)

    # Inside

    def _release(self, place: Place | None) -> None:
        if place is not None:
            place.release()
            self._journal.went()

    def _unforked(self, plan: Plan, reason: str, place: Place | None = None) -> tuple[Machine, Way]:
        model = plan.model
        sentence = f"{model.image_name} with {model.profile_name} is booted for each test: {reason}"
        if self._journal.note(sentence):
            logger.info(sentence)
        return self.cold(self._to_be_booted(plan), place=place), Way.COLD

    def _to_be_booted(self, plan: Plan) -> Plan:
        """A plan for a machine that is booted: with the key that its own seed tells the guest of."""
        return replace(plan, key=self._context.private_key(plan.model.image))

    def _booted_after_all(self, plan: Plan, key: str, failure: ForkFailed, place: Place) -> Machine:
        """Boot a machine, since a fork did not come up; if it comes, what that was forked from is of no use."""
        error, golden = failure.error, failure.golden
        machine = self.cold(self._to_be_booted(plan.renewed()), place=place)
        reason = next(
            (line for line in error.report.splitlines() if line.startswith("reason: ")), "reason: unknown"
        )
        self._discarded[key] = self._discarded.get(key, 0) + 1
        if self._discarded[key] >= _MOST_DISCARDED:
            self._hopeless[key] = f"its golden machines do not resume ({reason.removeprefix('reason: ')})"
        what = f"the golden machine of {golden.image} with {golden.profile} did not resume"
        try:
            self._golden.discard(golden, reason)
            what += " and was discarded"
        except (OSError, VirtualBoxError):
            # Another worker may be at the same; the machine that runs is what was asked for.
            logger.warning("could not discard the golden machine %s", golden.name, exc_info=True)
        self._journal.note(f"{what}; the test's machine was booted ({reason})")
        return machine

    def _unpark(self, machine: Machine, plan: Plan) -> bool:
        started = time.monotonic()
        adopted = replace(plan, id=machine.id, name=machine.name, key=machine._plan.key)
        try:
            alive = machine._unpark(adopted)
        except (VirtualBoxError, MachineError):
            logger.debug("a parked machine is of no use", exc_info=True)
            return False
        if alive and machine._place is not None:
            machine._place.assign(plan.owner.test)
            machine._phases = {"resume": time.monotonic() - started}
            self._disposal.submit(machine.name, machine._sign)
        return alive


def _memory(model: MachineModel) -> int:
    return model.hardware.memory + _OVERHEAD


def _is_of(machine: Machine, key: str) -> bool:
    return machine._origin is not None and machine._origin.key == key
