"""Provisioning: what an image's ``provision`` does to its disk is done once, and kept in the cache.

The result is a whole disk of its own, made of the image's disk and what the steps wrote. Machines then start from
it as from any other base. Its name in the cache is a digest of all that it was made of, so a changed step, script
or base makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.exhaustion import HostExhausted, explain, own_folders
from pytest_vbox.files import read_regular
from pytest_vbox.images import Bases
from pytest_vbox.machines.context import NotWanted
from pytest_vbox.machines.errors import MachineError, StepError
from pytest_vbox.machines.machine import Machine
from pytest_vbox.machines.steps import run_step
from pytest_vbox.models import Hardware, Image, MachineModel, ProvisionStep
from pytest_vbox.ownership import held
from pytest_vbox.virtualbox import Medium, VirtualBox
from pytest_vbox.virtualbox.enums import AccessMode, DeviceType, MediumVariant
from pytest_vbox.virtualbox.errors import VirtualBoxError

_FORMAT: Final = 1  # of what is kept; a higher one makes everything anew
# For a disk of some tens of gigabytes on a slow drive.
_COPYING: Final = 3600.0
_SHUTTING_DOWN: Final = 120.0

Make = Callable[[], AbstractContextManager[Machine]]


class ProvisionError(StepError):
    """A step of an image's provisioning failed. The image's own disk is as it was, and no machine was made."""


@dataclass(frozen=True)
class ProvisionedDisk:
    """A disk that is kept.

    Attributes:
        path: Its file.
        image: The name of the image that it was made for, if that is known.
        size: The bytes that it takes.
        last_used: When a machine was last made of it.
    """

    path: Path
    image: str
    size: int
    last_used: datetime


class Provisioned:
    """The provisioned disks of one VirtualBox on this computer.

    Args:
        virtualbox: The VirtualBox.
        bases: What the disks become when machines use them.
        cache: The cache folder.
        state: The state folder, for the lock that all workers and runs share.
        run: The id of the run, whose workers share a failure too.
        noted: Has a disk written down while it is being made, for whoever cleans up.
    """

    def __init__(
        self,
        virtualbox: VirtualBox,
        bases: Bases,
        cache: Path,
        state: Path,
        run: str,
        noted: Callable[[Path], AbstractContextManager[None]],
    ) -> None:
        self._virtualbox = virtualbox
        self._bases = bases
        self._folder = cache / "provisioned"
        self._state = state
        self._run = run
        self._noted = noted

    def disk(
        self, model: MachineModel, disk: Path, timeout: float, make: Make, check: Callable[[], None] = lambda: None
    ) -> Path:
        """The disk that an image's provisioning makes; made now if it has not been yet.

        Args:
            model: The machine's model.
            disk: The image's own disk.
            timeout: How long the machine's boot may take, in seconds.
            make: Makes and starts a machine of the image without its provisioning, which is gone after the block.
            check: Called now and then; what it raises ends all of it.

        Raises:
            ProvisionError: A step failed, now or in another worker of this run.
            Busy: Another process was still at it when its time was over.
        """
        image = model.image
        name = key(image, disk)
        found = self._find(name)
        if found is not None:
            with suppress(OSError):  # a cache that cannot be written has the disk all the same
                _used(found).touch()
            return found
        # Never twice the same, since VirtualBox remembers the disk of a file that somebody deleted.
        target = self._folder / f"{name}-{secrets.token_hex(4)}.vdi"
        steps = sum(step.timeout for step in image.provision)
        lock = f"provision {self._folder / name}"
        with held(self._state, lock, Deadline(timeout + steps + _SHUTTING_DOWN + _COPYING), check):
            found = self._find(name)
            if found is not None:
                return found
            failure = self._folder / f"{name}.failed"
            self._raise_known(failure)
            try:
                self._make(model, target, make, check)
                _used(target).write_text(model.image_name, encoding="utf-8")
            except NotWanted:
                raise  # by this worker; others may want it all the same
            except Exception as error:
                # The other workers of this run wait for the same, and would fail the same way; but for what is
                # this computer's fault, and may be over soon.
                known = isinstance(error, HostExhausted | OSError)
                if not known and explain(error, "provisioning", own_folders) is None:
                    with suppress(OSError):
                        self._folder.mkdir(parents=True, exist_ok=True)
                        failure.write_text(json.dumps({"run": self._run, "error": str(error)}), encoding="utf-8")
                raise
        return target

    def _find(self, name: str) -> Path | None:
        return next((path for path in sorted(self._folder.glob(f"{name}-*.vdi")) if not _is_half(path)), None)

    def all(self) -> list[ProvisionedDisk]:
        """Every disk that is kept."""
        return [_described_disk(path) for path in sorted(self._folder.glob("*.vdi")) if not _is_half(path)]

    def in_use(self, disk: ProvisionedDisk) -> bool:
        """Whether machines, golden ones too, stand on it."""
        try:
            return self._bases.in_use(disk.path)
        except VirtualBoxError:
            return True  # somebody is just taking it away, or using it

    def remove(self, disk: ProvisionedDisk) -> bool:
        """Take it away, unless machines stand on it. Returns whether it is gone."""
        if not self._bases.forget(disk.path, Deadline(1)):
            return False
        disk.path.unlink(missing_ok=True)
        _used(disk.path).unlink(missing_ok=True)
        return True

    def _raise_known(self, failure: Path) -> None:
        try:
            known = json.loads(failure.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(known, dict) and known.get("run") == self._run:
            raise ProvisionError(f"{known.get('error')}\n(another worker of this run tried it)")

    def _make(self, model: MachineModel, target: Path, make: Make, check: Callable[[], None]) -> None:
        with make() as machine:
            for number, step in enumerate(model.image.provision, start=1):
                check()
                run_step(machine, number, step, "provisioning", ProvisionError)
            machine.run("sync", check=False)
            _switch_off(machine)
            self._copy(_disk_of(machine, model.hardware), target, check)

    def _copy(self, source: Medium, target: Path, check: Callable[[], None] = lambda: None) -> None:
        """Copy a machine's disk, with what it stands on, into one file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_suffix(".half.vdi")
        half.unlink(missing_ok=True)
        with self._noted(half):
            copy = self._virtualbox.create_medium("VDI", str(half), AccessMode.READ_WRITE, DeviceType.HARD_DISK)
            try:
                copying = source.clone_to(copy, [MediumVariant.STANDARD])
                copying.wait_or_cancel(Deadline(_COPYING), lambda _: check())
            except BaseException:
                # One that is still written cannot be closed; what ended the wait (Ctrl-C) is what counts.
                with suppress(VirtualBoxError):
                    copy.close()
                raise
            copy.close()
            half.rename(target)


def _is_half(disk: Path) -> bool:
    return ".half." in disk.name


def _used(disk: Path) -> Path:
    return disk.with_suffix(".used")


def _described_disk(path: Path) -> ProvisionedDisk:
    used, image = path, ""
    with suppress(OSError):
        image = _used(path).read_text(encoding="utf-8")
        used = _used(path)
    status = used.stat()
    return ProvisionedDisk(path, image, path.stat().st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def key(image: Image, disk: Path) -> str:
    """A digest of all that a provisioned disk is made of: the base, and what is done to it."""
    status = disk.stat()
    parts = {
        "format": _FORMAT,
        "base": [str(disk.resolve()), status.st_size, status.st_mtime_ns],
        "cloud_init": _told(image),
        "user": image.user,
        "steps": [_described(step) for step in image.provision],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _told(image: Image) -> dict[str, object] | None:
    """What cloud-init is told, with what the file holds instead of its path."""
    if image.cloud_init is None:
        return None
    told: dict[str, object] = image.cloud_init.model_dump(mode="json", exclude={"user_data_file"})
    file = image.cloud_init.user_data_file
    if file is not None:
        told["user_data_file"] = _digest_of(file)
    return told


def _digest_of(file: Path) -> str:
    try:
        return hashlib.sha256(read_regular(file)).hexdigest()
    except OSError as error:
        raise ProvisionError(f"{file} cannot be read: {error.strerror}") from error


def _described(step: ProvisionStep) -> dict[str, object]:
    described: dict[str, object] = {"run": step.run, "sudo": step.sudo, "env": dict(step.env)}
    if step.script is not None:
        described["script"] = _digest_of(step.script)
    return described


def _switch_off(machine: Machine) -> None:
    """Shut the guest down; one that does not listen to its power button is switched off, its disk written."""
    try:
        machine.shutdown(timeout=_SHUTTING_DOWN)
    except (MachineError, TimeoutError):
        machine.power_off()


def _disk_of(machine: Machine, hardware: Hardware) -> Medium:
    controller, position = hardware.place_of_base()
    place = (controller.name, *controller.place(position))
    for attached in machine.api.medium_attachments:
        if (attached.controller, attached.port, attached.device) == place and attached.medium is not None:
            return attached.medium
    raise MachineError(f"{machine.name} has no disk at {place}")
