"""What every machine of a host shares: the way to VirtualBox, and what the user said about logins and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_vbox.guest import Login
from pytest_vbox.machines.plan import Plan, safe_name
from pytest_vbox.virtualbox import WebSession


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
    """

    session: WebSession
    state: Path
    local: bool
    address: str
    artifacts: Path
    ssh_key: Path | None = None

    @property
    def bind(self) -> str:
        """The address on the host that forwards listen on: all of them if they have to be reached from afar."""
        return "127.0.0.1" if self.local else ""

    def login(self, plan: Plan) -> Login:
        """How to log in to a guest."""
        image = plan.model.image
        return Login(
            user=image.user,
            password=image.password.get_secret_value() if image.password else None,
            private_key=self.ssh_key or image.private_key,
            sudo_password=image.sudo_password.get_secret_value() if image.sudo_password else None,
            host_key=image.host_key,
        )

    def artifacts_folder(self, name: str, test: str) -> Path:
        """Where what a machine showed in a test is saved."""
        return self.artifacts / (safe_name(test) or "no-test") / name
