"""IMedium and the controllers it is attached to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.enums import (
    DeviceType,
    MediumState,
    MediumType,
    MediumVariant,
    StorageBus,
    StorageControllerType,
)
from pytest_vbox.virtualbox.interface import Attribute, Interface, ReadOnly, text, texts
from pytest_vbox.virtualbox.progress import Progress


class Medium(Interface):
    """IMedium: a disk, base or differencing."""

    interface = "IMedium"
    id = ReadOnly("id", text)
    name = ReadOnly("name", text)
    location = ReadOnly("location", text)
    format = ReadOnly("format", text)
    device_type = ReadOnly("deviceType", DeviceType)
    type = Attribute("type", MediumType)
    state = ReadOnly("state", MediumState)
    last_access_error = ReadOnly("lastAccessError", text)
    size = ReadOnly("size", int)
    logical_size = ReadOnly("logicalSize", int)
    machine_ids = ReadOnly("machineIds", texts)

    @property
    def parent(self) -> Medium | None:
        """The medium this one is the difference to, or None for a base."""
        return optional_medium(self.api, self._call("getParent"))

    @property
    def children(self) -> list[Medium]:
        return [Medium(self.api, reference) for reference in texts(self._call("getChildren"))]

    def refresh_state(self) -> MediumState:
        """Look at the file again; what is wrong with it is then in :attr:`last_access_error`."""
        return MediumState(self._call("refreshState"))

    def reset(self) -> Progress:
        """Empty a differencing disk, so that it shows its parent's content again."""
        return Progress(self.api, str(self._call("reset")))

    def create_base_storage(self, logical_size: int, variant: Sequence[MediumVariant]) -> Progress:
        """Make the file of a medium that :meth:`VirtualBox.create_medium` gave.

        Args:
            logical_size: What a guest sees as its size, in bytes.
            variant: How the file is laid out.
        """
        reference = self._call("createBaseStorage", logicalSize=logical_size, variant=list(variant))
        return Progress(self.api, str(reference))

    def clone_to(self, target: Medium, variant: Sequence[MediumVariant], parent: Medium | None = None) -> Progress:
        """Copy the content, with what it stands on, into a medium that was created and has no file yet.

        Args:
            target: The new medium.
            variant: How its file is laid out.
            parent: What the copy shall be a difference to; None for a whole copy.
        """
        reference = parent.reference if parent is not None else ""
        progress = self._call("cloneTo", target=target.reference, variant=list(variant), parent=reference)
        return Progress(self.api, str(progress))

    def close(self) -> None:
        """Make VirtualBox forget the medium. The file stays."""
        self._call("close")

    def delete_storage(self) -> Progress:
        """Delete the medium's file, and make VirtualBox forget it."""
        return Progress(self.api, str(self._call("deleteStorage")))


def optional_medium(api: Api, reference: object) -> Medium | None:
    """A medium, or None where VirtualBox gave an empty reference."""
    return Medium(api, str(reference)) if reference else None


class StorageController(Interface):
    """IStorageController."""

    interface = "IStorageController"
    name = ReadOnly("name", text)
    bus = ReadOnly("bus", StorageBus)
    controller_type = Attribute("controllerType", StorageControllerType)
    port_count = Attribute("portCount", int)
    bootable = ReadOnly("bootable", bool)
    use_host_io_cache = Attribute("useHostIOCache", bool)


@dataclass(frozen=True)
class MediumAttachment:
    """IMediumAttachment: which medium sits where. The web service sends it whole, not as a reference."""

    medium: Medium | None
    controller: str
    port: int
    device: int
    type: DeviceType
