"""One VirtualBox, connected: makes machines and takes them away again."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from pytest_vbox import places
from pytest_vbox.exhaustion import explained
from pytest_vbox.guest import load_key
from pytest_vbox.images import Library, Report, silent
from pytest_vbox.machines import environment, seed_drive
from pytest_vbox.machines.cache import Cache
from pytest_vbox.machines.cleaner import Cleaner
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.golden_key import Platform
from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.machines.machine import Machine
from pytest_vbox.machines.maker import Maker, disk_of
from pytest_vbox.machines.plan import Owner, Plan, machine_name
from pytest_vbox.machines.pool import Wanted
from pytest_vbox.machines.provision import Provisioned
from pytest_vbox.machines.run_key import RunKey
from pytest_vbox.machines.supply import Supply
from pytest_vbox.models import Catalogue, MachineModel
from pytest_vbox.ownership import Capacity, Entry, KeptMachine, Kind, Ledger, Limits
from pytest_vbox.records import Journal, Way
from pytest_vbox.settings import Reset, Settings
from pytest_vbox.trust import is_loopback
from pytest_vbox.virtualbox import VirtualBox, WebSession

logger = logging.getLogger(__name__)


class VirtualBoxHost:
    """A connected VirtualBox, and everything pytest-vbox made in it.

    Use :func:`pytest_vbox.connect`, or the ``vbox_host`` fixture.

    Args:
        session: The logged-on connection.
        settings: What the user set.
        catalogue: The images and hardware profiles.
        state: The state folder.
        run: The id of the run, shared by all its workers.
        ssh_key: A private key to log in with instead of the images' own.
        artifacts: Where what machines show is saved; by default as set.
        on_close: Called when everything is gone.
        report: Is told how far a download, or what else takes long, has come.
        journal: Is told what is waited for, and how machines came.
        ledger: Where machines are written down; it is closed with the host.
        retire: Is given what a process that died had written down besides machines and files.
    """

    def __init__(
        self,
        session: WebSession,
        settings: Settings,
        catalogue: Catalogue,
        *,
        state: Path,
        run: str | None = None,
        ssh_key: Path | None = None,
        artifacts: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
        report: Report = silent,
        journal: Journal | None = None,
        ledger: Ledger | None = None,
        retire: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.session = session
        self.settings = settings
        self.catalogue = catalogue
        self._on_close = on_close
        self.run = run or uuid.uuid4().hex
        self.local = is_loopback(session.url)
        #: Where forwarded ports are reached.
        self.address = "127.0.0.1" if self.local else urlsplit(session.url).hostname or ""
        self._ledger = ledger or Ledger(state, self.run)
        self._run_key = RunKey(
            state, self.run, lambda folder: self._ledger.add(Entry(str(folder), "a key", "", kind=Kind.FILE))
        )
        self.journal = journal or Journal()
        self.journal.virtualbox = session.version
        self.context = Context(
            session,
            state,
            self.local,
            self.address,
            artifacts or settings.artifacts,
            ssh_key,
            self._run_key,
            self.journal,
        )
        self._identity = f"{self.address}:{session.virtualbox.home_folder}"
        self.report = report
        #: The golden machines, from which others are forked.
        self.golden = GoldenMachines(
            session,
            state,
            Platform(session.virtualbox, self._identity, self.local),
            self.run,
            ledger=self._ledger,
            local=self.local,
            journal=self.journal,
        )
        self._maker = Maker(self.context, self._identity, self._ledger, self.golden)
        self._cleaner = Cleaner(self.context, self._identity, self._maker, retire)
        self._provision = Provisioned(
            session.virtualbox,
            self._maker.bases,
            places.cache_folder(),
            state,
            self.run,
            lambda half: self._ledger.holding(
                Entry(str(half), "a disk being provisioned", self._identity, kind=Kind.DISK)
            ),
        )
        #: What is kept for later runs.
        self.cache = Cache(self.golden, self._provision, self._maker.bases)
        self._capacity: Capacity | None = None
        self._capacity_lock = threading.Lock()
        self._supply = Supply(
            self.context,
            self._maker,
            self.golden,
            self._ledger,
            self._room,
            settings=settings,
            project=json.dumps([str(folder) for folder in catalogue.folders]),
            planned=self._planned,
            trim=lambda: self.cache.trim(settings.cache_size),
        )
        self._machines: list[Machine] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What it is

    @property
    def url(self) -> str:
        """The web service's address; a private one that died is replaced at another."""
        return self.session.url

    @property
    def api(self) -> VirtualBox:
        """The typed VirtualBox underneath."""
        return self.session.virtualbox

    @property
    def version(self) -> str:
        """VirtualBox's version."""
        return self.session.version

    @property
    def capacity(self) -> tuple[int, int]:
        """The host's memory in MiB and its processor cores."""
        return self._memory_and_cores

    @cached_property
    def _memory_and_cores(self) -> tuple[int, int]:
        host = self.api.host
        return host.memory_size, host.processor_online_count

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that this process made and that are still there."""
        return tuple(self._machines)

    @property
    def library(self) -> Library:
        """The images that were fetched and imported."""
        return self._maker.library

    @property
    def identity(self) -> str:
        """Which VirtualBox this is, whatever address its service has: computer and configuration folder."""
        return self._identity

    # Machines

    def machine(
        self,
        image: str | Mapping[str, object] | None = None,
        profile: str | Mapping[str, object] | None = None,
        *,
        name: str | None = None,
        hardware: Mapping[str, object] | None = None,
        reset: Reset | str | None = None,
        start: bool = True,
        boot_timeout: float | None = None,
        test: str = "",
    ) -> Machine:
        """Make a machine; it stays until :meth:`remove` or :meth:`close`.

        Args:
            image: The name of an image, or what it has to be (``{"os_family": "ubuntu"}``); by default the one
                that is set, else the only one.
            profile: The name of a hardware profile, or what it has to have (``{"min_memory": "2 GiB"}``); by
                default the one that is set, else ``small``.
            name: A wish for its name, which is made unique.
            hardware: Keys of the hardware model that come over the profile's.
            reset: How it comes, and what its ``reset()`` does; by default what is set. With ``live`` it is forked
                from a machine that was booted once, or taken from those that wait for it.
            start: Start it, and wait for SSH. One that is not started has never been: it will boot.
            boot_timeout: Seconds from power-on to SSH; by default the image's, else the option's.
            test: The id of the test it is for.

        Raises:
            ModelError: No such image or profile, or wrong hardware or user-data; before anything is touched.
            KeyUnusable: The image's private key cannot be used; before anything is touched.
            ImageError: The image's disk cannot be used.
            CapacityExceeded: There will never be room for so many machines.
            BootError: The machine did not come up. It is gone again, unless it is to be kept.
        """
        __tracebackhide__ = True  # what went wrong is in the error; `pytest --full-trace` shows the way there
        started = time.monotonic()
        self.journal.take_waited()
        wanted = self.wanted(image, profile, hardware)
        mode = self.settings.reset if reset is None else Reset(reset)
        with explained("making a machine", self.context.folders):
            plan = self._plan(wanted, name=name, mode=mode, boot_timeout=boot_timeout, test=test)
            if start and mode is Reset.LIVE:
                # A machine that waits has a name already.
                machine, way = self._supply.live(plan, wanted if name is None else None)
            else:
                machine, way = self._supply.cold(plan, start=start), Way.COLD
        self._machines.append(machine)
        if start:
            self._supply.tell(machine, way, time.monotonic() - started)
        return machine

    def wanted(
        self,
        image: str | Mapping[str, object] | None = None,
        profile: str | Mapping[str, object] | None = None,
        hardware: Mapping[str, object] | None = None,
    ) -> Wanted:
        """What :meth:`machine` with these arguments asks for; for :meth:`expect`."""
        image = self.settings.image if image is None else image
        profile = self.settings.profile if profile is None else profile
        return Wanted.of(image, profile, hardware)

    def expect(self, upcoming: Sequence[Wanted]) -> None:
        """Say what will be asked for next, in this order, so that machines can be made ready in advance.

        Args:
            upcoming: All that is known of; what is parked and not in it is let go.
        """
        self._supply.pool.expect(upcoming if self.settings.reset is Reset.LIVE else ())

    def remove(self, machine: Machine) -> None:
        """Take a machine away: switched off, unregistered, its own files deleted. Twice does no harm.

        Raises:
            VirtualBoxError: VirtualBox refused. The machine stays in the ledger, for the next run to remove.
        """
        self._supply.remove(machine)
        self._forget(machine)

    def discard(self, machine: Machine) -> None:
        """Take a machine away while the caller goes on. :meth:`problems` tells what could not be removed."""
        self._forget(machine)
        self._supply.discard(machine)

    def problems(self) -> list[tuple[str, Exception]]:
        """The names of discarded machines that could not be removed, and why; each is told once."""
        return self._supply.problems()

    def keep(self, machine: Machine) -> str:
        """Let a machine live on after the run. Returns how to enter it and how to remove it."""
        self._forget(machine)
        return self._supply.keep(machine)

    def kept(self) -> list[KeptMachine]:
        """The machines of whichever run that were kept (``--vbox-keep``) and are still there."""
        return self._cleaner.kept()

    def clean_up_abandoned(self, dying: Path | None = None) -> list[str]:
        """Remove what processes that died have left in this VirtualBox. Returns the names of the machines.

        What cannot be removed stays written down, for the next time.

        Args:
            dying: The ledger of a process that is just dying, and is waited for.

        Raises:
            Busy: Another process was cleaning up, and may have looked before the dying one died.
            ServiceUnavailable: VirtualBox went away meanwhile.
        """
        return self._cleaner.clean(dying)

    def close(self) -> None:
        """Remove every machine that is left and log off.

        Raises:
            VirtualBoxError: A machine could not be removed (the first; the others were tried too).
        """
        self.context.ending.set()
        for machine in self.machines:
            self.discard(machine)
        self._supply.close()
        self._run_key.close()
        self._ledger.strike(str(self._run_key.folder))
        if self._capacity is not None:
            self._capacity.close()
        self.session.close()
        self._on_close()
        self._ledger.close()
        for name, error in self.problems():
            error.add_note(f"(machine {name} is left; the next run will try again)")
            raise error

    def artifacts_folder(self, name: str, test: str) -> Path:
        """Where what a machine showed in a test is saved."""
        return self.context.artifacts_folder(name, test)

    def _plan(
        self, wanted: Wanted, *, name: str | None = None, mode: Reset, boot_timeout: float | None, test: str
    ) -> Plan:
        """Everything decided about a machine, and looked at, while nothing is made yet."""
        __tracebackhide__ = True
        image, profile, hardware = wanted.arguments
        model = self.catalogue.machine(image, profile, hardware)
        seed_drive.check(self.context, model)
        key = self.context.private_key(model.image)
        if key is not None:
            load_key(key)
        timeout = boot_timeout or model.image.boot_timeout or self.settings.boot_timeout
        wish = name or model.hardware.name or test.rpartition("::")[2] or model.image_name
        self.session.refresh()
        model = environment.fit(self.api, model, self.capacity, local=self.local)
        with self.journal.doing(f"the disk of the image {model.image_name}"):
            model = replace(model, image=self._maker.image_with_disk(model.image, self._told))
        if model.image.provision:
            model = self._provisioned(model, timeout, test)
        # Only now, since a box may have brought its own.
        key = self.context.private_key(model.image)
        return Plan(machine_name(wish), model, Owner(self.run, test), timeout, mode, key)

    def _told(self, what: str, done: int, total: int | None) -> None:
        """Tell how far something has come, and end it if the run ends: nobody wants the machine any more."""
        self.context.check_wanted()
        self.report(what, done, total)

    def _room(self) -> Capacity:
        """What all machines of the host may take; made when the first one is asked for."""
        with self._capacity_lock:
            if self._capacity is None:
                limits = Limits.of(*self.capacity, self.settings.max_machines)
                self._capacity = Capacity(self.context.state, self._identity, limits, self.run)
            return self._capacity

    def _planned(self, wanted: Wanted) -> Plan:
        return self._plan(wanted, mode=Reset.LIVE, boot_timeout=None, test="")

    def _provisioned(self, model: MachineModel, timeout: float, test: str) -> MachineModel:
        """The model with the disk that its image's provisioning makes."""
        if not self.local:
            raise MachineError(
                f"image {model.image_name} has provision, which is only possible with VirtualBox on this computer"
            )

        @contextmanager
        def make() -> Iterator[Machine]:
            bare = replace(model, image=model.image.model_copy(update={"provision": ()}))
            name = machine_name(f"provision-{model.image_name}")
            plan = Plan(name, bare, Owner(self.run, test), timeout, key=self.context.private_key(bare.image))
            machine = self._supply.cold(plan)
            with self._supply.parting_with(machine):
                yield machine

        with self.journal.doing(f"the provisioning of the image {model.image_name}"):
            check = self.context.check_wanted
            disk = self._provision.disk(model, disk_of(model.image), timeout, make, check)
        return replace(model, image=model.image.model_copy(update={"disk": disk, "provision": ()}))

    def _forget(self, machine: Machine) -> None:
        if machine in self._machines:
            self._machines.remove(machine)
