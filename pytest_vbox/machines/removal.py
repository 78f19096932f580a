"""Taking a machine away: switched off, unregistered, and only its own files deleted.

Which files these are is not VirtualBox's to say, since it may be anybody who answers in its place: the name is one
that we made and wrote down, and its folder lies where machines of our groups lie.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import seed_drive
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP, is_machine_name
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

# The last parts of the folders that VirtualBox makes for our groups; in these it makes one for each machine.
_GROUP_FOLDERS: Final = tuple(tuple(group.strip("/").split("/")) for group in (GROUP, GOLDEN_GROUP))


def remove(session: WebSession, machine_id: str, name: str, *, local: bool) -> bool:
    """Remove a machine by its UUID, with what was made for it. No base image is touched, ever.

    One whose folder is not where ours are is unregistered, and its folder and disks stay.

    Args:
        session: The connection to VirtualBox.
        machine_id: The machine's UUID.
        name: The name that it was given when it was made.
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
    folder, snapshots = _folder(machine.settings_file_path), machine.snapshot_folder
    is_ours = is_machine_folder(folder, name)
    folders = [folder] if is_ours else []
    if _is_named(_pure(snapshots), name):
        folders.append(snapshots)  # the model has a folder of its own for them
    discs = [
        entry.medium
        for entry in machine.medium_attachments
        if entry.medium is not None and entry.type in {DeviceType.DVD, DeviceType.FLOPPY}
    ]
    media = machine.unregister(CleanupMode.FULL)
    # A disc is in the list once for the machine, and once for each of its snapshots.
    places = {medium.location: medium for medium in media}
    own = [medium for place, medium in places.items() if _is_own(place, folders)]
    machine.delete_config(own).wait(Deadline(PATIENCE))
    for disc in discs:
        _forget(disc)
    if local:
        if is_ours:
            seed_drive.forget(session, Path(folder))  # a guest may have ejected it
        # VirtualBox leaves the serial console's log, and with it the folder.
        for path in folders:
            shutil.rmtree(path, ignore_errors=True)
    return True


def _find(session: WebSession, machine_id: str) -> Machine | None:
    with suppress(ObjectNotFound):
        return session.virtualbox.find_machine(machine_id)
    return None


def remove_folder(session: WebSession, name: str) -> None:
    """Delete the folder of a machine that was never registered, on this computer."""
    for group in (GROUP, GOLDEN_GROUP):
        folder = _folder(session.virtualbox.compose_machine_filename(name, group))
        if is_machine_folder(folder, name):
            shutil.rmtree(folder, ignore_errors=True)


def is_machine_folder(folder: str, name: str) -> bool:
    """Whether a folder is that of a machine of ours, by its name and by where it lies.

    Args:
        folder: A path on the computer that VirtualBox runs on.
        name: The machine's name.
    """
    path = _pure(folder)
    above = path.parent.parts
    return _is_named(path, name) and any(above[-len(group) :] == group for group in _GROUP_FOLDERS)


def _is_named(path: PurePath, name: str) -> bool:
    return path.name == name and is_machine_name(name) and path.is_absolute() and ".." not in path.parts


def _forget(disc: Medium) -> None:
    """Let VirtualBox forget an ISO or floppy image that no machine uses any more. The file stays."""
    # Gone with the machine's folder ("not ready"), or taken by another machine just now: both are well.
    with suppress(AccessDenied, InvalidObjectReference, InvalidObjectState, ObjectNotFound, ObjectInUse):
        if not disc.machine_ids:
            disc.close()


def _is_own(location: str, folders: Sequence[str]) -> bool:
    """Whether a medium was made for the machine: it lies in a folder of the machine's."""
    for own in map(_pure, folders):
        path = type(own)(location)
        if own in path.parents and ".." not in path.parts:
            return True
    return False


def _folder(settings_file: str) -> str:
    return str(_pure(settings_file).parent)


def _pure(path: str) -> PurePath:
    """A path on the computer that VirtualBox runs on, whatever that one is."""
    return PureWindowsPath(path) if "\\" in path else PurePosixPath(path)
