"""The drive from which cloud-init reads its seed: a disc in the machine's own folder, and a place for it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final, NamedTuple

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import public_key
from pytest_vbox.images import Seed, check_user_data, make_seed
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.plan import Plan
from pytest_vbox.models import MachineModel
from pytest_vbox.virtualbox import Machine, WebSession
from pytest_vbox.virtualbox.enums import AccessMode, DeviceType, LockType, StorageBus

#: The disc, in the machine's folder, so that it goes with the machine.
DISC: Final = "cloud-init.iso"
_CONTROLLER: Final = "cloud-init"
_IDE_POSITIONS: Final = ((1, 0), (1, 1), (0, 0), (0, 1))
_MOST_SATA_PORTS: Final = 30


class _Place(NamedTuple):
    controller: str
    port: int
    device: int


def check(context: Context, model: MachineModel) -> None:
    """Say what is wrong with an image's ``cloud_init`` while nothing is made yet.

    Raises:
        MachineError: VirtualBox is on another computer.
        ModelError: The user-data cannot be used.
    """
    if model.image.cloud_init is None:
        return
    if not context.local:
        raise MachineError(
            f"image {model.image_name} has cloud_init, and its seed goes into the machine's folder: that needs "
            f"VirtualBox on this computer, not at {context.address}. Use an image that has a user already"
        )
    check_user_data(model.image, model.image_name)


def prepare(context: Context, machine: Machine, plan: Plan, deadline: Deadline) -> None:
    """Make the seed of a machine and attach it, if its image has ``cloud_init``. Raises what `attach` does."""
    image = plan.model.image
    if image.cloud_init is None:
        return
    seed = make_seed(
        image,
        plan.model.image_name,
        machine_id=plan.id,
        machine_name=plan.name,
        public_keys=[] if plan.key is None else [public_key(plan.key)],
    )
    attach(context.session, machine, seed, deadline)


def attach(session: WebSession, machine: Machine, seed: Seed, deadline: Deadline) -> None:
    """Write a seed's disc and put it into a drive of a machine, which is off.

    Args:
        session: The connection to VirtualBox, which has to be on this computer.
        machine: The machine, registered.
        seed: What the disc shall hold.
        deadline: For how long to wait for the machine's lock.

    Raises:
        MachineError: The disc cannot be written, or no controller has a place for a drive.
    """
    disc = Path(machine.settings_file_path).parent / DISC
    try:
        seed.write(disc)
    except OSError as error:
        raise MachineError(
            f"{machine.name}: cloud-init's seed cannot be written to {disc}: {error.strerror or error}. "
            "It goes into the machine's folder, so VirtualBox has to run as the same user as the tests"
        ) from error
    with session.lock(machine, LockType.WRITE, deadline) as held:
        mutable = held.machine
        place = _place(mutable)
        medium = session.virtualbox.open_medium(str(disc), DeviceType.DVD, AccessMode.READ_ONLY)
        mutable.attach_device(*place, DeviceType.DVD, medium)
        mutable.save_settings()


def forget(session: WebSession, folder: Path) -> None:
    """Make VirtualBox forget the disc of a machine that is not registered any more. The file stays.

    Args:
        session: The connection to VirtualBox on this computer.
        folder: The machine's folder.
    """
    disc = folder / DISC
    if disc.exists():
        # VirtualBox keeps a disc in its list of media when its machine goes; a guest may have ejected it, too.
        session.virtualbox.open_medium(str(disc), DeviceType.DVD, AccessMode.READ_ONLY).close()


def removal_by_hand(machine: Machine) -> str:
    """What follows ``VBoxManage unregistervm --delete``, which leaves the disc of a machine that is kept."""
    disc = Path(machine.settings_file_path).parent / DISC
    return f"; VBoxManage closemedium dvd {shlex.quote(str(disc))} --delete" if disc.exists() else ""


def _place(machine: Machine) -> _Place:
    """A free place for a drive; where there is none, a new one is made."""
    taken = {(one.controller, one.port, one.device) for one in machine.medium_attachments}
    controllers = machine.storage_controllers
    sata = [one for one in controllers if one.bus is StorageBus.SATA]
    ide = [one for one in controllers if one.bus is StorageBus.IDE]
    places = [_Place(one.name, port, 0) for one in sata for port in range(one.port_count)]
    places += [_Place(one.name, *position) for one in ide for position in _IDE_POSITIONS]
    for place in places:
        if place not in taken:
            return place
    if not ide:
        # VirtualBox allows one IDE controller in a machine.
        names = {one.name for one in controllers}
        name = _CONTROLLER if _CONTROLLER not in names else f"{_CONTROLLER} seed"
        machine.add_storage_controller(name, StorageBus.IDE)
        return _Place(name, *_IDE_POSITIONS[0])
    for controller in sata:
        count = controller.port_count
        if count < _MOST_SATA_PORTS:
            controller.port_count = count + 1
            return _Place(controller.name, count, 0)
    raise MachineError(
        f"{machine.name}: every place on its IDE and SATA controllers is taken, and cloud-init's seed needs one. "
        "Leave a port of a controller in `storage:` free"
    )
