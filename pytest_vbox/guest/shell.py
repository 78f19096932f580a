"""An interactive shell in a guest, on the terminal that this process has."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO

import paramiko

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.connection import Connection

_CHUNK = 32768
_OPENING = 30.0


def interact(connection: Connection, keys: IO[bytes] | None = None, screen: IO[bytes] | None = None) -> int:
    """Run the login shell of the user, until it ends.

    The terminal is in raw mode meanwhile, so that every key goes to the guest, and is as it was afterwards. Where
    there is no terminal, what comes from the standard input is sent, and then its end.

    Args:
        connection: To the guest.
        keys: What is typed; by default the standard input.
        screen: Where the output goes; by default the standard output.

    Returns:
        The shell's exit status.
    """
    keys = keys or sys.stdin.buffer
    screen = screen or sys.stdout.buffer
    terminal = keys.isatty()
    channel = connection.open_session(Deadline(_OPENING))
    try:
        if terminal:
            columns, lines = shutil.get_terminal_size()
            channel.get_pty(os.environ.get("TERM", "vt100"), columns, lines)
        channel.set_combine_stderr(True)
        channel.invoke_shell()
        if not terminal or sys.platform == "win32":
            _by_thread(channel, keys, screen)
        else:
            with _raw(keys), _resizing(channel):
                _by_select(channel, keys, screen)
        return channel.recv_exit_status()
    finally:
        channel.close()


def _by_thread(channel: paramiko.Channel, keys: IO[bytes], screen: IO[bytes]) -> None:
    """Send what is typed from a thread, which may stay behind in a read that nothing ends."""

    def send() -> None:
        with suppress(OSError, ValueError):
            while data := keys.readline():
                channel.sendall(data)
            channel.shutdown_write()

    threading.Thread(target=send, daemon=True).start()
    while data := channel.recv(_CHUNK):
        screen.write(data)
        screen.flush()


def _by_select(channel: paramiko.Channel, keys: IO[bytes], screen: IO[bytes]) -> None:
    typed, heard = keys.fileno(), channel.fileno()
    reading = True
    while True:
        ready, _, _ = select.select([heard, typed] if reading else [heard], [], [])
        if heard in ready:
            data = channel.recv(_CHUNK)
            if not data:
                return
            screen.write(data)
            screen.flush()
        if typed in ready:
            data = os.read(typed, _CHUNK)
            if data:
                channel.sendall(data)
            else:
                reading = False
                channel.shutdown_write()


@contextmanager
def _raw(keys: IO[bytes]) -> Iterator[None]:
    """The terminal in raw mode; as it was before at the end, whatever happens."""
    import termios  # not on Windows
    import tty

    before = termios.tcgetattr(keys)
    try:
        tty.setraw(keys.fileno(), termios.TCSADRAIN)  # what was typed ahead stays
        yield
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


@contextmanager
def _resizing(channel: paramiko.Channel) -> Iterator[None]:
    """Tell the guest when the terminal's size changes."""

    def resize(_: int, __: FrameType | None) -> None:
        columns, lines = shutil.get_terminal_size()
        with suppress(paramiko.SSHException, OSError):
            channel.resize_pty(columns, lines)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
