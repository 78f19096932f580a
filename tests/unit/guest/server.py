"""A real SSH server in this process, on loopback, that runs commands with /bin/sh, and can misbehave."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    OPEN_SUCCEEDED,
)
from paramiko.server import InteractiveQuery

from .sftp_server import FolderServer

USER, PASSWORD = "vagrant", "s3cret word"


def new_key() -> paramiko.Ed25519Key:
    """A fresh ed25519 key."""
    return paramiko.Ed25519Key.from_private_key(io.StringIO(new_key_text()))


def new_key_text(
    encoding: serialization.PrivateFormat = serialization.PrivateFormat.OpenSSH,
    encryption: serialization.KeySerializationEncryption | None = None,
) -> str:
    """The text of a fresh ed25519 private key file."""
    key = ed25519.Ed25519PrivateKey.generate()
    how = encryption or serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, encoding, how).decode()


@dataclass
class Behaviour:
    """How the server is to behave; may be changed while it runs."""

    root: Path
    password: str = PASSWORD
    methods: str = "publickey,password"
    keys: list[paramiko.PKey] = field(default_factory=list)
    #: What becomes of the next connections instead of SSH, first one first; see `GuestServer._misbehave`.
    connections: list[str | bytes] = field(default_factory=list)
    greeting: str = ""
    #: What to do with a login's last step instead of answering: "hang up" or "disconnect".
    login: list[str] = field(default_factory=list)
    second_factor: bool = False
    exec_refused: bool = False
    #: What a command is answered after; the server's own end, for one that is silent.
    exec_after: threading.Event | None = None
    sessions_refused: bool = False
    sftp: bool = True
    shell: str = "/bin/sh"
    forwarding: int = OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
    environment: dict[str, str] = field(default_factory=dict)


class _Interface(paramiko.ServerInterface):
    def __init__(self, server: GuestServer, transport: _Transport) -> None:
        self._server, self._behaviour, self._transport = server, server.behaviour, transport
        self._first_factor = False

    def get_banner(self) -> tuple[str, str]:
        return self._behaviour.greeting, "en"

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return self._behaviour.methods

    def _decide(self, method: str, *, right: bool) -> int:
        self._server.attempts.append(method)
        if self._behaviour.login:
            how = self._behaviour.login.pop(0)
            if how == "disconnect":
                self._transport.auth_handler._disconnect_no_more_auth()  # type: ignore[union-attr]
            self._transport.close()
            return AUTH_FAILED
        if not right or method not in self._behaviour.methods.split(","):
            return AUTH_FAILED
        if self._behaviour.second_factor and not self._first_factor:
            self._first_factor = True
            return AUTH_PARTIALLY_SUCCESSFUL
        return AUTH_SUCCESSFUL

    def check_auth_none(self, username: str) -> int:  # noqa: ARG002
        return self._decide("none", right=True)

    def check_auth_password(self, username: str, password: str) -> int:
        return self._decide("password", right=(username, password) == (USER, self._behaviour.password))

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._decide("publickey", right=username in (USER, "root") and key in self._behaviour.keys)

    def check_auth_interactive(self, username: str, submethods: str) -> int | InteractiveQuery:  # noqa: ARG002
        if "keyboard-interactive" not in self._behaviour.methods:
            return AUTH_FAILED
        return InteractiveQuery("", "", ("Password: ", False))

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self._decide("keyboard-interactive", right=responses == [self._behaviour.password])

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        if self._behaviour.sessions_refused:
            return OPEN_FAILED_RESOURCE_SHORTAGE
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self,
        chanid: int,  # noqa: ARG002
        origin: tuple[str, int],  # noqa: ARG002
        destination: tuple[str, int],  # noqa: ARG002
    ) -> int:
        return self._behaviour.forwarding

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        return self._behaviour.sftp and super().check_channel_subsystem_request(channel, name)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.commands.append(command.decode())
        if self._behaviour.exec_after is not None:
            self._behaviour.exec_after.wait()
        if self._behaviour.exec_refused:
            return False
        # Once the client has been told that it runs: a command that ends at once would close the channel before.
        self._transport.answered.append(lambda: self._server.execute(channel, command))
        return True


class _Transport(paramiko.Transport):
    """paramiko's, which as a server does not know the request to send a signal to a command."""

    on_signal: Callable[[paramiko.Channel, bytes], None]

    def __init__(self, sock: socket.socket, spawn: Callable[[Callable[[], None]], None]) -> None:
        super().__init__(sock)
        self.spawn = spawn
        #: What is done once the request at hand has been answered.
        self.answered: list[Callable[[], None]] = []
        handlers: dict[int, Any] = getattr(paramiko.Transport, "_channel_handler_table")  # noqa: B009
        self._channel_handler_table = {**handlers, MSG_CHANNEL_REQUEST: self._request}

    def _request(self, channel: Any, message: paramiko.Message) -> None:
        start = message.packet.tell()
        if message.get_text() == "signal":
            message.get_boolean()
            self.on_signal(channel, message.get_string())
        else:
            message.packet.seek(start)
            channel._handle_request(message)
            while self.answered:
                self.spawn(self.answered.pop(0))


class GuestServer:
    """The server; a context manager.

    Args:
        behaviour: How to behave.
        host_keys: One by default.
    """

    def __init__(self, behaviour: Behaviour, host_keys: Iterable[paramiko.PKey] = ()) -> None:
        self.behaviour = behaviour
        self.host_keys = list(host_keys) or [new_key()]
        self.stopped = threading.Event()
        self.connections = 0
        self.most_open = 0
        self.attempts: list[str] = []
        self.commands: list[str] = []
        self.signals: list[bytes] = []
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._transports: list[paramiko.Transport] = []
        self._kept: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()

    def __enter__(self) -> Self:
        self.spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        # Closing alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for process in self._processes.values():
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)

    def spawn(self, work: Callable[[], None]) -> None:
        """Work in a thread whose failures, once a client has gone, are nobody's concern."""

        def quietly() -> None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                work()

        threading.Thread(target=quietly, daemon=True).start()

    def hang_up(self) -> None:
        """End every connection, as a guest does that is switched off."""
        for sock in self._kept:
            sock.close()
        for transport in self._transports:
            transport.close()

    def _accept(self) -> None:
        while not self.stopped.is_set():
            sock, _ = self._listener.accept()
            self.connections += 1
            self.most_open = max(self.most_open, 1 + sum(map(_is_open, self._kept)))
            if self.behaviour.connections:
                self._misbehave(sock, self.behaviour.connections.pop(0))
            else:
                self._serve(sock)

    def _misbehave(self, sock: socket.socket, how: str | bytes) -> None:
        if how in ("silent", "slow banner", "mute"):
            self._kept.append(sock)
        # A client that has heard enough hangs up in the middle of what is sent.
        with contextlib.suppress(OSError):
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "banner only":
                sock.sendall(b"SSH-2.0-halfway\r\n")
                sock.recv(1)
            elif how == "slow banner":
                sock.sendall(b"SS")
                self.stopped.wait(0.05)
                sock.sendall(b"H-2.0-slow\r\n")
            elif how == "mute":
                sock.sendall(b"SSH-2.0-mute\r\n")
            elif isinstance(how, bytes):
                sock.sendall(how)
        if sock not in self._kept:
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        # As real servers do; otherwise every command waits 40 ms for an acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = _Transport(sock, self.spawn)
        transport.on_signal = self._signal
        for key in self.host_keys:
            transport.add_server_key(key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, FolderServer, self.behaviour.root)
        self._transports.append(transport)
        transport.start_server(threading.Event(), _Interface(self, transport))

    def _signal(self, channel: paramiko.Channel, name: bytes) -> None:
        self.signals.append(name)
        os.killpg(self._processes[id(channel)].pid, signal.Signals[f"SIG{name.decode()}"])

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        """Run a command in a session of its own, as OpenSSH does."""
        process = subprocess.Popen(
            [self.behaviour.shell, "-c", command],
            cwd=self.behaviour.root,
            env={**os.environ, **self.behaviour.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._processes[id(channel)] = process
        assert process.stdin
        assert process.stdout
        assert process.stderr
        with process.stdin, process.stdout, process.stderr:
            feeder = threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True)
            feeder.start()
            readers = [
                threading.Thread(target=_pass_on, args=(process.stdout, channel.sendall), daemon=True),
                threading.Thread(target=_pass_on, args=(process.stderr, channel.sendall_stderr), daemon=True),
            ]
            for reader in readers:
                reader.start()
            self._report(channel, process.wait())
            for reader in readers:
                reader.join()
            channel.close()
            feeder.join()

    def _report(self, channel: paramiko.Channel, returncode: int) -> None:
        if returncode >= 0:
            channel.send_exit_status(returncode)
            return
        message = paramiko.Message()
        message.add_byte(bytes([98]))  # SSH_MSG_CHANNEL_REQUEST
        message.add_int(channel.remote_chanid)
        message.add_string("exit-signal")
        message.add_boolean(False)
        message.add_string(signal.Signals(-returncode).name.removeprefix("SIG"))
        message.add_boolean(False)
        message.add_string("")
        message.add_string("")
        transport: Any = channel.get_transport()
        transport._send_user_message(message)


def _is_open(sock: socket.socket) -> bool:
    """Whether the other end still holds a connection that nothing was sent on."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _feed(channel: paramiko.Channel, pipe: Any) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := channel.recv(65536):
            pipe.write(data)
            pipe.flush()
        pipe.close()


def _pass_on(pipe: Any, send: Callable[[bytes], object]) -> None:
    with contextlib.suppress(OSError, ValueError, paramiko.SSHException):
        while data := pipe.read1(65536):
            send(data)
