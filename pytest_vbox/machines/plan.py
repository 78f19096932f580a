"""A plan: everything decided about a machine before VirtualBox hears of it."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pytest_vbox.models import MachineModel
from pytest_vbox.settings import Reset

GROUP: Final = "/pytest-vbox"
#: The group of the machines that are booted once, for others to be forked from.
GOLDEN_GROUP: Final = "/pytest-vbox/golden"
#: The extra data by which a machine says whose it is: run, process, time and test, as JSON.
OWNER_KEY: Final = "pytest-vbox/owner"
_NAME_LENGTH: Final = 48
_HOST_NAME: Final = 63
_MACHINE_NAME: Final = re.compile(r"pytest-[A-Za-z0-9_-]+-[0-9a-f]{8}")


@dataclass(frozen=True)
class Owner:
    """Who a machine is made for.

    Attributes:
        run: The id of the run, shared by all its workers.
        test: The test's id, or an empty string outside of tests.
    """

    run: str
    test: str = ""


@dataclass(frozen=True)
class Plan:
    """What a machine will be: its identity, and what it is made from.

    Attributes:
        name: Its name in VirtualBox.
        model: Image and hardware, merged.
        owner: Who it is for.
        boot_timeout: Seconds from power-on to SSH.
        reset: What the machine's ``reset()`` does.
        key: The private key to log in with, or None if there is only a password.
        group: VirtualBox's group for it, which its folder is named after.
        id: Its UUID, chosen here so that it can be written down before the machine exists.
    """

    name: str
    model: MachineModel
    owner: Owner
    boot_timeout: float
    reset: Reset = Reset.DISK
    key: Path | None = None
    group: str = GROUP
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def groups(self) -> list[str]:
        """All of VirtualBox's groups for it; the first one names its folder."""
        return [self.group, *self.model.hardware.groups]

    def renewed(self) -> Plan:
        """The same for another machine: with another name and UUID."""
        wish = re.sub(r"^pytest-|-[0-9a-f]{8}$", "", self.name)
        return replace(self, id=str(uuid.uuid4()), name=machine_name(wish))


def machine_name(wish: str) -> str:
    """A unique name that is safe in paths, shells and terminals, with as much of the wish in it as fits.

    Args:
        wish: The test's name, or what the user asked for; any text at all.
    """
    return f"pytest-{safe_name(wish) or 'machine'}-{uuid.uuid4().hex[:8]}"


def is_machine_name(name: str) -> bool:
    """Whether a name is one that :func:`machine_name` makes; nothing else is named so by chance."""
    return _MACHINE_NAME.fullmatch(name) is not None


def host_name(machine: str) -> str:
    """The host name for a machine: its name, as far as RFC 1123 allows."""
    name = machine.lower().replace("_", "-")
    # What it ends with makes it unique.
    return name if len(name) <= _HOST_NAME else name[-_HOST_NAME:].partition("-")[2]


def safe_name(text: str, length: int = _NAME_LENGTH) -> str:
    """As much of a text as may be part of a path, of a command line and of what a terminal shows."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[-length:].strip("-")
