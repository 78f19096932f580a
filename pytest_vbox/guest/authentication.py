"""Logging in: the key first, then the password, and an error that says what the server would have taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import paramiko
from paramiko.auth_strategy import AuthResult, AuthSource, AuthStrategy

from pytest_vbox.guest.errors import LoginRefused
from pytest_vbox.guest.login import Login
from pytest_vbox.guest.transport import GuestTransport
from pytest_vbox.secret import Unseen

_Attempt = Callable[[], list[str]]


class GuestBooting(paramiko.SSHException):
    """The guest lets nobody in yet, because it is still booting: to be tried again."""


class Authentication(AuthStrategy):
    """What `paramiko.SSHClient.connect` does instead of its own search through agents and ``~/.ssh``.

    Args:
        login: Who logs in.
        key: The login's private key, loaded.
    """

    def __init__(self, login: Login, key: paramiko.PKey | None) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._login, self._key = login, key
        self._tried: list[str] = []
        self._allowed: list[str] = []

    def get_sources(self) -> Iterator[AuthSource]:
        """Nothing: what there is to try does not fit the base class's loop, which knows no second factor."""
        return iter(())

    def authenticate(self, transport: paramiko.Transport) -> AuthResult:
        """Log in over a transport whose keys are exchanged.

        Raises:
            LoginRefused: The server refused everything the login has.
            GuestBooting: It refused because the guest is booting.
            paramiko.SSHException: The connection broke, or there was no answer in time.
        """
        assert isinstance(transport, GuestTransport)  # noqa: S101 - from our own factory
        for method, attempt in self._attempts(transport):
            self._tried.append(method)
            if self._succeeds(attempt, transport):
                return AuthResult(self)
        if not self._allowed:
            # A plain refusal comes without the list of methods; this one always has it.
            self._succeeds(lambda: _listed(transport.auth_none(self._login.user)), transport)
        raise self._refused(transport)

    def _attempts(self, transport: GuestTransport) -> Iterator[tuple[str, _Attempt]]:
        user, key, password = self._login.user, self._key, self._login.password
        if key is not None:
            yield "publickey", lambda: _listed(transport.auth_publickey(user, key))
        if password is not None:
            # Turns to keyboard-interactive by itself where the server takes passwords only that way.
            yield "password", lambda: _listed(transport.auth_password(user, password))
        if key is None and password is None:
            yield "none", lambda: _listed(transport.auth_none(user))

    def _succeeds(self, attempt: _Attempt, transport: GuestTransport) -> bool:
        try:
            with Unseen():
                self._allowed = attempt()
        except paramiko.BadAuthenticationType as error:
            self._allowed = list(error.allowed_types)
        except paramiko.AuthenticationException as error:
            if transport.is_active() and "timeout" not in str(error).lower():
                return False
            self._explain_end(transport)
            raise
        else:
            # What is left in the list has to be given too: more than one factor is asked for.
            return not self._allowed
        return False

    def _explain_end(self, transport: GuestTransport) -> None:
        """Raise the better error, if there is one, for a connection that the server ended."""
        if _is_booting(transport):
            raise GuestBooting(f"logins are refused while the guest boots ({_banner(transport)})")
        if transport.farewell:
            raise self._refused(transport)

    def _refused(self, transport: GuestTransport) -> LoginRefused | GuestBooting:
        if _is_booting(transport):
            return GuestBooting(f"logins are refused while the guest boots ({_banner(transport)})")
        return LoginRefused(
            self._login.user,
            tried=self._tried,
            allowed=self._allowed,
            detail=transport.farewell or _banner(transport),
            hint=self._hint(transport),
        )

    def _hint(self, transport: GuestTransport) -> str:
        if self._tried == ["none"]:
            return "the login has neither a password nor a private key"
        if "publickey" in self._tried and isinstance(self._key, paramiko.RSAKey):
            version = re.match(r"SSH-2\.0-OpenSSH_(\d+)\.(\d+)", transport.remote_version)
            if version and (int(version[1]), int(version[2])) < (7, 2):
                return (
                    f"{transport.remote_version} knows RSA keys only with SHA-1, which is not used any more: "
                    "give an ECDSA or ed25519 key, or a password"
                )
        if "publickey" in self._tried:
            account = "the account" if "password" in self._tried else "the key or the account"
            return (
                f"is the key's public half in ~{self._login.user}/.ssh/authorized_keys, and {account} right? Some "
                "servers also refuse an account whose shell is missing or not in /etc/shells"
            )
        if "publickey" in self._allowed and not {"password", "keyboard-interactive"} & set(self._allowed):
            return "the server takes keys only: give the login a private key"
        if self._login.user == "root":
            return "is the password right? Many servers let root in with a key only (PermitRootLogin)"
        return "is the password right?"


def _listed(methods: object) -> list[str]:
    """paramiko's answer to an attempt: the methods still wanted, which is an empty list after success."""
    return [str(method) for method in methods] if isinstance(methods, (list, tuple)) else []


def _banner(transport: GuestTransport) -> str:
    text = transport.get_banner()
    return text.decode("utf-8", "replace").strip() if text else ""


def _is_booting(transport: GuestTransport) -> bool:
    """Whether pam_nologin speaks: systemd keeps users out until the boot is nearly over."""
    text = _banner(transport).lower()
    return "nologin" in text or "booting up" in text
