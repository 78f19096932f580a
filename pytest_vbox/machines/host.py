"""One VirtualBox, connected: makes machines and takes them away again."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import load_key
from pytest_vbox.images import Bases, ImageError, Library, Report, VirtualBoxConverter, silent
from pytest_vbox.machines import build, environment, removal, seed_drive
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.forwards import Forwards
from pytest_vbox.machines.machine import Built, Machine
from pytest_vbox.machines.plan import Owner, Plan, machine_name
from pytest_vbox.machines.provision import Provisioned
from pytest_vbox.machines.run_key import RunKey, remove_abandoned_keys
from pytest_vbox.models import Catalogue, Image, MachineModel
from pytest_vbox.ownership import Entry, Ledger, abandoned
from pytest_vbox.settings import Keep, Reset, Settings
from pytest_vbox.virtualbox import Medium, VirtualBox, WebSession
from pytest_vbox.virtualbox.enums import MediumType
from pytest_vbox.virtualbox.errors import VirtualBoxError

logger = logging.getLogger(__name__)

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_KINDS: Final = {"multiattach": MediumType.MULTI_ATTACH, "immutable": MediumType.IMMUTABLE}


class VirtualBoxHost:
    """A connected VirtualBox, and everything pytest-vbox made in it.

    Use :func:`pytest_vbox.connect`, or the ``vbox_host`` fixture.

    Args:
        session: The logged-on connection.
        settings: What the user set.
        catalogue: The images and hardware profiles.
        state: The state folder.
        url: The web service's address.
        run: The id of the run, shared by all its workers.
        ssh_key: A private key to log in with instead of the images' own.
        artifacts: Where what machines show is saved; by default as set.
        on_close: Called when everything is gone.
        report: Is told how far a download, or what else takes long, has come.
    """

    def __init__(
        self,
        session: WebSession,
        settings: Settings,
        catalogue: Catalogue,
        *,
        state: Path,
        url: str,
        run: str | None = None,
        ssh_key: Path | None = None,
        artifacts: Path | None = None,
        on_close: Callable[[], None] = lambda: None,
        report: Report = silent,
    ) -> None:
        self.session = session
        self.settings = settings
        self.catalogue = catalogue
        self.url = url
        self._on_close = on_close
        self.run = run or uuid.uuid4().hex
        name = urlsplit(url).hostname or "localhost"
        self.local = name in _LOOPBACK
        #: Where forwarded ports are reached.
        self.address = "127.0.0.1" if self.local else name
        self._run_key = RunKey(state, self.run)
        self.context = Context(
            session, state, self.local, self.address, artifacts or settings.artifacts, ssh_key, self._run_key
        )
        self._identity = f"{self.address}:{session.virtualbox.home_folder}"
        self._ledger = Ledger(state, self.run)
        self.report = report
        #: The images that were fetched and imported.
        self.library = Library(places.cache_folder(), state, VirtualBoxConverter(session.virtualbox))
        self._bases = Bases(session, state, local=self.local)
        self._provision = Provisioned(session.virtualbox, places.cache_folder(), state, self.run)
        self._machines: dict[str, Machine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What it is

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
        return self._capacity

    @cached_property
    def _capacity(self) -> tuple[int, int]:
        host = self.api.host
        return host.memory_size, host.processor_online_count

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that this process made and that are still there."""
        return tuple(self._machines.values())

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
            reset: What its ``reset()`` does; by default what is set.
            start: Start it, and wait for SSH.
            boot_timeout: Seconds from power-on to SSH; by default the image's, else the option's.
            test: The id of the test it is for.

        Raises:
            ModelError: No such image or profile, or wrong hardware or user-data; before anything is touched.
            KeyUnusable: The image's private key cannot be used; before anything is touched.
            ImageError: The image's disk cannot be used.
            BootError: The machine did not come up. It is gone again, unless it is to be kept.
        """
        __tracebackhide__ = True  # what went wrong is in the error; `pytest --full-trace` shows the way there
        image = self.settings.image if image is None else image
        profile = self.settings.profile if profile is None else profile
        model = self.catalogue.machine(image, profile, hardware)
        seed_drive.check(self.context, model)
        key = self.context.private_key(model.image)
        if key is not None:
            load_key(key)
        timeout = boot_timeout or model.image.boot_timeout or self.settings.boot_timeout
        wish = name or model.hardware.name or test.rpartition("::")[2] or model.image_name
        mode = self.settings.reset if reset is None else Reset(reset)
        model = environment.fit(self.api, model, self.capacity, local=self.local)
        model = replace(model, image=self._with_disk(model.image))
        if model.image.provision:
            model = self._provisioned(model, timeout, test)
        machine = self._make(Plan(machine_name(wish), model, Owner(self.run, test), timeout, mode))
        if start:
            self._start(machine)
        return machine

    def _make(self, plan: Plan) -> Machine:
        machine = Machine(self.context, self._create(plan), self._replace)
        self._machines[plan.id] = machine
        return machine

    def _start(self, machine: Machine) -> None:
        try:
            machine.start()
        except BaseException as error:
            self._remove_after(machine, error)
            raise

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
            machine = self._make(Plan(name, bare, Owner(self.run, test), timeout))
            self._start(machine)
            try:
                yield machine
            except BaseException as error:
                self._remove_after(machine, error)
                raise
            self.remove(machine)

        disk = self._provision.disk(model, self._disk(model.image), timeout, make)
        return replace(model, image=model.image.model_copy(update={"disk": disk, "provision": ()}))

    def remove(self, machine: Machine) -> None:
        """Take a machine away: switched off, unregistered, its own files deleted. Twice does no harm.

        Raises:
            VirtualBoxError: VirtualBox refused. The machine stays in the ledger, for the next run to remove.
        """
        machine._disconnect()
        removal.remove(self.session, machine.id, local=self.local)
        self._forget(machine)

    def keep(self, machine: Machine) -> str:
        """Let a machine live on after the run. Returns how to enter it and how to remove it."""
        self._ledger.strike(machine.id)
        self._machines.pop(machine.id, None)
        login = machine._plan.model.image
        enter = "it has no SSH"
        if machine._forwards.ssh_port is not None:
            host, port = machine.address
            private_key = self.context.lasting_key(login, machine.api)
            key = f" -i {private_key}" if private_key else ""
            enter = f"ssh -p {port}{key} -o StrictHostKeyChecking=no {login.user}@{host}"
        return (
            f"kept machine {machine.name}: {enter}; "
            f"remove it: VBoxManage controlvm {machine.name} poweroff; "
            f"VBoxManage unregistervm {machine.name} --delete{seed_drive.removal_by_hand(machine.api)}"
        )

    def clean_up_abandoned(self) -> list[str]:
        """Remove what processes that died have left in this VirtualBox. Returns the names of the machines.

        What cannot be removed stays written down, for the next time.
        """
        removed: list[str] = []
        identity = self.identity
        remove_abandoned_keys(self.context.state)
        with abandoned(self.context.state) as ledgers:
            for ledger in ledgers:
                for entry in [entry for entry in ledger.entries if entry.host == identity]:
                    try:
                        if self._take_away(entry.id, entry.name):
                            removed.append(entry.name)
                        ledger.strike(entry)
                    except VirtualBoxError:
                        logger.warning("could not remove the abandoned machine %s", entry.name, exc_info=True)
        return removed

    def close(self) -> None:
        """Remove every machine that is left and log off.

        Raises:
            VirtualBoxError: A machine could not be removed (the first; the others were tried too).
        """
        errors: list[VirtualBoxError] = []
        for machine in self.machines:
            try:
                self.remove(machine)
            except VirtualBoxError as error:
                errors.append(error)
        self._ledger.close()
        self._run_key.close()
        self.session.close()
        self._on_close()
        if errors:
            raise errors[0]

    def artifacts_folder(self, name: str, test: str) -> Path:
        """Where what a machine showed in a test is saved."""
        return self.context.artifacts_folder(name, test)

    def _replace(self, machine: Machine) -> Built:
        """Remove a machine and make a new one from the same plan, not started yet."""
        old = machine._plan
        wish = re.sub(r"^pytest-|-[0-9a-f]{8}$", "", old.name)
        built = self._create(replace(old, id=str(uuid.uuid4()), name=machine_name(wish)))
        self.remove(machine)
        self._machines[built.plan.id] = machine
        return built

    def _create(self, plan: Plan) -> Built:
        deadline = Deadline(plan.boot_timeout)
        forwards = Forwards(self.context.state, plan.model, self.context.bind)
        self._ledger.add(Entry(plan.id, plan.name, self.identity, plan.owner.test))
        try:
            with self._disks(plan.model, deadline) as disks:
                machine = build.create(
                    self.session,
                    plan,
                    forwards.rules,
                    record_serial=self.local,
                    key=self.context.private_key(plan.model.image),
                )
                base = disks[self._disk(plan.model.image)]
                build.attach_disks(self.session, machine, plan, base, deadline, disks)
            seed_drive.prepare(self.context, machine, plan, deadline)
        except BaseException as error:
            forwards.release()
            self._remove_half_made(plan, error)
            raise
        return Built(plan, machine, forwards)

    @contextmanager
    def _disks(self, model: MachineModel, deadline: Deadline) -> Iterator[Mapping[Path, Medium]]:
        """All disks of a machine that are there already, ready to be shared, by their file."""
        wanted = {self._disk(model.image): _KINDS[model.image.attach]}
        for controller in model.hardware.storage:
            for device in controller.devices:
                if device is not None and device.type == "hard-disk" and device.medium is not None:
                    wanted[device.medium] = _KINDS[device.attach]
        with ExitStack() as held:
            # Everybody takes them in the same order, so that nobody waits for one who waits for them.
            yield {
                disk: held.enter_context(self._bases.ready(disk, wanted[disk], deadline))
                for disk in sorted(wanted)
            }

    def _with_disk(self, image: Image) -> Image:
        """The image with the disk, and the login, that the library has for it; fetched now if need be."""
        if not self.local:
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
        return self.library.usable(image, report=self.report).applied_to(image)

    def _disk(self, image: Image) -> Path:
        if image.disk is None:  # _with_disk has seen to it
            raise ImageError(f"image {image.source} has no disk")
        return image.disk

    def _take_away(self, machine_id: str, name: str) -> bool:
        """Remove a machine, or the folder of one that was never registered. Returns whether it was."""
        registered = removal.remove(self.session, machine_id, local=self.local)
        if not registered and self.local:
            removal.remove_folder(self.session, name)
        return registered

    def _remove_half_made(self, plan: Plan, error: BaseException) -> None:
        try:
            self._take_away(plan.id, plan.name)
            self._ledger.strike(plan.id)
        except VirtualBoxError as second:
            error.add_note(f"(then removing the half-made machine {plan.name} failed too: {second})")

    def _remove_after(self, machine: Machine, error: BaseException) -> None:
        if self.settings.keep is not Keep.NEVER and isinstance(error, Exception):
            error.add_note(self.keep(machine))
            return
        try:
            self.remove(machine)
        except VirtualBoxError as second:
            error.add_note(f"(then removing the machine {machine.name} failed too: {second})")

    def _forget(self, machine: Machine) -> None:
        machine._forwards.release()
        self._ledger.strike(machine.id)
        self._machines.pop(machine.id, None)
