"""Taking a machine away: switched off, unregistered, and only its own files deleted."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import seed_drive
from pytest_vbox.machines.plan import GROUP
from pytest_vbox.machines.power import PATIENCE, power_off
from pytest_vbox.virtualbox import Medium, WebSession
from pytest_vbox.virtualbox.enums import CleanupMode
from pytest_vbox.virtualbox.errors import ObjectNotFound


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
    try:
        machine = session.virtualbox.find_machine(machine_id)
    except ObjectNotFound:
        return False
    power_off(session, machine)
    name, folder = machine.name, _folder(machine.settings_file_path)
    own = [medium for medium in machine.unregister(CleanupMode.FULL) if _is_own(medium, folder)]
    if local:
        seed_drive.forget(session, Path(folder))
    machine.delete_config(own).wait(Deadline(PATIENCE))
    if local:
        # VirtualBox leaves the serial console's log, and with it the folder.
        _delete_folder(folder, name)
    return True


def remove_folder(session: WebSession, name: str) -> None:
    """Delete the folder of a machine that was never registered, on this computer."""
    _delete_folder(_folder(session.virtualbox.compose_machine_filename(name, GROUP)), name)


def _delete_folder(folder: str, name: str) -> None:
    # A machine's folder has its name. Anything else is not what we think it is, and stays.
    if Path(folder).name == name:
        shutil.rmtree(folder, ignore_errors=True)


def _is_own(medium: Medium, folder: str) -> bool:
    """Whether a medium was made for the machine: a difference to another, in the machine's own folder."""
    kind = PureWindowsPath if "\\" in folder else PurePosixPath
    return medium.parent is not None and kind(folder) in kind(medium.location).parents


def _folder(settings_file: str) -> str:
    kind = PureWindowsPath if "\\" in settings_file else PurePosixPath
    return str(kind(settings_file).parent)
