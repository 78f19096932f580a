"""Where the rig keeps things: the cache that all rigs share, and one state folder for each rig."""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from vboxrig.errors import RigError

RECIPES = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Return the folder of what takes long to make; deleting it while no rig is up is always safe."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "pytest-vbox" / "rig"


def state_base() -> Path:
    """Return the folder that holds the state folders of all rigs."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "pytest-vbox" / "rig"


@dataclass(frozen=True)
class Places:
    """The files of one rig, all below its state folder."""

    name: str
    state: Path

    @property
    def record(self) -> Path:
        """The rig's processes and its port, as JSON."""
        return self.state / "rig.json"

    @property
    def lock(self) -> Path:
        """Locked while the rig is being started or ended. Outside `state`, which `rig down` may delete."""
        return self.state.with_name(f".{self.name}.lock")

    @property
    def root(self) -> Path:
        """Where the rig's own root is put together; seen so only inside its mount namespace."""
        return self.state / "root"

    @property
    def home(self) -> Path:
        """VirtualBox's home: its settings, its media registry."""
        return self.state / "home"

    @property
    def machines(self) -> Path:
        """VirtualBox's default machine folder."""
        return self.state / "machines"

    @property
    def logs(self) -> Path:
        """What the rig's processes print."""
        return self.state / "logs"

    @property
    def bin(self) -> Path:
        """VBoxManage and vboxwebsrv, to be called from outside the rig."""
        return self.state / "bin"

    @property
    def profiles(self) -> Path:
        """A profile folder for pytest-vbox, with the image and the hardware `tiny`."""
        return self.state / "profiles"

    @property
    def password(self) -> Path:
        """The password of the web service, mode 0600."""
        return self.state / "password"

    @property
    def environment(self) -> Path:
        """The shell file that tells pytest-vbox of this rig."""
        return self.state / "env.sh"

    @property
    def ipc_id(self) -> str:
        """The name of VirtualBox's IPC socket: one for each rig, whichever state folder it is in."""
        return f"rig-{self.name}-{zlib.crc32(str(self.state).encode()):08x}"

    @property
    def ipc_folder(self) -> Path:
        """The folder that VirtualBox's IPC daemon makes for its socket."""
        return Path("/tmp", f".vbox-{self.ipc_id}-ipc")  # noqa: S108 - VirtualBox's choice, not ours


def places(name: str) -> Places:
    """Return the places of the rig called `name`.

    Raises:
        RigError: the name cannot be a file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
        raise RigError(f"a rig's name is up to 32 letters, digits, - and _, not {name!r}")
    return Places(name, state_base() / name)
