"""Waiting until a guest is ready: for its SSH server's banner, then for anything inside of it.

A condition is whatever has a ``wait`` method as `Condition` has it. Those here are polled: each check is one
command or less, and between two checks there is a pause, since a guest announces nothing.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import paramiko

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.banner import Sightings, wait_for_banner
from pytest_vbox.guest.connection import Connection, close_channel
from pytest_vbox.guest.errors import CommandError, CommandTimeout, ConnectionLost, WaitTimeout
from pytest_vbox.guest.run import Command, run
from pytest_vbox.printable import harmless

__all__ = [
    "AllOf",
    "AnyOf",
    "Check",
    "CommandSucceeds",
    "Condition",
    "FileExists",
    "PortOpen",
    "Sightings",
    "wait_for",
    "wait_for_banner",
]

# Seconds between two checks: at first often, as most things come true soon, then less so.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# Seconds that one check may take, if the deadline leaves that much.
_ONE_CHECK = 30.0
# What OpenSSH and dropbear answer where they may not, or can't, connect for us (RFC 4254, 5.1).
_PROHIBITED, _REFUSED, _UNKNOWN_TYPE = 1, 2, 3


@runtime_checkable
class Condition(Protocol):
    """Something in a guest that can be waited for."""

    def wait(self, connection: Connection, deadline: Deadline) -> None:
        """Return once it is true.

        Raises:
            WaitTimeout: It was not true by the deadline.
        """


class Check(abc.ABC):
    """A condition that has to be looked at again and again."""

    @abc.abstractmethod
    def look(self, connection: Connection, deadline: Deadline) -> str | None:
        """``None`` if it is true now, else what was seen instead.

        Args:
            connection: To the guest.
            deadline: By which the look has to be over.
        """

    def wait(self, connection: Connection, deadline: Deadline) -> None:
        """Look until it is true, with pauses.

        Raises:
            WaitTimeout: It was not true by the deadline; carries what the last look saw.
        """
        _poll(str(self), lambda: self.look(connection, deadline.sooner(_ONE_CHECK)), deadline)


def _poll(description: str, look: Callable[[], str | None], deadline: Deadline) -> None:
    pause, seen = _FIRST_PAUSE, ""
    while True:
        try:
            missing = look()
        except CommandTimeout as error:
            # A look that the deadline cut short says less than the one before it.
            missing = seen if seen and deadline.expired else str(error).splitlines()[0]
        if missing is None:
            return
        seen = missing
        if deadline.expired:
            raise WaitTimeout(description, elapsed=deadline.elapsed, last=seen)
        threading.Event().wait(deadline.at_most(pause))
        pause = min(_LONGEST_PAUSE, 1.5 * pause)


@dataclass(frozen=True)
class PortOpen(Check):
    """Something in the guest accepts TCP connections.

    Args:
        port: The port in the guest.
        host: The address to connect to from inside the guest.
    """

    port: int
    host: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"port {self.port} to be open at {self.host} in the guest"

    def look(self, connection: Connection, deadline: Deadline) -> str | None:
        try:
            channel = connection.transport.open_channel(
                "direct-tcpip", (self.host, self.port), ("127.0.0.1", 0), timeout=deadline.at_most(3600)
            )
        except paramiko.ChannelException as error:
            if error.code in (_PROHIBITED, _UNKNOWN_TYPE):
                # The SSH server does not connect for us; then the kernel's own list has to do.
                return self._look_at_list(connection, deadline)
            return f"connection failed: {error.text}"
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not connection.alive:
                raise ConnectionLost(f"it went while waiting for {self}") from harmless(error)
            return f"no answer: {error}"
        close_channel(channel)
        return None

    def _look_at_list(self, connection: Connection, deadline: Deadline) -> str | None:
        command = "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null"
        listed = run(connection, command, check=False, timeout=deadline.remaining).stdout
        for fields in map(str.split, listed.splitlines()):
            # Columns: number, local address:port, remote, state (0A is LISTEN).
            if len(fields) > 3 and fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == self.port:
                return None
        return "nothing in the guest listens at this port"


@dataclass(frozen=True)
class CommandSucceeds(Check):
    """A command ends with exit status 0.

    Args:
        command: As for `run`.
        sudo: Run it as root.
    """

    command: Command
    sudo: bool = False

    def __str__(self) -> str:
        return f"the command {self.command!r} to succeed"

    def look(self, connection: Connection, deadline: Deadline) -> str | None:
        done = run(connection, self.command, check=False, sudo=self.sudo, timeout=deadline.remaining)
        if done.returncode == 0:
            return None
        words = (done.stderr.strip() or done.stdout.strip())[-500:]
        return f"exit status {done.returncode}" + (f": {words}" if words else "")


@dataclass(frozen=True)
class FileExists(Check):
    """A file or folder is there.

    Args:
        path: Its path in the guest.
        sudo: Look as root.
    """

    path: str
    sudo: bool = False

    def __str__(self) -> str:
        return f"{self.path} to exist in the guest"

    def look(self, connection: Connection, deadline: Deadline) -> str | None:
        command = ["test", "-e", self.path]
        done = run(connection, command, check=False, sudo=self.sudo, timeout=deadline.remaining)
        return None if done.returncode == 0 else "it is not there"


class AllOf:
    """Every one of several conditions, waited for one after the other under the same deadline."""

    def __init__(self, *conditions: Condition | Callable[[], object]) -> None:
        self._conditions = conditions

    def wait(self, connection: Connection, deadline: Deadline) -> None:
        for condition in self._conditions:
            wait_for(connection, condition, deadline)


class AnyOf(Check):
    """At least one of several checks."""

    def __init__(self, *checks: Check) -> None:
        if not checks:
            raise ValueError("AnyOf needs at least one check")
        self._checks = checks

    def __str__(self) -> str:
        return " or ".join(map(str, self._checks))

    def look(self, connection: Connection, deadline: Deadline) -> str | None:
        seen = []
        for check in self._checks:
            missing = check.look(connection, deadline)
            if missing is None:
                return None
            seen.append(missing)
        return "; ".join(seen)


def wait_for(connection: Connection, condition: Condition | Callable[[], object], deadline: Deadline) -> None:
    """Wait until a condition is true.

    Args:
        connection: To the guest.
        condition: A `Condition`, or a function without arguments that is called until it returns something
            true; an assertion or a command that fails in it means "not yet".
        deadline: When to give up.

    Raises:
        WaitTimeout: It did not come true in time.
        ConnectionLost: The guest went away meanwhile.
        TypeError: ``condition`` is neither.
    """
    if isinstance(condition, Condition):
        condition.wait(connection, deadline)
    elif callable(condition):
        function = condition
        _poll(_name(function), lambda: _look(function), deadline)
    else:
        raise TypeError(f"not a condition: {condition!r}; give a function, or something with wait()")


def _name(function: Callable[[], object]) -> str:
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{name}() to return something true"


def _look(function: Callable[[], object]) -> str | None:
    try:
        value = function()
    except (AssertionError, CommandError) as error:
        return f"{type(error).__name__}: {error}"
    return None if value else f"it returned {value!r}"
