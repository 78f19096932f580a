"""One authenticated SSH connection to a guest."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import paramiko

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.authentication import Authentication, GuestBooting
from pytest_vbox.guest.banner import Sightings, wait_for_banner
from pytest_vbox.guest.errors import (
    ConnectionLost,
    CopyFailed,
    GuestError,
    GuestUnreachable,
    HostKeyMismatch,
    IncompatibleServer,
    LoginRefused,
)
from pytest_vbox.guest.keys import fingerprint, host_key_text, load_key, parse_host_key
from pytest_vbox.guest.login import Login
from pytest_vbox.guest.settle import Settling
from pytest_vbox.guest.sftp import GuestSFTPClient
from pytest_vbox.guest.transport import LOG_CHANNEL, GuestTransport
from pytest_vbox.printable import harmless

# Seconds one handshake with login may take before the connection is thought dead and made anew. A guest in
# an interpreter needs up to 12 s, several at once on a loaded host some times that.
_HANDSHAKE = 90.0
# Seconds to wait after the guest hung up in the middle of a handshake; doubled each time up to the second.
_RETRY, _LONGEST_RETRY = 0.5, 5.0
# At least so long after a refused login that is to be tried again: it costs the guest the whole handshake.
_REFUSED = 1.0
# Seconds without an answer after which a file transfer is given up.
_SFTP_SILENCE = 60.0
# A thread wakes so late, in seconds, only if this process was stopped.
_LATE = 0.25
#: Seconds in which what came in while this process was stopped can be looked at.
LAST_LOOK = 2.0


class Connection:
    """A connection that is logged in; made by `connect`, closed by `close` or as a context manager."""

    def __init__(self, client: paramiko.SSHClient, address: tuple[str, int], login: Login, host_key: str) -> None:
        self.ssh = client
        """The connected `paramiko.SSHClient`."""
        self.address = address
        """Host and port that were connected to."""
        self.login = login
        """Who is logged in."""
        self.host_key = host_key
        """The key the guest showed, as ``type base64``: what to pin at the next connection."""
        self.runs_commands = False
        """Whether the login's shell has been seen to run a command."""
        self.sftp_lock = threading.RLock()
        """Held during a copy: paramiko's SFTP client is not made for two threads at once."""
        self.on_silence: Callable[[], None] = lambda: None
        """Called now and then while a command says nothing; what it raises ends the wait for it."""
        self._sftp: paramiko.SFTPClient | None = None
        self._settling: Settling | None = None
        self._settling_lock = threading.Lock()

    def __repr__(self) -> str:
        state = "alive" if self.alive else "dead"
        return f"<Connection {self.login.user}@{self.address[0]}:{self.address[1]} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as this host knows: a silent guest may be gone all the same."""
        transport = self.ssh.get_transport()
        return transport is not None and transport.is_active()

    @property
    def transport(self) -> GuestTransport:
        """The SSH transport underneath.

        Raises:
            ConnectionLost: The connection is closed.
        """
        transport = self.ssh.get_transport()
        if not isinstance(transport, GuestTransport):
            raise ConnectionLost("it has been closed")
        return transport

    def open_session(self, deadline: Deadline) -> paramiko.Channel:
        """A new session channel, which one command or subsystem can run on.

        Raises:
            TimeoutError: There was no answer in time.
            ConnectionLost: The guest is gone.
            GuestError: The server refuses one more session.
        """
        transport = self.transport
        try:
            return transport.open_session(timeout=deadline.at_most(_SFTP_SILENCE * 60))
        except paramiko.ChannelException as error:
            hint = "too many commands at once (sshd's MaxSessions)?"
            raise GuestError(f"the guest's SSH server refused a session: {error.text}; {hint}") from harmless(
                error
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not transport.is_active():
                raise ConnectionLost(
                    f"no session could be opened ({transport.fault or _text(error)})"
                ) from harmless(error)
            raise TimeoutError(f"the guest did not answer within {deadline.elapsed:.1f} s") from harmless(error)

    @property
    def sftp(self) -> paramiko.SFTPClient:
        """The SFTP client, opened when first asked for.

        Raises:
            ConnectionLost: The guest is gone.
            CopyFailed: The guest's SSH server has no SFTP.
        """
        with self.sftp_lock:
            if self._sftp is None or self._sftp.sock.closed:
                self._sftp = self._open_sftp()
            return self._sftp

    def _open_sftp(self) -> paramiko.SFTPClient:
        deadline = Deadline(_SFTP_SILENCE)
        try:
            channel = self.open_session(deadline)
        except TimeoutError as error:
            raise ConnectionLost(f"no file transfer could be opened: {error}") from harmless(error)
        try:
            with closing_at(deadline, channel):
                channel.invoke_subsystem("sftp")
            channel.settimeout(_SFTP_SILENCE)
            return GuestSFTPClient(channel)
        except (paramiko.SSHException, paramiko.SFTPError, EOFError, OSError) as error:
            close_channel(channel)
            if not self.alive:
                raise ConnectionLost(f"no file transfer could be opened ({_text(error)})") from harmless(error)
            hint = "install openssh-sftp-server in the image, or copy through run() with input and stdout"
            raise CopyFailed(f"the guest's SSH server has no SFTP ({_text(error)}); {hint}") from harmless(error)

    def settle_first(self, settling: Settling) -> None:
        """Have something done in the guest before, or with, the first thing that is done over this connection."""
        with self._settling_lock:
            self._settling = settling

    def take_settling(self) -> Settling | None:
        """What is still to be done first; who takes it has to do it."""
        with self._settling_lock:
            settling, self._settling = self._settling, None
            return settling

    def drop_sftp(self) -> None:
        """Close the SFTP session, whose next answer may be to a question given up; the next use opens one."""
        with self.sftp_lock:
            if self._sftp is not None:
                close_channel(self._sftp.sock)
                self._sftp = None

    def close(self) -> None:
        """Close the connection; closing it twice does no harm."""
        transport = self.ssh.get_transport()
        self.ssh.close()
        if isinstance(transport, GuestTransport):
            transport.discard()


def close_channel(channel: paramiko.Channel) -> None:
    """Close a channel, of a dead connection too: paramiko would fail to say goodbye."""
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel.close()


class closing_at:  # noqa: N801 - reads like contextlib.closing
    """Closes a channel when the deadline passes: the only way out of paramiko's waits without a limit.

    This process may have been stopped meanwhile (by Ctrl-Z, or with its whole computer); an answer that came in
    then is not too late.
    """

    def __init__(self, deadline: Deadline, channel: paramiko.Channel) -> None:
        self._deadline, self._channel = deadline, channel
        self._left = threading.Event()

    def __enter__(self) -> None:
        if not math.isinf(self._deadline.remaining):
            threading.Thread(target=self._watch, name="closing_at", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def _watch(self) -> None:
        due = time.monotonic() + self._deadline.remaining
        if self._left.wait(min(self._deadline.remaining, threading.TIMEOUT_MAX)):
            return
        was_stopped = time.monotonic() - due > _LATE
        if was_stopped and self._left.wait(LAST_LOOK):
            return
        close_channel(self._channel)


class _Pin(paramiko.MissingHostKeyPolicy):
    """Accepts the pinned host key alone, or any if none is pinned, and remembers it."""

    def __init__(self, pinned: str | None) -> None:
        self._pinned = pinned
        self.shown = ""

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
        self.shown = host_key_text(key)
        if self._pinned is not None and self.shown != self._pinned:
            raise HostKeyMismatch(expected=fingerprint(self._pinned), got=fingerprint(self.shown))


def connect(
    address: tuple[str, int],
    login: Login,
    deadline: Deadline,
    *,
    known_host_key: str | None = None,
    on_wait: Callable[[], None] | None = None,
    retry_refused: bool = False,
) -> Connection:
    """Wait until the guest's SSH server speaks, and log in on that same connection.

    Never uses an agent, ``~/.ssh`` or a file of known hosts. A guest that hangs up during the handshake, or
    refuses logins because it is still booting, is tried again until the deadline.

    Args:
        address: Host and port.
        login: Who logs in; its key file is read first, before anything is sent.
        deadline: When to give up.
        known_host_key: The only key to accept, as ``type base64``, where the login pins none.
        on_wait: Called about every second during the wait; what it raises ends the wait.
        retry_refused: Try again after a refused login too, until the deadline: cloud-init may still have to make
            the account, or to give it its key.

    Raises:
        KeyUnusable: The key file can't be used.
        ValueError: ``known_host_key`` is no public key.
        GuestUnreachable: There was no connection in time.
        HostKeyMismatch: Another host key was shown.
        IncompatibleServer: No algorithm in common.
        LoginRefused: The server refused the login; with ``retry_refused``, to the end.
    """
    key = load_key(login.private_key) if login.private_key is not None else None
    pinned = login.host_key or known_host_key
    pinned = parse_host_key(pinned) if pinned is not None else None
    sightings, pause = Sightings(), _RETRY
    refused: LoginRefused | None = None
    while True:
        try:
            sock = wait_for_banner(address, deadline, on_wait, sightings)
        except GuestUnreachable as error:
            if refused is None:
                raise
            raise refused from error
        attempt = _Attempt(sock, address, login, key, pinned, deadline.sooner(_HANDSHAKE))
        try:
            return attempt.connect()
        except (paramiko.SSHException, EOFError, OSError) as error:
            sightings.add(attempt.describe(error))
            sightings.phase, sightings.cause = attempt.phase, harmless(error)
        except LoginRefused as error:
            if not retry_refused:
                raise
            error.tries = 1 + (refused.tries if refused is not None else 0)
            refused = error
            sightings.add(f"login refused after {', '.join(error.tried)}")
            pause = max(pause, _REFUSED)
        if on_wait is not None and not deadline.expired:
            on_wait()
        # Nothing tells when the guest is ready for another try.
        threading.Event().wait(deadline.at_most(pause))
        pause = min(_LONGEST_RETRY, 2 * pause)


class _Attempt:
    """One handshake and login on a connection whose banner has come."""

    def __init__(
        self,
        sock: socket.socket,
        address: tuple[str, int],
        login: Login,
        key: paramiko.PKey | None,
        pinned: str | None,
        deadline: Deadline,
    ) -> None:
        # Small packets go back and forth; none should wait for another to fill up.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address, self._login, self._deadline = address, login, deadline
        self._policy = _Pin(pinned)
        self._authentication = Authentication(login, key)
        kind = pinned.split()[0] if pinned is not None else None
        self._transport = GuestTransport(sock, host_key_type=kind, timeout=max(0.1, deadline.remaining))

    @property
    def phase(self) -> str:
        return "login" if self._policy.shown else "handshake"

    def describe(self, error: BaseException) -> str:
        if isinstance(error, GuestBooting):
            return str(error)
        if self._deadline.expired:
            return f"banner, then no answer in the {self.phase}"
        return f"banner, then hung up in the {self.phase} ({_text(error)})"

    def connect(self) -> Connection:
        client = paramiko.SSHClient()
        client.set_log_channel(LOG_CHANNEL)
        client.set_missing_host_key_policy(self._policy)
        try:
            client.connect(
                self._address[0],
                self._address[1],
                username=self._login.user,
                # The transport has the socket; paramiko wants to see it all the same.
                sock=self._transport.sock,
                timeout=self._deadline.remaining,
                transport_factory=lambda _sock, **_options: self._transport,
                auth_strategy=self._authentication,
            )
        except paramiko.ssh_exception.IncompatiblePeer as error:
            self._discard(client)
            server = self._transport.remote_version
            raise IncompatibleServer(f"{error}; the guest runs {server}") from harmless(error)
        except BaseException:
            self._discard(client)
            raise
        return Connection(client, self._address, self._login, self._policy.shown)

    def _discard(self, client: paramiko.SSHClient) -> None:
        client.close()
        self._transport.discard()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
