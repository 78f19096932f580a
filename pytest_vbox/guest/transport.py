"""paramiko's transport, fitted to guests: fast algorithms, quiet logging, and what it drops is kept."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.common import (
    DEFAULT_WINDOW_SIZE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_REQUEST,
    cMSG_GLOBAL_REQUEST,
)

from pytest_vbox.guest.wire import Wire
from pytest_vbox.printable import harmless, printable

LOG_CHANNEL = "pytest_vbox.guest.ssh"
# Bytes of one packet, as in OpenSSH. paramiko would take in whatever size a guest names, up to 4 GiB.
_LARGEST_PACKET = 256 * 1024
# Bytes that may wait to be read on one channel: what the guest was allowed to send, and some more.
_MOST_UNREAD = 2 * DEFAULT_WINDOW_SIZE


class _Calm(logging.Filter):
    """Turns paramiko's warnings and errors into debug records, and what all of them say into printable text.

    It logs every failed handshake as an error with a traceback, line by line, and then raises it as well.
    Whoever configured logging for debug records gets them all; nobody else is bothered. Many a record repeats what
    the server said.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(_said(record)), ()
        if record.levelno <= logging.INFO:
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # The arguments do not fit, for which paramiko's thread must not end.
        return f"{record.msg} {record.args}"


def _calm(name: str) -> None:
    logger = logging.getLogger(name)
    logger.addFilter(_Calm())
    # With a handler of its own, nothing reaches the standard error through logging's last resort.
    logger.addHandler(logging.NullHandler())


_calm(LOG_CHANNEL)
_calm(f"{LOG_CHANNEL}.sftp")


class GuestTransport(paramiko.Transport):
    """One SSH connection to a guest.

    Args:
        sock: A connected socket whose banner is unread.
        host_key_type: The type of the pinned host key, asked for before others; ``None`` if none is pinned.
        timeout: Seconds that the handshake may take.
    """

    def __init__(self, sock: socket.socket, *, host_key_type: str | None, timeout: float) -> None:
        #: The signal that ended a channel's command, by the channel's number.
        self.exit_signals: dict[int, str] = {}
        #: What the server said when it disconnected.
        self.farewell = ""
        #: Why the connection was ended from here, if what the server sent was the reason.
        self.fault = ""
        self.wire = Wire(sock)
        # Releases of paramiko before 5 would still sign with SHA-1, as the fallback for RSA keys.
        super().__init__(self.wire, disabled_algorithms={"pubkeys": ["ssh-rsa"]})  # type: ignore[arg-type]
        self.packetizer.read_all = self._bounded(self.packetizer.read_all)  # type: ignore[method-assign]
        self.daemon = True
        self.banner_timeout = self.handshake_timeout = self.auth_timeout = timeout
        self.set_log_channel(LOG_CHANNEL)
        handlers: dict[int, Any] = getattr(paramiko.Transport, "_channel_handler_table", {})
        self._channel_handler_table = {**handlers, MSG_CHANNEL_REQUEST: self._channel_request}
        for kind in {MSG_CHANNEL_DATA, MSG_CHANNEL_EXTENDED_DATA} & set(handlers):
            self._channel_handler_table[kind] = self._within_window(handlers[kind])
        options = self.get_security_options()
        # The key exchange is what a slow guest works longest on, and curve25519 is the quickest there is;
        # paramiko prefers the post-quantum hybrid, which costs more on top of it.
        options.kex = sorted(options.kex, key=lambda name: not name.startswith("curve25519"))
        if host_key_type is not None:
            wanted = "rsa-sha2-" if host_key_type == "ssh-rsa" else host_key_type
            options.key_types = sorted(options.key_types, key=lambda name: not name.startswith(wanted))

    def discard(self) -> None:
        """Close after a failure; unlike ``close`` it leaves no timer that would hold up the interpreter's end."""
        self.close()
        self.sock.close()
        self.packetizer.complete_handshake()

    def get_exception(self) -> Exception | None:
        """What ended the connection; whatever paramiko stumbled over in what the server sent is the server's."""
        error = super().get_exception()
        if isinstance(error, paramiko.SSHException):
            # paramiko raises it wherever somebody waits, and it may repeat what the server said.
            error.args = tuple(printable(part) if isinstance(part, str) else part for part in error.args)
        if error is None or isinstance(error, (paramiko.SSHException, EOFError, OSError)):
            return error
        told = printable(f"the server broke the protocol ({type(error).__name__}: {error})")
        broken = paramiko.SSHException(told)
        broken.__cause__ = harmless(error)
        return broken

    # The rest hooks into the library's handlers. Should a later release rename them, signals and the
    # server's last words are missing from messages, and nothing else changes.

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        start = message.packet.tell()
        message.get_int()
        self.farewell = message.get_text()
        message.packet.seek(start)
        super()._parse_disconnect(message)  # type: ignore[misc]

    def send_signal(self, channel: paramiko.Channel, name: str) -> None:
        """Ask the server to send a signal to what runs on a channel (RFC 4254, 6.9).

        Args:
            channel: Where a command runs.
            name: The signal without ``SIG``.

        Raises:
            paramiko.SSHException, EOFError, OSError: The connection is gone.
        """
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string(name)
        self._send_user_message(message)  # type: ignore[attr-defined]

    def ask(self) -> None:
        """Ask the server for a sign of life, as OpenSSH's client does; nobody waits for the answer here.

        Raises:
            paramiko.SSHException, EOFError, OSError: The connection is gone.
        """
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)  # type: ignore[attr-defined]

    def _channel_request(self, channel: paramiko.Channel, message: paramiko.Message) -> None:
        start = message.packet.tell()
        if message.get_text() == "exit-signal":
            message.get_boolean()
            self.exit_signals[channel.chanid] = message.get_text()
            channel.status_event.set()
            return
        message.packet.seek(start)
        channel._handle_request(message)  # type: ignore[attr-defined]

    def _bounded(self, read_all: Callable[..., bytes]) -> Callable[..., bytes]:
        """paramiko's reading of a packet, of a size that the guest named."""

        def read(size: int, check_rekey: bool = False) -> bytes:
            if size > _LARGEST_PACKET:
                self.fault = f"the server announced a packet of {size} bytes, or speaks no SSH"
                raise paramiko.SSHException(self.fault)
            return read_all(size, check_rekey)

        return read

    def _within_window(self, feed: Callable[..., object]) -> Callable[..., object]:
        """paramiko's taking in of data, which does not look whether a server sends more than it was allowed to."""

        def take(channel: Any, message: paramiko.Message) -> None:
            if len(channel.in_buffer) + len(channel.in_stderr_buffer) > _MOST_UNREAD:
                self.fault = "the server sent more data than it was allowed to"
                raise paramiko.SSHException(self.fault)
            feed(channel, message)

        return take
