"""Cleaning up after processes that died: what their ledgers list, and what says itself in VirtualBox whose it was.

Either alone is enough. Nothing else is touched: a machine that only has a name like ours is somebody else's.
"""

from __future__ import annotations

import html
import json
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.images import VirtualBoxConverter
from pytest_vbox.machines.build import owner_in
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.golden import GOLDEN_KEY
from pytest_vbox.machines.maker import Maker
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP, OWNER_KEY
from pytest_vbox.machines.run_key import remove_abandoned_keys
from pytest_vbox.ownership import (
    Abandoned,
    Busy,
    Entry,
    KeptMachine,
    KeptMachines,
    Kind,
    ProcessId,
    Register,
    abandoned,
    held,
    listing,
    remove_ended_runs,
    report,
    sweep_locks,
)
from pytest_vbox.virtualbox.errors import (
    AccessDenied,
    InvalidObjectReference,
    ObjectNotFound,
    ServiceUnavailable,
    VirtualBoxError,
)

logger = logging.getLogger(__name__)

# Seconds for another who cleans up; and for a process that dies to give its lock back.
_PATIENCE: Final = 60.0
_DYING: Final = 10.0
_OWNER: Final = re.compile(rf'<ExtraDataItem name="{OWNER_KEY}" value="([^"]*)"')
_MACHINE_ID: Final = re.compile(r'<Machine uuid="\{([0-9a-f-]{36})\}"')


class Cleaner:
    """Cleans up in one VirtualBox.

    Args:
        context: Where machines live.
        identity: Which VirtualBox that is.
        maker: Takes machines away.
        retire: Is given what a dead process used and this room knows nothing of.
    """

    def __init__(
        self,
        context: Context,
        identity: str,
        maker: Maker,
        retire: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self._context = context
        self._identity = identity
        self._maker = maker
        self._retire = retire
        self._kept = KeptMachines(context.state)
        self._told: set[Path] = set()

    def clean(self, dying: Path | None = None) -> list[str]:
        """Remove what processes that died have left. Returns the names of the machines.

        What cannot be removed stays written down, for the next time. What was done is written to the log.

        Args:
            dying: The ledger of a process that is just dying, and is waited for.

        Raises:
            Busy: Another process was cleaning up, and may have looked before the dying one died. (Without a dying
                one it is no error: the other process sees to it.)
            ServiceUnavailable: VirtualBox went away meanwhile.
        """
        state = self._context.state
        removed: list[str] = []
        if dying is not None:
            with abandoned(state, dying, _DYING):
                pass  # its lock is free now
        try:
            with held(state, f"clean up {self._identity}", Deadline(_PATIENCE)):
                remove_abandoned_keys(state)
                with abandoned(state) as ledgers:
                    listed = {entry.id for ledger in ledgers for entry in ledger.entries}
                    for ledger in ledgers:
                        removed += self._after(ledger)
                removed += self._unlisted(listed)
                remove_ended_runs(state)
                sweep_locks(state)
                Register.at(state).tidy()
                self.kept()
        except Busy:
            if dying is not None:
                raise
            logger.info("another process is cleaning up")
        return removed

    def _after(self, ledger: Abandoned) -> Iterator[str]:
        """What one ledger lists."""
        if ledger.unreadable:
            self._leave(ledger)
            return
        died = f"process {ledger.pid} died"
        lines, removed = [], []
        hosts = {entry.host for entry in ledger.entries if entry.host}
        if self._identity in hosts or not hosts:
            # It may have ended already. If not, VirtualBox keeps what was half made in it.
            self._context.session.end_other(ledger.session, ledger.session_objects)
        for entry in [entry for entry in ledger.entries if entry.host in {"", self._identity}]:
            try:
                if self._take(entry):
                    lines.append(f"{died}: removed the {entry}")
                    if entry.kind is Kind.MACHINE:
                        removed.append(entry.name)
                ledger.strike(entry)
            except ServiceUnavailable:
                raise
            except (OSError, VirtualBoxError) as error:
                lines.append(f"{died}: could not remove the {entry}: {error}; the next run tries again")
                logger.warning("could not remove %s", entry, exc_info=True)
        if not ledger.entries:
            ledger.done()
        report(self._context.state, ledger.run, lines)
        yield from removed

    def _leave(self, ledger: Abandoned) -> None:
        """Leave a ledger to whoever can read it, and say so once."""
        if ledger.path not in self._told:
            self._told.add(ledger.path)
            logger.warning("left %s alone, of a process that died: %s", ledger.path, ledger.unreadable)

    def _take(self, entry: Entry) -> bool:
        if entry.kind is Kind.MACHINE:
            if self._stays(entry.id):
                return False
            return self._maker.take_away(entry.id, entry.name)
        if entry.kind is Kind.DISK:
            return self._take_disk(Path(entry.id))
        if entry.kind is Kind.FILE:
            if any(json.dumps(entry.id) in said for said in self._golden().values()):
                return False  # of a golden machine that was finished in the last moment
            return _is_ours(Path(entry.id), self._context.state) and _delete(Path(entry.id))
        self._retire(entry)
        return False

    def _take_disk(self, path: Path) -> bool:
        """A disk in the cache, or a folder with one, that was being written."""
        if not _is_ours(path, self._context.state):
            return False
        virtualbox = self._context.session.virtualbox
        VirtualBoxConverter(virtualbox).abandon(path)
        for medium in virtualbox.hard_disks:
            with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):
                if medium.location == str(path):
                    medium.close()
        return _delete(path)

    def _stays(self, machine_id: str) -> bool:
        """Whether a machine was kept, or made a golden one, in the last moment."""
        return machine_id in self._kept.ids() or machine_id in self._golden()

    def _golden(self) -> dict[str, str]:
        """What golden machines say of themselves, by their UUID.

        Nobody has to understand it: forks may stand on a golden machine that another version made.
        """
        found = {}
        for machine in self._context.session.virtualbox.machines_by_groups([GOLDEN_GROUP]):
            with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):  # gone while we looked
                said = machine.get_extra_data(GOLDEN_KEY)
                if said:
                    found[machine.id] = said
        return found

    def _unlisted(self, listed: Collection[str]) -> Iterator[str]:
        """Machines of processes that died, which no ledger lists, as far as they say so themselves."""
        for machine_id, name, owner in [*self._signed(), *self._unregistered()]:
            if machine_id in listed:
                continue  # it could not be removed just now
            process = ProcessId.from_json(owner.get("process"))
            if process is None or not process.is_gone or owner.get("kept") or self._stays(machine_id):
                continue
            run, test = str(owner.get("run", "")), str(owner.get("test", ""))
            entry = Entry(machine_id, name, self._identity, test)
            try:
                self._maker.take_away(machine_id, name)
            except ServiceUnavailable:
                raise
            except (OSError, VirtualBoxError):
                # Not for the report, which would say so at each run.
                logger.warning("could not remove the unlisted %s", entry, exc_info=True)
                continue
            report(self._context.state, run, [f"process {process.pid} died: removed the unlisted {entry}"])
            yield name

    def kept(self) -> list[KeptMachine]:
        """The machines that were kept and are still there; those that their user has removed are forgotten."""
        there = []
        for machine in self._kept.all():
            if machine.host == self._identity:
                try:
                    self._context.session.virtualbox.find_machine(machine.id)
                    there.append(machine)
                except ObjectNotFound:
                    self._kept.strike(machine.id)
        return there

    def _signed(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The machines that say whose they are."""
        for machine in self._context.session.virtualbox.machines_by_groups([GROUP, GOLDEN_GROUP]):
            with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):  # gone while we looked
                machine_id = machine.id
                owner = owner_in(machine.get_extra_data(OWNER_KEY), machine_id)
                if owner is not None:
                    yield machine_id, machine.name, owner

    def _unregistered(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Machines that VirtualBox does not know, but whose settings were written."""
        if not self._context.local:
            return
        virtualbox = self._context.session.virtualbox
        for group in (GROUP, GOLDEN_GROUP):
            folder = Path(virtualbox.compose_machine_filename("x", group)).parent.parent
            for file in (place / f"{place.name}.vbox" for place in listing(folder)):
                with suppress(OSError, VirtualBoxError):
                    text = file.read_text(encoding="utf-8", errors="replace")
                    identity, said = _MACHINE_ID.search(text), _OWNER.search(text)
                    if identity is None or said is None:
                        continue
                    owner = owner_in(html.unescape(said[1]), identity[1])
                    if owner is None:
                        continue
                    try:
                        virtualbox.find_machine(identity[1])
                    except ObjectNotFound:
                        yield identity[1], file.stem, owner


def _is_ours(path: Path, state: Path) -> bool:
    """Whether a path is in one of our own folders, whatever a ledger says."""
    return any(folder in path.parents and ".." not in path.parts for folder in (state, places.cache_folder()))


def _delete(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path)
        return True
    if path.exists():
        path.unlink()
        return True
    return False
