"""The golden machines of a VirtualBox: found, made by one for all, kept while they are of use, taken away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import drop_orphan
from pytest_vbox.machines import power, removal
from pytest_vbox.machines.errors import BootError, MachineError
from pytest_vbox.machines.golden import GOLDEN_KEY, SNAPSHOT, Golden, is_stale, key_file
from pytest_vbox.machines.golden_key import Platform
from pytest_vbox.machines.machine import Machine
from pytest_vbox.machines.plan import GOLDEN_GROUP
from pytest_vbox.ownership import Busy, Entry, Kind, Ledger, NotStarted, held, names_written_down
from pytest_vbox.records import Journal
from pytest_vbox.virtualbox import Machine as ApiMachine
from pytest_vbox.virtualbox import Snapshot, WebSession
from pytest_vbox.virtualbox.enums import LockType
from pytest_vbox.virtualbox.errors import (
    AccessDenied,
    InvalidObjectReference,
    InvalidObjectState,
    ObjectInUse,
    ObjectNotFound,
    VirtualBoxError,
)

# How often a golden machine is tried to be made in one run, before its failure is taken for granted.
_TRIES: Final = 2
#: Seconds for a snapshot, more than booting takes: the snapshot's memory goes to a disk that may be slow.
SNAPSHOT_PATIENCE: Final = 300.0


class NoGolden(Exception):
    """There is no golden machine, and there will be none; says why."""


class GoldenMachines:
    """The golden machines of one VirtualBox.

    Args:
        session: The connection to it.
        state: The state folder, for the locks that all workers and runs share.
        platform: Which VirtualBox it is, and on what it runs.
        run: The id of the run, whose workers share failures.
        ledger: Where those are written down that are being removed.
        local: Whether the machines' files are on this computer.
        journal: Is told what is waited for.
    """

    def __init__(
        self,
        session: WebSession,
        state: Path,
        platform: Platform,
        run: str,
        *,
        ledger: Ledger,
        local: bool,
        journal: Journal,
    ) -> None:
        self._ledger = ledger
        self._session = session
        self._state = state
        self._folder = state / "golden"
        self._keys = self._folder / "keys"
        self.platform = platform
        self._run = run
        self._local = local
        self._journal = journal
        self._known: dict[str, Golden] = {}
        self._mutex = threading.Lock()

    # Looking

    def all(self) -> list[Golden]:
        """Every golden machine that is whole, those that were discarded too."""
        return [golden for _, golden in self._registered() if golden is not None]

    def find(self, key: str) -> Golden | None:
        """The golden machine of a key, if there is one that may be used."""
        with self._mutex:
            known = self._known.get(key)
        if known is not None:
            return known
        for golden in self.all():
            if golden.key == key and not golden.discarded:
                with self._mutex:
                    self._known[key] = golden
                return golden
        return None

    def forget(self, golden: Golden) -> None:
        """Look again the next time: it may be gone."""
        with self._mutex:
            self._known.pop(golden.key, None)

    def snapshot(self, golden: Golden) -> Snapshot:
        """Its online snapshot.

        Raises:
            ObjectNotFound: It is gone.
        """
        return self._session.virtualbox.find_machine(golden.id).find_snapshot(SNAPSHOT)

    @contextmanager
    def lease(self, golden: Golden, deadline: Deadline) -> Iterator[None]:
        """For the length of the block nobody takes it away: long enough to become the parent of a disk."""
        with held(self._state, f"golden {golden.id}", deadline):
            self._used(golden.id).touch()
            yield

    def in_use(self, golden: Golden) -> bool:
        """Whether machines stand on it."""
        for _ in range(2):
            try:
                return self._has_children(self._session.virtualbox.find_machine(golden.id))
            except ObjectNotFound:
                return False
            except (AccessDenied, InvalidObjectReference):  # a fork that went while we looked
                continue
        return True

    def last_used(self, golden: Golden) -> datetime:
        """When a machine was last forked from it, from this computer."""
        try:
            return datetime.fromtimestamp(self._used(golden.id).stat().st_mtime, UTC)
        except OSError:
            return datetime.fromisoformat(golden.made) if golden.made else datetime.fromtimestamp(0, UTC)

    def size(self, golden: Golden) -> int | None:
        """The bytes that it takes, or None if it is on another computer or gone."""
        try:
            path = Path(self._session.virtualbox.find_machine(golden.id).settings_file_path)
        except ObjectNotFound:
            return None
        return _bytes_in(path.parent) if self._local else None

    # Making

    def new_key_file(self) -> Path:
        """Where the private key goes for a guest that is told of one by cloud-init; there is nothing there yet."""
        self._keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        return key_file(self._keys)

    def ready(
        self,
        key: str,
        deadline: Deadline,
        make: Callable[[], AbstractContextManager[tuple[Machine, Golden]]],
        *,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Golden:
        """The golden machine of a key; made now, by one of all workers and runs, if there is none.

        Args:
            key: Its digest.
            deadline: For how long to wait for another that makes it.
            make: Boots the machine and says what it is; after an error in the block, it takes it away again.
            on_wait: Called now and then while another is at it; what it raises ends the wait.

        Raises:
            BootError: It did not come up, now or for another worker of this run.
            NoGolden: VirtualBox takes no snapshot of it.
            Busy: Another process was still at it at the deadline.
        """
        found = self.find(key)
        if found is not None:
            return found
        asked = time.monotonic()
        lock = held(self._state, f"golden {self.platform.identity} {key}", deadline, on_wait)
        with ExitStack() as locked:
            try:
                with self._journal.waiting("a golden machine"):
                    locked.enter_context(lock)
            except Busy as error:
                raise MachineError(f"another worker did not finish making the golden machine: {error}") from error
            return self.find(key) or self._tried(key, asked, make)

    def _tried(
        self, key: str, asked: float, make: Callable[[], AbstractContextManager[tuple[Machine, Golden]]]
    ) -> Golden:
        failure = self._folder / "failed" / f"{key[:32]}.json"
        before = self._known_failure(failure, asked)
        try:
            golden = self._make(make)
        except BootError as error:
            self._remember(failure, error, before + 1)
            raise
        failure.unlink(missing_ok=True)
        with self._mutex:
            self._known[key] = golden
        return golden

    def _make(self, make: Callable[[], AbstractContextManager[tuple[Machine, Golden]]]) -> Golden:
        with (
            make() as (machine, golden),
            self._journal.doing(f"the snapshot of {machine.name}", SNAPSHOT_PATIENCE),
        ):
            api = machine.api
            machine._disconnect()
            try:
                with self._session.lock(api, LockType.SHARED, Deadline(power.PATIENCE)) as session:
                    session.machine.take_snapshot(SNAPSHOT).wait(Deadline(SNAPSHOT_PATIENCE))
            except VirtualBoxError as error:
                raise NoGolden(f"VirtualBox takes no online snapshot of it: {error.text}") from error
            power.power_off(self._session, api)
            self._used(golden.id).touch()
            golden = replace(golden, made=datetime.now(UTC).isoformat(timespec="seconds"))
            # Last, since it says that the machine is whole.
            self._write(api, golden)
        return golden

    def _known_failure(self, failure: Path, asked: float) -> int:
        """How often it has failed in this run; an error if that was often enough, or while we waited."""
        try:
            known = json.loads(failure.read_text(encoding="utf-8"))
            if known["run"] != self._run:
                return 0
            if known["at"] < asked and known["tries"] < _TRIES:
                return int(known["tries"])
            machine, phase, seconds, report = known["error"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        note = "(it was tried before in this run, and is not tried again; what it showed then is above)"
        raise BootError(machine, phase, seconds, f"{report}\n{note}")

    def _remember(self, failure: Path, error: BootError, tries: int) -> None:
        what = [error.machine, error.phase, error.seconds, error.report]
        document = {"run": self._run, "at": time.monotonic(), "tries": tries, "error": what}
        # Why it failed is what counts; the others may find out for themselves.
        with suppress(OSError):
            failure.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            failure.write_text(json.dumps(document), encoding="utf-8")

    # Taking away

    def discard(self, golden: Golden, reason: str) -> None:
        """Use it no more; it goes as soon as no machine stands on it."""
        self.forget(golden)
        with suppress(ObjectNotFound):
            api = self._session.virtualbox.find_machine(golden.id)
            self._write(api, replace(golden, discarded=reason))
            self.remove(golden)

    def remove(self, golden: Golden) -> bool:
        """Take it away, unless machines stand on it. Returns whether it is gone."""
        try:
            with held(self._state, f"golden {golden.id}", Deadline(1)):
                self._drop_orphans(self._session.virtualbox.find_machine(golden.id))
                if self.in_use(golden):
                    return False
                self.forget(golden)
                self._take_away(golden)
        except (Busy, ObjectInUse, InvalidObjectState):
            return False
        except ObjectNotFound:
            self._take_files(golden)
        return True

    def remove_of(self, disk: Path) -> list[Golden]:
        """Take away those that were made of a disk, unless machines stand on them."""
        return [golden for golden in self.all() if golden.base[0] == str(disk) and self.remove(golden)]

    def why_outdated(self, golden: Golden) -> str | None:
        """Why no machine will be forked from it any more, or None."""
        if golden.discarded:
            return golden.discarded
        if golden.virtualbox != self.platform.version:
            return f"it was made by VirtualBox {golden.virtualbox}"
        if self._local and is_stale(golden):
            return f"{golden.base[0]} is gone or has changed"
        return None

    def remove_outdated(self, current: Golden) -> list[Golden]:
        """Take away what a newer one has replaced, what another VirtualBox made, and what has lost its base."""
        return [
            golden
            for golden in self.all()
            if golden.id != current.id
            and (golden.subject == current.subject or self.why_outdated(golden) is not None)
            and self.remove(golden)
        ]

    # Inside

    def _take_away(self, golden: Golden) -> None:
        """Remove it, written down meanwhile: once it is not registered any more, it says nothing of itself."""
        entries = [Entry(golden.id, golden.name, self.platform.identity)]
        if golden.private_key is not None:
            name = f"the key of {golden.name}"
            entries.append(Entry(golden.private_key, name, self.platform.identity, kind=Kind.FILE))
        # It can be removed all the same where no more can be written, or nobody looks after what is left.
        with suppress(OSError, Busy, NotStarted):
            self._ledger.add(*entries)
        try:
            removal.remove(self._session, golden.id, golden.name, local=self._local)
            self._take_files(golden)
        except (ObjectInUse, InvalidObjectState):
            self._strike(entries)  # it is as it was
            raise
        self._strike(entries)

    def _strike(self, entries: Iterable[Entry]) -> None:
        with suppress(OSError):
            self._ledger.strike(*(entry.id for entry in entries))

    def _take_files(self, golden: Golden) -> None:
        self._used(golden.id).unlink(missing_ok=True)
        if golden.private_key is not None:
            Path(golden.private_key).unlink(missing_ok=True)

    def _registered(self) -> Iterator[tuple[ApiMachine, Golden | None]]:
        for api in self._session.virtualbox.machines_by_groups([GOLDEN_GROUP]):
            with suppress(ObjectNotFound, AccessDenied, InvalidObjectReference):  # gone while we looked
                yield api, Golden.parse(api.get_extra_data(GOLDEN_KEY), api.id, self._keys)

    def _write(self, api: ApiMachine, golden: Golden) -> None:
        with self._session.lock(api, LockType.WRITE, Deadline(power.PATIENCE)) as session:
            session.machine.set_extra_data(GOLDEN_KEY, json.dumps(asdict(golden)))
            session.machine.save_settings()

    def _has_children(self, api: ApiMachine) -> bool:
        """Whether others' disks are differences to those in its snapshot, as its own current ones are."""
        live = api.find_snapshot(SNAPSHOT).machine
        mine = {entry.medium.id for entry in api.medium_attachments if entry.medium is not None}
        for entry in live.medium_attachments:
            if entry.medium is not None and any(child.id not in mine for child in entry.medium.children):
                return True
        return False

    def _drop_orphans(self, api: ApiMachine) -> None:
        """Delete the disks that forks have left which nobody knows of any more.

        It is leased, so no fork of it is being made. One that is just being removed has no machine for a moment,
        but it is in somebody's ledger until it is gone.
        """
        known = names_written_down(self._state)
        for entry in api.find_snapshot(SNAPSHOT).machine.medium_attachments:
            for child in entry.medium.children if entry.medium is not None else ():
                with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):
                    if known.isdisjoint(Path(child.location).parts):
                        drop_orphan(child)

    def _used(self, golden_id: str) -> Path:
        folder = self._folder / "used"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder / golden_id


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
