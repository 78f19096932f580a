"""What a golden machine is: booted once, made ready, with an online snapshot, and kept to be forked.

A golden machine is a registered machine that is never started again. What it is says its extra data, which is
written last: without it, a machine in its group is half made, and belongs to the ledger of whoever is at it.

Extra data can be written by whoever has the machine's host, and by all who use that VirtualBox. So none of it
leads to a file, or to another machine, that is not the golden machine's own: `Golden.parse` sees to that, for all.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pytest_vbox.images import state_of
from pytest_vbox.machines.plan import GOLDEN_GROUP, Plan

#: Extra data of a golden machine: what it is, as JSON.
GOLDEN_KEY: Final = "pytest-vbox/golden"
#: The name of its snapshot.
SNAPSHOT: Final = "ready"
# The name of a key's file.
_KEY_FILE: Final = re.compile("[0-9a-f]{32}")


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
    def parse(cls, text: str, machine_id: str, keys: Path) -> Golden | None:
        """What the extra data says; None if it is not ours, or of another version of pytest-vbox.

        One whose key is elsewhere is told as discarded, and without the key.

        Args:
            text: The extra data.
            machine_id: The UUID of the machine it was read from. Of another one, such as one that this was cloned
                from, it says nothing.
            keys: The folder that holds the keys of golden machines, see :func:`key_file`.
        """
        try:
            document: dict[str, Any] = json.loads(text)
            path, state = document["base"]
            golden = cls(**{**document, "base": (str(path), str(state))})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        if not golden._is_sound() or golden.id != machine_id or not _is_uuid(machine_id):
            return None
        key = golden.private_key
        if key is None or _is_key_file(key, keys):
            return golden
        return replace(golden, private_key=None, discarded=golden.discarded or f"its key is not in {keys}")

    def _is_sound(self) -> bool:
        """Whether each field is of the type it has to be of, so that nobody has to expect anything else."""
        values = vars(self) | {"private_key": self.private_key or "", "base": ""}
        kinds: dict[str, type | tuple[type, ...]] = {"sudo_asks": bool}
        kinds |= dict.fromkeys(("cold_seconds", "ssh_seconds"), (int, float))
        return all(isinstance(value, kinds.get(name, str)) for name, value in values.items())


def key_file(keys: Path) -> Path:
    """Where a new key of a golden machine goes, in the folder that is theirs; there is nothing there yet."""
    return keys / uuid.uuid4().hex


def _is_key_file(text: str, keys: Path) -> bool:
    path = Path(text)
    return path.parent == keys and _KEY_FILE.fullmatch(path.name) is not None


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


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
