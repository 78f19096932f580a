"""What every machine of a host shares: the way to VirtualBox, and what the user said about logins and files."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_vbox.exhaustion import Folder, own_folders
from pytest_vbox.guest import Login
from pytest_vbox.machines.plan import Plan, safe_name
from pytest_vbox.machines.run_key import RunKey, leave_copy
from pytest_vbox.models import Image
from pytest_vbox.records import Journal
from pytest_vbox.virtualbox import Machine, WebSession
from pytest_vbox.virtualbox.errors import VirtualBoxError


class NotWanted(Exception):
    """The run ends before a machine was made ready for it."""


@dataclass(frozen=True)
class Context:
    """Where machines live.

    Attributes:
        session: The connection to VirtualBox.
        state: The state folder.
        local: Whether VirtualBox, and so a machine's files, are on this computer.
        address: Where forwarded ports are reached.
        artifacts: The folder for what machines show when something fails.
        ssh_key: A private key to log in with instead of the images' own.
        run_key: The run's own key, for guests that are told of it by cloud-init.
        journal: Is told what is waited for, and how machines came.
        ending: Set when nobody wants another machine any more.
    """

    session: WebSession
    state: Path
    local: bool
    address: str
    artifacts: Path
    ssh_key: Path | None = None
    run_key: RunKey | None = None
    journal: Journal = field(default_factory=Journal)
    ending: threading.Event = field(default_factory=threading.Event)

    def check_wanted(self) -> None:
        """See that somebody still wants what is being made in the background.

        Raises:
            NotWanted: The run ends.
        """
        if self.ending.is_set():
            raise NotWanted

    @property
    def bind(self) -> str:
        """The address on the host that forwards listen on: all of them if they have to be reached from afar."""
        return "127.0.0.1" if self.local else ""

    def private_key(self, image: Image) -> Path | None:
        """The private key to log in with, or None if there is only a password."""
        if self.key_is_ours_to_make(image) and self.run_key is not None:
            return self.run_key.path
        return self.ssh_key or image.private_key

    def key_is_ours_to_make(self, image: Image) -> bool:
        """Whether the guest is told by cloud-init of a key that nobody has chosen."""
        return image.cloud_init is not None and self.ssh_key is None and image.private_key is None

    def lasting_key(self, key: Path | None, machine: Machine) -> Path | None:
        """The private key for a machine that outlives the run: one that we made is copied to its folder.

        On another computer, where no key is of our making, its folder would be any folder here.
        """
        if key is None or not self.local or self.state not in key.parents:
            return key
        return leave_copy(key, Path(machine.settings_file_path).parent)

    def login(self, plan: Plan) -> Login:
        """How to log in to a guest."""
        image = plan.model.image
        return Login(
            user=image.user,
            password=image.password.get_secret_value() if image.password else None,
            private_key=plan.key,
            sudo_password=image.sudo_password.get_secret_value() if image.sudo_password else None,
            host_key=image.host_key,
        )

    def folders(self) -> dict[Folder, Path]:
        """Where things are written on this computer, for an error that says where there is no room."""
        folders = {**own_folders(), Folder.STATE: self.state, Folder.ARTIFACTS: self.artifacts.absolute()}
        if self.local:
            with suppress(VirtualBoxError, OSError):  # it may be what does not answer
                machines = Path(self.session.virtualbox.system_properties.default_machine_folder)
                folders = {Folder.MACHINES: machines, **folders}
        return folders

    def artifacts_folder(self, name: str, test: str) -> Path:
        """Where what a machine showed in a test is saved."""
        return self.artifacts / (safe_name(test) or "no-test") / name
