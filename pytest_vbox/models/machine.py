"""A whole machine: an image and the hardware for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pydantic import SecretStr

from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import Image

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
    """

    image_name: str
    profile_name: str
    image: Image
    hardware: Hardware

    @property
    def os_type(self) -> str:
        """VirtualBox's id for the guest's operating system."""
        return self.hardware.os_type or self.image.os_type

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
