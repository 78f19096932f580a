"""Makes machines in VirtualBox, cold ones and forks, not started yet; nothing half made is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Bases, ImageError, Library, Report, VirtualBoxConverter
from pytest_vbox.machines import build, fork, processes, removal, seed_drive
from pytest_vbox.machines.body import Built
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.forwards import Forwards
from pytest_vbox.machines.golden import Golden
from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP, Plan
from pytest_vbox.models import Image, MachineModel
from pytest_vbox.ownership import Entry, Kind, Ledger
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.enums import MediumType
from pytest_vbox.virtualbox.errors import (
    Failed,
    FileError,
    InvalidObjectState,
    IprtError,
    ObjectInUse,
    ObjectNotFound,
    OperationTimeout,
    VirtualBoxError,
)

_KINDS: Final = {"multiattach": MediumType.MULTI_ATTACH, "immutable": MediumType.IMMUTABLE}


class Maker:
    """Makes machines.

    Args:
        context: Where they live.
        identity: Which VirtualBox that is, for the ledger.
        ledger: Where each is written down before it comes into being.
        golden: The golden machines.
    """

    def __init__(self, context: Context, identity: str, ledger: Ledger, golden: GoldenMachines) -> None:
        self._context = context
        self._session = context.session
        self.identity = identity
        self._ledger = ledger
        self._golden = golden
        #: The images that were fetched and imported.
        self.library = Library(
            places.cache_folder(),
            context.state,
            VirtualBoxConverter(context.session.virtualbox),
            lambda half: ledger.holding(Entry(str(half), "an image being imported", identity, kind=Kind.DISK)),
        )
        self._settled: set[frozenset[Path]] = set()
        self.bases = Bases(context.session, context.state, local=context.local)

    def cold(self, plan: Plan, forwards: Forwards | None = None) -> Built:
        """A machine with its disk, which has never been started.

        Args:
            plan: What it shall be.
            forwards: Its ports, if they are chosen already.
        """
        deadline = Deadline(plan.boot_timeout)
        with self._written_down(plan, forwards) as ports:
            with self._disks(plan.model, deadline) as disks:
                machine = build.create(self._session, plan, ports.rules, record_serial=self._context.local)
                base = disks[disk_of(plan.model.image)]
                build.attach_disks(self._session, machine, plan, base, deadline, disks, local=self._context.local)
            seed_drive.prepare(self._context, machine, plan, deadline)
            return Built(plan, machine, ports)

    def fork(self, plan: Plan, golden: Golden, forwards: Forwards | None = None) -> Built:
        """A machine that goes on where a golden one was when it was ready, once it is started.

        Args:
            plan: What it shall be.
            golden: What it is forked from.
            forwards: Its ports, if they are chosen already.

        Raises:
            ObjectNotFound: The golden machine is gone.
        """
        deadline = Deadline(plan.boot_timeout)
        with self._written_down(plan, forwards) as ports, self._golden.lease(golden, deadline):
            machine = fork.create(
                self._session,
                plan,
                self._golden.snapshot(golden),
                ports.rules,
                deadline,
                record_serial=self._context.local,
                host_key=golden.host_key or None,
            )
            return Built(plan, machine, ports, golden)

    def settle_disks(self, model: MachineModel, deadline: Deadline) -> None:
        """Make a model's disks ready to be shared, so that VirtualBox does not touch their files any more.

        It changes a file's time, though nothing in it, when it gets to know it.
        """
        disks = frozenset([disk_of(model.image), *_other_disks(model)])
        if disks not in self._settled:
            with self._disks(model, deadline):
                self._settled.add(disks)

    def image_with_disk(self, image: Image, report: Report) -> Image:
        """The image with the disk, and the login, that the library has for it; fetched now if need be."""
        if self._context.local:
            return self.library.usable(image, report=report).applied_to(image)
        if image.disk is None:
            raise ImageError(
                f"image {image.source}: VirtualBox is on another computer, where nothing is fetched or "
                "imported; it needs disk, a path there to a VDI, VMDK or VHD"
            )
        if image.sha256 is not None:
            raise ImageError(
                f"image {image.source}: VirtualBox is on another computer, so sha256 cannot be verified here; "
                "verify the file there, and take sha256 out"
            )
        return image

    def take_away(self, machine_id: str, name: str) -> bool:
        """Remove a machine, or what is left of one that is not registered (any more). Returns whether it was.

        Args:
            machine_id: Its UUID in VirtualBox.
            name: The name that it was given when it was made.
        """
        local = self._context.local
        try:
            registered = removal.remove(self._session, machine_id, name, local=local)
        except OperationTimeout:
            # Its process does not listen to VirtualBox any more, but it does to the operating system.
            if not local or not processes.end(machine_id):
                raise
            registered = removal.remove(self._session, machine_id, name, local=local)
        if not registered:
            if local:
                processes.end(machine_id)
            self.bases.drop_orphans(name)
            if local:
                self._forget_seed(name)
                removal.remove_folder(self._session, name)
        return registered

    def _forget_seed(self, name: str) -> None:
        """Make VirtualBox forget the seed of a machine that it does not know (any more): that is still listed."""
        virtualbox = self._session.virtualbox
        for group in (GROUP, GOLDEN_GROUP):
            folder = Path(virtualbox.compose_machine_filename(name, group)).parent
            if folder.name == name:
                # Half written, it was never known; taken by another machine, it is not ours to close.
                with suppress(FileError, IprtError, Failed, InvalidObjectState, ObjectInUse, ObjectNotFound):
                    seed_drive.forget(self._session, folder)

    @contextmanager
    def _written_down(self, plan: Plan, forwards: Forwards | None) -> Iterator[Forwards]:
        """Write a machine down in the ledger and choose its ports; if making it fails, nothing is left of it."""
        new = forwards is None
        ports = forwards or Forwards(
            self._context.state, plan.model, self._context.bind, fixed_ports=plan.group != GOLDEN_GROUP
        )
        entry = Entry(plan.id, plan.name, self.identity, plan.owner.test, ports=ports.reserved)
        try:
            self._ledger.add(entry)
            ports.on_change = lambda reserved: self._ledger.ports(plan.id, reserved)
            yield ports
        except BaseException as error:
            if new:
                ports.release()
            try:
                self.take_away(plan.id, plan.name)
                self._ledger.strike(plan.id)
            except VirtualBoxError as second:
                error.add_note(f"(then removing the half-made machine {plan.name} failed too: {second})")
            raise

    @contextmanager
    def _disks(self, model: MachineModel, deadline: Deadline) -> Iterator[Mapping[Path, Medium]]:
        """All disks of a machine that are there already, ready to be shared, by their file."""
        wanted = {disk_of(model.image): _KINDS[model.image.attach]}
        wanted |= {disk: _KINDS[attach] for disk, attach in _other_disks(model).items()}
        # One file is one base, by however many names: nobody shall wait for himself.
        files = {disk: os.path.realpath(disk) if self._context.local else str(disk) for disk in wanted}
        names = {file: disk for disk, file in files.items()}
        with ExitStack() as held:
            # Everybody takes them in the same order, so that nobody waits for one who waits for them.
            ready = {
                file: held.enter_context(self.bases.ready(names[file], wanted[names[file]], deadline))
                for file in sorted(names)
            }
            yield {disk: ready[file] for disk, file in files.items()}


def _other_disks(model: MachineModel) -> dict[Path, str]:
    """What becomes of a machine's changes to its disks, but for the image's own, by their files."""
    return {
        device.medium: device.attach
        for device in model.hardware.devices
        if device.type == "hard-disk" and device.medium is not None
    }


def disk_of(image: Image) -> Path:
    """The disk of an image that has gone through `Maker.image_with_disk`."""
    if image.disk is None:
        raise ImageError(f"image {image.source} has no disk")
    return image.disk
