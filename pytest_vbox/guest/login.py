"""Who logs in to a guest, and with what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_vbox.guest.keys import parse_host_key
from pytest_vbox.secret import Secret


@dataclass(frozen=True, init=False)
class Login:
    """An account in a guest. Passwords never show, neither in its repr nor where they are taken from it.

    Args:
        user: The account's name.
        password: For logging in, if the server takes passwords.
        private_key: A file; see `load_key` for the kinds. Tried before the password.
        sudo_password: What sudo asks for; ``None`` means the same as ``password``.
        host_key: The only host key accepted, as ``ssh-ed25519 AAAA…``; ``None`` accepts any at first contact.

    Raises:
        ValueError: The user is empty or ``host_key`` is no public key.
    """

    user: str
    password: Secret | None = field(repr=False)
    private_key: Path | None
    sudo_password: Secret | None = field(repr=False)
    host_key: str | None

    def __init__(
        self,
        user: str,
        password: str | None = None,
        private_key: Path | None = None,
        sudo_password: str | None = None,
        host_key: str | None = None,
    ) -> None:
        # First of all, and not only in the fields: what is raised below shows the variables of this function.
        password, sudo_password = _secret(password), _secret(sudo_password)
        values = {
            "user": user,
            "password": password,
            "private_key": private_key,
            "sudo_password": sudo_password,
            "host_key": host_key,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if not user:
            raise ValueError("a login needs a user")
        if host_key is not None:
            parse_host_key(host_key)

    @property
    def password_for_sudo(self) -> Secret | None:
        """What to answer when sudo asks, or ``None`` if there is nothing to answer."""
        return self.password if self.sudo_password is None else self.sudo_password


def _secret(text: str | None) -> Secret | None:
    return Secret(text) if text is not None else None
