"""Helpers that several machine tests share."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pytest_vbox.deadline import Deadline
from pytest_vbox.images.bases import anchor_id
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.golden import GOLDEN_KEY
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP
from pytest_vbox.models import Image
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.enums import CleanupMode
from pytest_vbox.virtualbox.errors import (
    AccessDenied,
    InvalidObjectReference,
    ObjectNotFound,
    VirtualBoxError,
)


def sha256(path: Path) -> str:
    """The digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def disk_of(image: Image) -> Path:
    """The local file of an image that has one."""
    assert image.disk is not None
    return image.disk


def set_uuid(vdi: Path) -> None:
    """Give a VDI a UUID of its own, as ``VBoxManage internalcommands sethduuid`` does."""
    with vdi.open("r+b") as file:
        # VDI header 1.1: uuidCreate is at 0x188, uuidModify behind it.
        file.seek(0x188)
        file.write(os.urandom(32))


def forget(host: VirtualBoxHost, disks: Iterable[Path]) -> None:
    """Remove the anchors of some bases, and the bases from the registry; the files stay."""
    for disk in disks:
        _forget_golden(host, disk)
        with suppress(VirtualBoxError):  # it never became a base
            anchor = host.api.find_machine(str(anchor_id(str(disk))))
            anchor.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
            anchor.delete_config([]).wait(Deadline(10))
        with suppress(VirtualBoxError):  # it never was a disk
            host.api.open_medium(str(disk)).close()


def _forget_golden(host: VirtualBoxHost, disk: Path) -> None:
    """Remove the golden machines that were made of a base, once their forks are gone."""
    end = time.monotonic() + 30
    for golden in host.golden.all():
        if golden.base[0] == str(disk):
            while not host.golden.remove(golden) and time.monotonic() < end:
                time.sleep(0.1)


def names_of_ours(host: VirtualBoxHost) -> set[str]:
    """The names of all machines that pytest-vbox made, of whichever run, but for what is kept for later."""
    machines = host.api.machines_by_groups([GROUP, GOLDEN_GROUP])
    found = set()
    for machine in machines:
        with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):  # gone while we looked
            if not machine.get_extra_data(GOLDEN_KEY):
                found.add(machine.name)
    return found


def media_of_machines(host: VirtualBoxHost) -> set[str]:
    """The differencing disks of all bases that VirtualBox knows."""
    return {location for base in host.api.hard_disks for location in locations(_children(base))}


def locations(media: Iterable[Medium]) -> list[str]:
    """Where media are; those of other tests may go while one looks."""
    found = []
    for medium in media:
        with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):
            found.append(medium.location)
    return found


def _children(base: Medium) -> list[Medium]:
    with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):
        return base.children
    return []
