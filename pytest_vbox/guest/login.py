"""Who logs in to a guest, and with what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pytest_vbox.guest.keys import parse_host_key


@dataclass(frozen=True)
class Login:
    """An account in a guest. Passwords never show in its repr.

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
    password: str | None = field(default=None, repr=False)
    private_key: Path | None = None
    sudo_password: str | None = field(default=None, repr=False)
    host_key: str | None = None

    def __post_init__(self) -> None:
        if not self.user:
            raise ValueError("a login needs a user")
        if self.host_key is not None:
            parse_host_key(self.host_key)

    @property
    def password_for_sudo(self) -> str | None:
        """What to answer when sudo asks, or ``None`` if there is nothing to answer."""
        return self.password if self.sudo_password is None else self.sudo_password
