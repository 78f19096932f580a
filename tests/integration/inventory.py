"""All there is: in VirtualBox, in its machine folder, in the state folder; and what of it is the user's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
from machine_support import disk_of, locations, sha256
from own_rig import OwnRig

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.images.bases import BASE_KEY
from pytest_vbox.images.bases import GROUP as BASES
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.virtualbox import Machine, Medium
from pytest_vbox.virtualbox.enums import DeviceType, LockType, MediumVariant, StorageBus
from pytest_vbox.virtualbox.errors import AccessDenied, InvalidObjectReference, ObjectNotFound

#: What stays in the machine folder and the state folder: for later runs, or for people to read.
_FOR_LATER: Final = re.compile(
    r"pytest-vbox|pytest-vbox/golden"
    r"|reaper\.log|unseen/.*|golden/(used|failed)/.*|(locks|ports|capacity)/(capacity)?\.lock"
)
_USERS: Final = "a machine of the user's"
_GONE: Final = (AccessDenied, InvalidObjectReference, ObjectNotFound)


def there(host: VirtualBoxHost, rig: OwnRig) -> frozenset[str]:
    """All there is, whoever made it, but for what is for later runs: golden machines, anchors, logs.

    Args:
        host: The VirtualBox.
        rig: Its processes.
    """
    for_later = [golden.name for golden in host.golden.all()]
    found = [*_in_virtualbox(host), *_files(host)]
    return frozenset(
        [*(one for one in found if not any(name in one for name in for_later)), *machine_processes(rig)]
    )


def _in_virtualbox(host: VirtualBoxHost) -> Iterator[str]:
    media = [*host.api.hard_disks, *host.api.dvd_images, *host.api.floppy_images]
    for machine in host.api.machines:
        with suppress(*_GONE):
            if BASES not in machine.groups:
                yield f"machine {machine.name}"
            elif base := machine.get_extra_data(BASE_KEY):
                media.append(host.api.open_medium(base))
    for golden in host.golden.all():
        # VirtualBox's server has crashed over a snapshot that somebody looked at while it was removed.
        with suppress(*_GONE), host.golden.lease(golden, Deadline(60)):
            attached = host.golden.snapshot(golden).machine.medium_attachments
            disks = [entry.medium for entry in attached if entry.medium is not None]
            media += [child for disk in disks for child in _below(disk)]
    bases = {str(disk_of(image)) for image in host.catalogue.images.values()}
    for location in locations([one for medium in media for one in (medium, *_below(medium))]):
        if location not in bases:
            yield f"medium {location}"


def _below(medium: Medium) -> Iterator[Medium]:
    """All media that are differences to one, at whichever remove."""
    with suppress(*_GONE):
        for child in medium.children:
            yield child
            yield from _below(child)


def machine_processes(rig: OwnRig) -> Iterator[str]:
    """The processes of machines that run, golden ones too: these are to be switched off."""
    for process in rig.processes():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "--startvm" in words and process.status() != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid}: {' '.join(words)}"


def _files(host: VirtualBoxHost) -> Iterator[str]:
    machines, state = Path(host.api.system_properties.default_machine_folder), places.state_folder()
    bases = machines / BASES.strip("/")
    keys = {golden.private_key for golden in host.golden.all()}
    for place in (machines, state):
        # Unlike `Path.rglob`, this does not mind folders that go meanwhile.
        for folder, folders, files in os.walk(place):
            # Folders of ours stay, but for those of machines; and so does what this process itself is using.
            mine = f"{os.getpid()}-"
            names = (
                [*files, *folders] if place == machines else [file for file in files if not file.startswith(mine)]
            )
            for path in (Path(folder) / name for name in names):
                if bases in path.parents or path == bases or str(path) in keys:
                    continue
                if not _FOR_LATER.fullmatch(str(path.relative_to(place))):
                    yield f"file {path}"


@contextmanager
def untouched(host: VirtualBoxHost) -> Iterator[None]:
    """A machine of the user's, its disk, and the bases are after the block what they were before."""
    machine = _users_own(host)
    folder = Path(machine.settings_file_path).parent
    watched = [*folder.glob("*.v*"), *(disk_of(image) for image in host.catalogue.images.values())]
    before = {path: sha256(path) for path in watched}
    assert len(before) >= 4
    yield
    assert {path: sha256(path) for path in watched} == before
    assert host.api.find_machine(_USERS).id == machine.id


def _users_own(host: VirtualBoxHost) -> Machine:
    """A machine that the user made in VirtualBox's window, with a disk; made once."""
    with suppress(ObjectNotFound):
        return host.api.find_machine(_USERS)
    machine = host.api.create_machine("", _USERS, ["/"], "Linux26_64")
    machine.add_storage_controller("SATA", StorageBus.SATA)
    machine.save_settings()
    host.api.register_machine(machine)
    disk = host.api.create_medium("VDI", str(Path(machine.settings_file_path).parent / "users.vdi"))
    disk.create_base_storage(4 * 1024**2, [MediumVariant.STANDARD]).wait(Deadline(30))
    with host.session.lock(host.api.find_machine(_USERS), LockType.WRITE, Deadline(30)) as session:
        session.machine.attach_device("SATA", 0, 0, DeviceType.HARD_DISK, disk)
        session.machine.save_settings()
    return host.api.find_machine(_USERS)
