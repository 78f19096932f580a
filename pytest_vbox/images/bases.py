"""Bases and their anchors.

VirtualBox lets a medium be multi-attach only while it is in the registry of some machine, and that machine has
to stay: so every base has an *anchor*, a machine that is never started. Its UUID is derived from the path of the
base, so all runs and workers find the same one. (Measured on 7.2; see docs/explanation/bases.md.)

The user's file is never written: differencing disks take every write, and nothing here ever deletes a base.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.images.baseless import BaselessAnchor, is_deleted
from pytest_vbox.images.errors import ImageError
from pytest_vbox.ownership import Busy, held
from pytest_vbox.virtualbox import Machine, Medium, WebSession
from pytest_vbox.virtualbox.enums import CleanupMode, DeviceType, LockType, MediumState, MediumType, StorageBus
from pytest_vbox.virtualbox.errors import (
    AccessDenied,
    InvalidObjectReference,
    InvalidObjectState,
    ObjectInUse,
    ObjectNotFound,
    ServiceUnavailable,
    VirtualBoxError,
)

GROUP: Final = "/pytest-vbox/bases"
#: Extra data of an anchor: the file it anchors.
BASE_KEY: Final = "pytest-vbox/base"
_CONTROLLER: Final = "SATA"
_DELETING: Final = 60.0
# Seconds for another worker that makes a base ready, which takes milliseconds.
_LOOKING: Final = 1.0
# What VirtualBox says of something that went while we looked at it.
_GONE: Final = (AccessDenied, InvalidObjectReference, ObjectNotFound)
_ANCHORS: Final = uuid.UUID("6d3d0a43-6f64-5c25-9b39-0f8f3f9a1d57")


class Bases:
    """The bases of one VirtualBox.

    Args:
        session: The connection to it.
        state: The state folder, for the lock that all workers and runs share.
        local: Whether VirtualBox runs on this computer, so that the file can be looked at directly.
    """

    def __init__(self, session: WebSession, state: Path, *, local: bool = True) -> None:
        self._session = session
        self._state = state
        self._local = local

    @contextmanager
    def ready(self, disk: Path, kind: MediumType, deadline: Deadline) -> Iterator[Medium]:
        """A base that machines can be attached to; for the length of the block nobody else touches it.

        Args:
            disk: The image's file, as VirtualBox sees it.
            kind: ``MULTI_ATTACH`` or ``IMMUTABLE``.
            deadline: For how long to wait while another worker holds it.

        Raises:
            ImageError: The file, or what VirtualBox knows of it, does not allow it.
            Busy: Another process held it until the deadline.
        """
        location = str(disk)
        if self._local:
            location = _existing_file(disk)
        with held(self._state, f"base {location}", deadline):
            yield self._ensure(location, kind, deadline)

    def in_use(self, disk: Path) -> bool:
        """Whether machines stand on a base; also if another worker just has it."""
        location = str(disk.resolve())
        try:
            with held(self._state, f"base {location}", Deadline(_LOOKING)):
                # Without its anchor, which the user may have removed, they stand on it all the same.
                medium = self._known(location)
                in_use = medium is not None and self._is_in_use(medium, location)
                if medium is not None and not in_use and self._anchor(location) is None:
                    _close(medium)  # it was opened only to be looked at
                return in_use
        except Busy:
            return True

    def forget(self, disk: Path, deadline: Deadline) -> bool:
        """Make VirtualBox forget a base, with its anchor; the file stays.

        Args:
            disk: The base's file.
            deadline: For how long to wait while another worker holds it.

        Returns:
            Whether VirtualBox does not know it any more: it stays where machines stand on it.
        """
        return self._forget(str(disk.resolve()), deadline)

    def baseless(self) -> list[BaselessAnchor]:
        """The anchors whose file was deleted; none where the files are on another computer."""
        found = []
        for anchor in self._session.virtualbox.machines_by_groups([GROUP]) if self._local else ():
            with suppress(*_GONE):
                location = anchor.get_extra_data(BASE_KEY)
                # One that a user has cloned says so, too.
                if location and anchor.id == str(anchor_id(location)) and is_deleted(location):
                    found.append(BaselessAnchor(anchor.name, location, Path(anchor.settings_file_path)))
        return found

    def is_stood_on(self, anchor: BaselessAnchor) -> bool:
        """Whether machines still have differences to the file that was deleted."""
        medium = self._known(anchor.location)
        return medium is not None and self._is_in_use(medium, anchor.location)

    def remove_baseless(self, anchor: BaselessAnchor, deadline: Deadline) -> bool:
        """Take away an anchor whose file was deleted, unless machines stand on that.

        Args:
            anchor: The anchor.
            deadline: For how long to wait while another worker holds it.

        Returns:
            Whether it is gone.
        """
        return is_deleted(anchor.location) and self._forget(anchor.location, deadline)

    def _forget(self, location: str, deadline: Deadline) -> bool:
        try:
            with held(self._state, f"base {location}", deadline):
                medium = self._known(location)
                if medium is not None and self._is_in_use(medium, location):
                    return False
                anchor = self._anchor(location)
                if anchor is not None:
                    anchor.unregister(CleanupMode.DETACH_ALL_RETURN_NONE)
                    anchor.delete_config([]).wait(deadline)
                # From the anchor's registry it has gone to the global one.
                for known in [medium] if medium is not None else self._listed(location):
                    known.close()
                return True
        except (Busy, InvalidObjectState, ObjectInUse):
            return False

    def drop_orphans(self, name: str) -> None:
        """Let go of the differencing disks of a machine that VirtualBox does not know (any more).

        Those of all others are left alone: a machine that is being made or removed has some that are nobody's too.

        Args:
            name: The machine's name, which is that of its folder.
        """
        virtualbox = self._session.virtualbox
        for anchor in virtualbox.machines_by_groups([GROUP]):
            with suppress(*_GONE):
                location = anchor.get_extra_data(BASE_KEY)
                if location:
                    _drop_below(virtualbox.open_medium(location), name)
        for disk in virtualbox.hard_disks:
            with suppress(*_GONE):
                _drop_below(disk, name)

    def _ensure(self, location: str, kind: MediumType, deadline: Deadline) -> Medium:
        medium = self._open(location)
        found = medium.type
        self._check(medium, found, location)
        anchor = self._anchor(location)
        if anchor is not None and found is kind:
            return medium
        if found is not MediumType.NORMAL and medium.children:
            return self._shared_by_others(medium, location, kind)
        try:
            return self._anchored(medium, location, kind, anchor, deadline)
        except (InvalidObjectState, ObjectInUse) as error:
            raise ImageError(
                f"image {location}: VirtualBox does not let it become {kind}: {error.text}\n"
                "Close it in VirtualBox's media manager (keep the file), or use a copy of the file with a UUID "
                f"of its own: VBoxManage clonemedium {location} copy.vdi"
            ) from error

    def _known(self, location: str) -> Medium | None:
        """A base as VirtualBox has it; None if that knows nothing of the file, and does not take it for a disk."""
        try:
            return self._session.virtualbox.open_medium(location)
        except (ServiceUnavailable, InvalidObjectReference):
            raise
        except VirtualBoxError:
            return None

    def _listed(self, location: str) -> Iterator[Medium]:
        """What VirtualBox lists under a path, though it opens nothing there."""
        for disk in self._session.virtualbox.hard_disks:
            with suppress(*_GONE):
                if disk.location == location:
                    yield disk

    def _is_in_use(self, medium: Medium, location: str) -> bool:
        return bool(medium.children or self._users(medium, location))

    def _open(self, location: str) -> Medium:
        try:
            return self._session.virtualbox.open_medium(location)
        except VirtualBoxError as error:
            raise ImageError(_explain(location, error)) from error

    def _check(self, medium: Medium, found: MediumType, location: str) -> None:
        state = medium.refresh_state()
        if state is MediumState.INACCESSIBLE:
            raise ImageError(f"image {location}: VirtualBox cannot use it: {medium.last_access_error}")
        parent = medium.parent
        if parent is not None:
            raise ImageError(
                f"image {location} is a differencing disk (its parent is {parent.location}), and not whole "
                f"without it. Make a full copy and use that: VBoxManage clonemedium {location} whole.vdi"
            )
        if found not in {MediumType.NORMAL, MediumType.MULTI_ATTACH, MediumType.IMMUTABLE}:
            raise ImageError(
                f"image {location} has the type {found} in VirtualBox, which cannot be shared by machines. "
                f"Set it back: VBoxManage modifymedium {location} --type normal"
            )
        users = self._users(medium, location) if found is MediumType.NORMAL else []
        if users:
            raise ImageError(
                f"image {location} is attached, writable, to machine {', '.join(users)}: what that machine writes "
                "would go through to every test. Detach it there, or use a copy with a UUID of its own: "
                f"VBoxManage clonemedium {location} copy.vdi"
            )

    def _users(self, medium: Medium, location: str) -> list[str]:
        names = []
        for machine_id in medium.machine_ids:
            try:
                machine = self._session.virtualbox.find_machine(machine_id)
                if machine.id != str(anchor_id(location)):
                    names.append(f"{machine.name!r}")
            except ObjectNotFound:
                continue
        return names

    def _shared_by_others(self, medium: Medium, location: str, kind: MediumType) -> Medium:
        if medium.type is kind:
            return medium  # multi-attach in a registry of the user's own: good as it is, and not ours to move
        raise ImageError(
            f"image {location} is in use as {medium.type}, and cannot be {kind} at the same time. "
            "Use one `attach:` for all images of this file, or a copy of the file with a UUID of its own: "
            f"VBoxManage clonemedium {location} copy.vdi"
        )

    def _anchor(self, location: str) -> Machine | None:
        try:
            return self._session.virtualbox.find_machine(str(anchor_id(location)))
        except ObjectNotFound:
            return None

    def _anchored(
        self, medium: Medium, location: str, kind: MediumType, anchor: Machine | None, deadline: Deadline
    ) -> Medium:
        if anchor is None:
            anchor = self._new_anchor(location)
        else:
            # A process that died half-way may have left it attached.
            self._detach_all(anchor, deadline)
        # Out of the global registry (and back to Normal), so that it goes into the one of its anchor.
        medium.close()
        medium = self._open(location)
        # Attached once, saved, detached, saved: then the anchor's registry has it, and the type can be set.
        with self._session.lock(anchor, LockType.WRITE, deadline) as session:
            mutable = session.machine
            mutable.attach_device(_CONTROLLER, 0, 0, DeviceType.HARD_DISK, medium)
            mutable.save_settings()
            mutable.detach_device(_CONTROLLER, 0, 0)
            mutable.save_settings()
        medium.type = kind
        return medium

    def _detach_all(self, anchor: Machine, deadline: Deadline) -> None:
        with self._session.lock(anchor, LockType.WRITE, deadline) as session:
            mutable = session.machine
            for attachment in mutable.medium_attachments:
                mutable.detach_device(attachment.controller, attachment.port, attachment.device)
            mutable.save_settings()

    def _new_anchor(self, location: str) -> Machine:
        identity = anchor_id(location)
        name = f"pytest-vbox base {Path(location).stem[:40]} {identity.hex[:8]}"
        anchor = self._session.virtualbox.create_machine(
            "", name, [GROUP], "Other_64", f"UUID={identity},forceOverwrite=1"
        )
        anchor.description = (
            f"Keeps {location} ready for pytest-vbox. It is never started. Removing it does no harm while no "
            "machine stands on that disk: while no test runs, and there is no golden or kept machine of it "
            "(pytest-vbox cache list, pytest-vbox machines list)."
        )
        anchor.set_extra_data(BASE_KEY, location)
        anchor.add_storage_controller(_CONTROLLER, StorageBus.SATA)
        anchor.save_settings()
        self._session.virtualbox.register_machine(anchor)
        return anchor


def _close(medium: Medium) -> None:
    with suppress(InvalidObjectState, ObjectInUse):  # somebody has just begun to use it
        medium.close()


def _drop_below(disk: Medium, name: str) -> None:
    """The same for all that stands on a disk, at whichever remove: forks stand on golden machines' disks."""
    for child in disk.children:
        with suppress(*_GONE):
            if _is_in_folder_of(name, child):
                drop_orphan(child)
            else:
                _drop_below(child, name)


def _is_in_folder_of(name: str, disk: Medium) -> bool:
    location = disk.location
    kind = PureWindowsPath if "\\" in location else PurePosixPath
    return name in kind(location).parts


def drop_orphan(disk: Medium) -> None:
    """Let go of a differencing disk, with those that stand on it, unless a machine has it.

    Args:
        disk: The disk.
    """
    if disk.machine_ids:
        return
    for child in disk.children:
        drop_orphan(child)
    try:
        disk.delete_storage().wait(Deadline(_DELETING))
    except ServiceUnavailable:
        raise
    except VirtualBoxError:
        with suppress(InvalidObjectState, ObjectInUse):  # another machine still stands on it
            disk.close()  # its file is gone


def anchor_id(location: str) -> uuid.UUID:
    """The UUID of the anchor of a base."""
    return uuid.uuid5(_ANCHORS, location)


def _existing_file(disk: Path) -> str:
    try:
        resolved = disk.resolve(strict=True)
    except FileNotFoundError:
        raise ImageError(f"image {disk}: there is no such file. Correct `disk:`, or fetch the image") from None
    except (OSError, RuntimeError) as error:  # until Python 3.13 a circle of links is a RuntimeError
        raise ImageError(f"image {disk}: {error}") from error
    if not resolved.is_file():
        raise ImageError(f"image {disk} is not a file")
    if not os.access(resolved, os.R_OK):
        raise ImageError(f"image {disk}: no permission to read it. Try: chmod u+r {disk}")
    return str(resolved)


def _explain(location: str, error: VirtualBoxError) -> str:
    text = error.text
    # What VirtualBox says, and not what the user's folders are called.
    words = text.replace(location, "")
    if "already exists" in words and "UUID" in words:
        return (
            f"image {location} has the same UUID as another disk that VirtualBox knows: {text}\n"
            "It is a plain copy of that file. Use the original, or give the copy a UUID of its own: "
            f"VBoxManage internalcommands sethduuid {location}"
        )
    if "storage format" in words or "VERR_NOT_SUPPORTED" in words:
        return (
            f"image {location} is in no format that VirtualBox reads (VDI, VMDK, VHD, …): {text}\n"
            f"Convert it: qemu-img convert -O vdi {location} image.vdi"
        )
    if "parent" in words.lower():
        return (
            f"image {location} is a differencing disk whose parent is missing: {text}\n"
            "Use a full copy made where the parent still is: VBoxManage clonemedium … whole.vdi"
        )
    return f"image {location}: VirtualBox cannot open it: {text}"
