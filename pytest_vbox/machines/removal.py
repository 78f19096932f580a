"""Taking a machine away: switched off, unregistered, and only its own files deleted."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import seed_drive
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP
from pytest_vbox.machines.power import PATIENCE, power_off
from pytest_vbox.virtualbox import Machine, Medium, WebSession
from pytest_vbox.virtualbox.enums import CleanupMode, DeviceType
from pytest_vbox.virtualbox.errors import (
    AccessDenied,
    InvalidObjectReference,
    InvalidObjectState,
    ObjectInUse,
    ObjectNotFound,
)


def remove(session: WebSession, machine_id: str, *, local: bool) -> bool:
    """Remove a machine by its UUID, with what was made for it. No base image is touched, ever.

    Args:
        session: The connection to VirtualBox.
        machine_id: The machine's UUID.
        local: Whether its files are on this computer.

    Returns:
        Whether there was such a machine.

    Raises:
        VirtualBoxError: VirtualBox refused; what is left is still written in the ledger.
    """
    machine = _find(session, machine_id) or _find(session, machine_id)
    if machine is None:
        # Said twice: what is struck from the ledger over a wrong answer would stay.
        return False
    power_off(session, machine)
    name, folder, snapshots = machine.name, _folder(machine.settings_file_path), machine.snapshot_folder
    discs = [
        entry.medium
        for entry in machine.medium_attachments
        if entry.medium is not None and entry.type in {DeviceType.DVD, DeviceType.FLOPPY}
    ]
    media = machine.unregister(CleanupMode.FULL)
    # A disc is in the list once for the machine, and once for each of its snapshots.
    places = {medium.location: medium for medium in media}
    own = [medium for place, medium in places.items() if _is_own(place, folder, snapshots, name)]
    machine.delete_config(own).wait(Deadline(PATIENCE))
    for disc in discs:
        _forget(disc)
    if local:
        seed_drive.forget(session, Path(folder))  # a guest may have ejected it
        # VirtualBox leaves the serial console's log, and with it the folder.
        _delete_folder(folder, name)
        _delete_folder(snapshots, name)
    return True


def _find(session: WebSession, machine_id: str) -> Machine | None:
    with suppress(ObjectNotFound):
        return session.virtualbox.find_machine(machine_id)
    return None


def remove_folder(session: WebSession, name: str) -> None:
    """Delete the folder of a machine that was never registered, on this computer."""
    for group in (GROUP, GOLDEN_GROUP):
        _delete_folder(_folder(session.virtualbox.compose_machine_filename(name, group)), name)


def _delete_folder(folder: str, name: str) -> None:
    # A machine's folder has its name. Anything else is not what we think it is, and stays.
    if Path(folder).name == name:
        shutil.rmtree(folder, ignore_errors=True)


def _forget(disc: Medium) -> None:
    """Let VirtualBox forget an ISO or floppy image that no machine uses any more. The file stays."""
    # Gone with the machine's folder ("not ready"), or taken by another machine just now: both are well.
    with suppress(AccessDenied, InvalidObjectReference, InvalidObjectState, ObjectNotFound, ObjectInUse):
        if not disc.machine_ids:
            disc.close()


def _is_own(location: str, folder: str, snapshots: str, name: str) -> bool:
    """Whether a medium was made for the machine: it lies in a folder that has the machine's unique name."""
    kind = PureWindowsPath if "\\" in folder else PurePosixPath
    parents = kind(location).parents
    return any(kind(own) in parents and name in kind(own).parts for own in (folder, snapshots))


def _folder(settings_file: str) -> str:
    kind = PureWindowsPath if "\\" in settings_file else PurePosixPath
    return str(kind(settings_file).parent)
