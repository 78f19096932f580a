"""What a golden machine is made of, as a digest: where anything in it is different, another one is needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from pytest_vbox.files import read_regular
from pytest_vbox.guest import public_key
from pytest_vbox.images import state_of
from pytest_vbox.models import MachineModel
from pytest_vbox.virtualbox import VirtualBox
from pytest_vbox.virtualbox.errors import VirtualBoxError

_FORMAT: Final = 1  # of what is kept; a higher one makes everything anew
# The leaves of CPUID that say what a processor can do, and which of EAX, EBX, ECX and EDX do not depend on the
# core that is asked. VirtualBox compares them when it resumes a saved state.
_LEAVES: Final = ((0, (1, 2, 3)), (1, (0, 2, 3)), (7, (1, 2, 3)), (0x80000001, (2, 3)))


@dataclass(frozen=True)
class Platform:
    """The VirtualBox and the processor that a saved state is for.

    Attributes:
        virtualbox: The VirtualBox.
        identity: Which one it is.
        local: Whether it is on this computer, so that files can be looked at.
    """

    virtualbox: VirtualBox
    identity: str
    local: bool = True

    @cached_property
    def version(self) -> str:
        """VirtualBox's version and revision."""
        return f"{self.virtualbox.version}r{self.virtualbox.revision}"

    @cached_property
    def processor(self) -> str:
        """The host's processor, as far as saved states depend on it."""
        host = self.virtualbox.host
        parts = [host.get_processor_description()]
        try:
            x86 = host.x86
            for leaf, registers in _LEAVES:
                values = x86.get_processor_cpuid_leaf(0, leaf)
                parts += [f"{values[register]:08x}" for register in registers]
        except VirtualBoxError:
            parts.append("no x86")
        return " ".join(parts)


def golden_key(platform: Platform, model: MachineModel, key: Path | None) -> str:
    """The digest, in hexadecimal, for a machine.

    Args:
        platform: What it runs on.
        model: Image and hardware; with the disk, whatever the image's source was.
        key: The private key that cloud-init tells the guest of, where it is the user's own.

    Raises:
        OSError: A file that the model names cannot be read.
    """
    image = model.image
    parts: dict[str, object] = {
        "format": _FORMAT,
        "virtualbox": [platform.identity, platform.version],
        "processor": platform.processor,
        "model": model.digest(),
        "names": [model.image_name, model.hardware.name],
        # Of another computer's files there is only the path, which the model has.
        "files": [state_of(path) for path in _files(model)] if platform.local else [],
    }
    if image.cloud_init is not None:
        file = image.cloud_init.user_data_file
        parts["told"] = [
            hashlib.sha256(read_regular(file)).hexdigest() if file is not None else None,
            image.password.get_secret_value() if image.password is not None else None,
            public_key(key) if key is not None else None,
        ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def subject(model: MachineModel, project: str) -> str:
    """A digest of what a golden machine is for: of two with the same subject, the older one is out of date.

    Args:
        model: Image and hardware.
        project: From where images and profiles were read.
    """
    hardware = model.hardware
    parts = [project, model.image_name, model.profile_name, hardware.memory, hardware.cpus, hardware.name]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files(model: MachineModel) -> Iterator[Path]:
    """The local files that become part of a machine."""
    if model.image.disk is not None:
        yield model.image.disk
    for device in model.hardware.devices:
        if device.medium is not None:
            yield device.medium
