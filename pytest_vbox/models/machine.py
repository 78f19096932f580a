"""A whole machine: an image and the hardware for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import Image
from pytest_vbox.models.problems import Problem
from pytest_vbox.models.tree import Node, Origin

_NOT_IN_DIGEST = {
    "description",
    "hardware",
    "boot_timeout",
    "os_family",
    "os_version",
    "os_64_bit",
    "packager",
    "tags",
    "insecure",
    "on_fork",
    "set_hostname",
}
"""Keys of an image that make no other machine; its hardware counts where it has been merged."""


@dataclass(frozen=True)
class MachineModel:
    """What a machine is made from.

    Args:
        image_name: Name of the image.
        profile_name: Name of the hardware profile.
        image: The image.
        hardware: Profile, image's hardware and overrides in one; ``os_type`` is always set.
        node: The hardware as it was written, to say where each key is.
    """

    image_name: str
    profile_name: str
    image: Image
    hardware: Hardware
    node: Node | None = field(default=None, compare=False, repr=False)

    @property
    def os_type(self) -> str:
        """VirtualBox's id for the guest's operating system."""
        return self.hardware.os_type or self.image.os_type

    def problem(self, path: Sequence[str | int], message: str, hint: str = "") -> Problem:
        """Something that is wrong with a key of the hardware, and where that is written.

        Args:
            path: Leads to the key, such as ``"network", 0, "adapter_type"``.
            message: What is wrong.
            hint: What to do about it.
        """
        node = self.node or Node({}, Origin(None, None, "hardware"))
        place, below = node.nearest(path)
        return place.origin.problem(message, hint, below)

    def digest(self) -> str:
        """A SHA-256, in hexadecimal, that is the same for models that make the same machine.

        Neither names and descriptions nor secrets are in it, nor what the disk's file holds, only its path.
        """
        secrets = {name for name, value in self.image if isinstance(value, SecretStr)}
        parts = {
            "image": self.image.model_dump(mode="json", exclude=_NOT_IN_DIGEST | secrets, exclude_none=True),
            "hardware": self.hardware.model_dump(mode="json", exclude={"description"}, exclude_none=True),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
