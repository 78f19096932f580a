"""What a golden machine is: booted once, made ready, with an online snapshot, and kept to be forked.

A golden machine is a registered machine that is never started again. What it is says its extra data, which is
written last: without it, a machine in its group is half made, and belongs to the ledger of whoever is at it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_vbox.images import state_of
from pytest_vbox.machines.plan import GOLDEN_GROUP, Plan

#: Extra data of a golden machine: what it is, as JSON.
GOLDEN_KEY: Final = "pytest-vbox/golden"
#: The name of its snapshot.
SNAPSHOT: Final = "ready"


@dataclass(frozen=True)
class Golden:
    """A golden machine, as its extra data says.

    Attributes:
        id: Its UUID in VirtualBox.
        name: Its name there.
        key: The digest of what it is made of.
        subject: The digest of what it is for.
        image: The name of its image.
        profile: The name of its hardware profile.
        virtualbox: The version that made its saved state.
        base: The path of its image's disk, and its state then; on another computer the path alone.
        host_key: What its SSH server shows.
        private_key: The key that logs in, where cloud-init was told of one that was made for it.
        sudo_asks: Whether sudo wants a password for the user.
        tool: With what its guest's random pool gets a seed of its own (see `guest.find_tool`).
        cold_seconds: What it took from the start of its making until it was ready.
        ssh_seconds: What its SSH handshake took.
        made: When, as ISO 8601 in UTC.
        discarded: Why it must not be used any more, or an empty string.
    """

    id: str
    name: str
    key: str
    subject: str
    image: str
    profile: str
    virtualbox: str
    base: tuple[str, str]
    host_key: str
    private_key: str | None = None
    sudo_asks: bool = False
    tool: str = ""
    cold_seconds: float = 0.0
    ssh_seconds: float = 0.0
    made: str = ""
    discarded: str = ""

    @classmethod
    def parse(cls, text: str) -> Golden | None:
        """What the extra data says; None if it is not ours, or of another version of pytest-vbox."""
        try:
            document: dict[str, Any] = json.loads(text)
            path, state = document["base"]
            golden = cls(**{**document, "base": (str(path), str(state))})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return golden if golden._is_sound() else None

    def _is_sound(self) -> bool:
        """Whether each field is of the type it has to be of, so that nobody has to expect anything else."""
        values = vars(self) | {"private_key": self.private_key or "", "base": ""}
        kinds: dict[str, type | tuple[type, ...]] = {"sudo_asks": bool}
        kinds |= dict.fromkeys(("cold_seconds", "ssh_seconds"), (int, float))
        return all(isinstance(value, kinds.get(name, str)) for name, value in values.items())


def is_stale(golden: Golden) -> bool:
    """Whether the disk it was made of is gone, or has changed since; on this computer."""
    path, state = golden.base
    try:
        return state_of(Path(path)) != state
    except (OSError, ValueError):  # no path has a NUL in it
        return True


def golden_plan(plan: Plan, name: str) -> Plan:
    """The plan for the golden machine that a machine is forked from."""
    owner = replace(plan.owner, test="")
    return Plan(name, plan.model, owner, plan.boot_timeout, key=plan.key, group=GOLDEN_GROUP)
