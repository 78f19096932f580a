"""Running a command in a guest, as `subprocess.run` does on the host."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

import paramiko

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.connection import Connection, close_channel, closing_at
from pytest_vbox.guest.errors import CommandError, CommandTimeout, ConnectionLost, GuestError, signal_number
from pytest_vbox.guest.output import ErrorStream, Output
from pytest_vbox.guest.script import Script, compose, kill_script
from pytest_vbox.guest.settle import Settling
from pytest_vbox.guest.wire import PATIENCE
from pytest_vbox.printable import short
from pytest_vbox.secret import Secret, Unseen

Command = str | Sequence[str | os.PathLike[str]]

# Seconds without output after which it is asked for a sign of life; a guest that rebooted then answers "what
# connection?". Only while a command runs: an idle connection stays silent, for it may be to a paused guest.
_KEEPALIVE = 10.0
# So many times in a row it may not answer anything, until it is given up: no command goes on for ever in a guest
# that hangs. A machine may be paused for a while.
_MOST_UNANSWERED = 30
# Seconds between two looks at whether the command itself has ended, which wakes nobody by itself.
_LOOK = 0.5
# More seconds than this between two looks: this process was stopped. Then, seconds for what came in meanwhile.
_STOPPED, _LAST_LOOK = 1.0, 2.0
# Seconds between two times that whoever knows the machine is asked whether it still runs.
_ASK = 3.0
# Seconds that output may still come after the command ended, while something in the background holds it open.
_LINGER = 2.0
# Seconds for killing a command that took too long, and for the last of its output.
_KILL_TIME, _LAST_WORDS = 15.0, 2.0
_CHUNK = 64 * 1024
# Seconds for setting a guest's clock and the like, which a guest that is well does at once.
_SETTLING = 60.0


def run(
    connection: Connection,
    command: Command,
    *,
    check: bool = True,
    timeout: float | None = 300,
    sudo: bool = False,
    input: str | bytes | None = None,  # noqa: A002 - as subprocess.run calls it
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command in the guest and wait for its end.

    Args:
        connection: Where to.
        command: A list is quoted; a string goes to the user's login shell (with ``sudo``, to ``sh``).
        check: Raise an error unless its exit status is 0.
        timeout: Seconds it may take; ``None`` for no limit. Then it is killed, with all its descendants.
        sudo: Run it as root; of no effect if the user is root. sudo is answered with the login's password.
        input: What it reads; nothing by default.
        env: Environment variables to add.
        cwd: The folder to run in.

    Returns:
        The command, its exit status (minus the number of the signal that ended it) and what it wrote, as UTF-8.
        Of a stream longer than 16 MiB the middle is left out, with a note. If a process in the background
        keeps the streams open, its later output is not waited for.

    Raises:
        CommandError: The exit status is not 0, and ``check`` is set.
        CommandTimeout: It took too long.
        ConnectionLost: The guest went away, or has not answered anything for five minutes.
        ValueError: The command is empty, or a variable's name is wrong.
        GuestError: The guest's SSH server did not take the command.
    """
    __tracebackhide__ = True  # pytest shows where it was called; the error says the rest
    sudo = sudo and connection.login.user != "root"
    password = connection.login.password_for_sudo if sudo else None
    first = _what_comes_first(connection, sudo=sudo)
    script = compose(command, env=env, cwd=cwd, sudo=sudo, sudo_asks=password is not None, first=first)
    data = input.encode() if isinstance(input, str) else input or b""
    execution = _Execution(connection, script, data, password)
    deadline = Deadline(timeout)
    try:
        execution.start(deadline)
        if not execution.pump(deadline):
            raise TimeoutError(_kill(execution))
        return _result(execution, command, check=check)
    except TimeoutError as error:
        raise CommandTimeout(
            _plain(command),
            deadline.seconds,
            stdout=execution.stdout.text,
            stderr=execution.stderr.text,
            note=str(error),
            unheard=execution.unheard,
        ) from None
    finally:
        execution.close()


def settle(connection: Connection) -> None:
    """Do what is to be done in the guest before anything else, if it was not done yet.

    Raises:
        ConnectionLost: The guest went away.
    """
    settling = connection.take_settling()
    if settling is not None:
        _settle(connection, settling)


def _settle(connection: Connection, settling: Settling) -> None:
    # A guest that does not let us be root keeps its clock; that is no reason to fail.
    run(connection, settling.script(), sudo=True, check=False, timeout=_SETTLING)


def _what_comes_first(connection: Connection, *, sudo: bool) -> str | None:
    settling = connection.take_settling()
    if settling is None:
        return None
    line = settling.inline(as_root=sudo or connection.login.user == "root")
    if line is None:
        _settle(connection, settling)
    return line


def _plain(command: Command) -> str | list[str]:
    return command if isinstance(command, str) else [os.fspath(part) for part in command]


class _Patience:
    """When to stop waiting for a command: at a deadline, but not before having looked what came in until then.

    This process may have been stopped (by Ctrl-Z, or with its whole computer), while the command went on.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline, self._looked = deadline, time.monotonic()
        self._last_look: Deadline | None = None

    @property
    def is_over(self) -> bool:
        """Asked at each look."""
        now = time.monotonic()
        stopped, self._looked = now - self._looked > _STOPPED, now
        if not self._deadline.expired:
            return False
        if stopped and self._last_look is None:
            self._last_look = Deadline(_LAST_LOOK)
        return self._last_look is None or self._last_look.expired

    def at_most(self, seconds: float) -> float:
        """How long to wait until the next look."""
        return (self._last_look or self._deadline).at_most(seconds)


class _Execution:
    """One command on one channel: what goes in and what comes out, at the same time.

    The password goes to sudo only after sudo asked for it, and the input only after the command began:
    where sudo does not ask, the command would otherwise read the password as its input.
    """

    def __init__(self, connection: Connection, script: Script, data: bytes, password: Secret | None) -> None:
        self.connection, self.script = connection, script
        self.stdout, self.stderr = Output(), ErrorStream(script)
        self._input, self._input_given = script.lead + data, False
        self._password, self._answered = password, 0
        self._transport = connection.transport
        self.wire = self._transport.wire
        self._channel: paramiko.Channel | None = None
        self._asked = Deadline(_ASK)

    @property
    def channel(self) -> paramiko.Channel:
        assert self._channel is not None  # noqa: S101 - set by start()
        return self._channel

    def close(self) -> None:
        if self._channel is not None:
            close_channel(self._channel)

    def start(self, deadline: Deadline) -> None:
        self._channel = channel = self.connection.open_session(deadline)
        try:
            with closing_at(deadline, channel):
                channel.exec_command(self.script.text)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self.connection.alive:
                raise self.lost("it went while a command was being started") from error
            if deadline.expired:
                raise TimeoutError("the guest did not answer to the command") from error
            raise GuestError("the guest's SSH server refused to run a command") from error

    def signal(self, name: str) -> None:
        if self.channel.exit_status_ready():
            return  # dropbear ends the whole connection over a request for a channel that is closed.
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._transport.send_signal(self.channel, name)

    def lost(self, how: str) -> ConnectionLost:
        return ConnectionLost(self._transport.fault or how, stdout=self.stdout.text, stderr=self.stderr.text)

    def pump(self, deadline: Deadline) -> bool:
        """Move data until the command is over; whether it was over in time."""
        silence, unanswered = Deadline(_KEEPALIVE), 0
        ended: Deadline | None = None
        patience = _Patience(deadline)
        with selectors.DefaultSelector() as selector:
            selector.register(self.channel.fileno(), selectors.EVENT_READ)
            while True:
                if self._move():
                    silence, ended = Deadline(_KEEPALIVE), None
                    if patience.is_over:
                        return False
                    continue
                if self._over():
                    return True
                if self.channel.exit_status_ready():
                    ended = ended or Deadline(_LINGER)
                    if ended.expired:
                        return True
                if patience.is_over:
                    return False
                if silence.expired:
                    unanswered = 0 if self.unheard < silence.elapsed else unanswered + 1
                    if unanswered > _MOST_UNANSWERED:
                        raise self._given_up()
                    self._knock()
                    silence = Deadline(_KEEPALIVE)
                self._ask()
                self._wait(selector, patience.at_most(_LOOK))

    def _ask(self) -> None:
        """Now and then, have whoever knows the machine look whether it still runs."""
        if self._asked.expired:
            self.connection.on_silence()
            self._asked = Deadline(_ASK)

    def _wait(self, selector: selectors.BaseSelector, seconds: float) -> None:
        if self.channel.eof_received:
            # The channel reads as ready from now on; only the status can still come.
            self.channel.status_event.wait(seconds)
        else:
            selector.select(seconds)

    def _over(self) -> bool:
        """Whether nothing more can come: all was read, and the end was reported or the channel is gone."""
        channel = self.channel
        if not (channel.closed or (channel.eof_received and channel.status_event.is_set())):
            return False
        # Only now, for data may have come in before the end did, but after the last look at it.
        return not (channel.recv_ready() or channel.recv_stderr_ready())

    def _move(self) -> bool:
        """Read what is there, one piece of each stream, and answer it; whether there was any."""
        channel, moved = self.channel, False
        if channel.recv_ready():
            self.stdout.add(channel.recv(_CHUNK))
            moved = True
        if channel.recv_stderr_ready():
            self.stderr.add(channel.recv_stderr(_CHUNK))
            moved = True
        if self.stderr.started:
            self._give_input()
        elif self.stderr.prompts > self._answered:
            self._answer_sudo()
        return moved

    def _answer_sudo(self) -> None:
        self._answered = self.stderr.prompts
        # A channel that has been closed meanwhile is found by the next look.
        with contextlib.suppress(OSError):
            if self._answered == 1 and self._password is not None:
                with Unseen():
                    self.channel.sendall(f"{self._password}\n".encode())
            else:
                # The password was wrong; the end of input makes sudo give up.
                self.channel.shutdown_write()

    def _give_input(self) -> None:
        if self._input_given:
            return
        self._input_given = True
        if self._input:
            # A command may write much before it reads: only a thread of its own can wait for both.
            threading.Thread(target=_feed, args=(self.channel, self._input), daemon=True).start()
        else:
            _feed(self.channel, b"")

    def _knock(self) -> None:
        if self.wire.stuck:
            return  # It would have to wait behind what the guest does not take.
        # A dead connection closes the channel, which the next look finds.
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._transport.ask()

    def _given_up(self) -> ConnectionLost:
        self._transport.close()
        return self.lost(f"the guest has not answered anything for {self.unheard:.0f} s: it hangs, or is paused")

    @property
    def unheard(self) -> float:
        """Seconds since the guest last sent anything."""
        return time.monotonic() - self.wire.heard

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal, or ``None`` if neither was reported."""
        signal = self._transport.exit_signals.pop(self.channel.chanid, None)
        if signal is not None:
            return -signal_number(signal)
        # paramiko's -1 stands for no status; a real one is never negative.
        return self.channel.exit_status if self.channel.exit_status >= 0 else None


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    # The command may end without reading it all.
    with contextlib.suppress(OSError, paramiko.SSHException, EOFError):
        channel.sendall(data)
        channel.shutdown_write()


def _result(execution: _Execution, command: Command, *, check: bool) -> subprocess.CompletedProcess[str]:
    __tracebackhide__ = True
    returncode = execution.returncode
    stdout, stderr = execution.stdout.text, execution.stderr.text
    if returncode is None:
        if execution.connection.alive:
            raise execution.lost("the SSH server closed the command's channel without an exit status")
        raise execution.lost("the guest hung up, or was gone, before the command ended")
    if returncode == 0:
        execution.connection.runs_commands = True
        return subprocess.CompletedProcess(_plain(command), returncode, stdout, stderr)
    shell = _what_is_wrong_with_the_shell(execution)
    if shell or check:
        hint = shell or _hint(execution, returncode, stderr)
        raise CommandError(_plain(command), returncode, stdout=stdout, stderr=stderr, hint=hint)
    return subprocess.CompletedProcess(_plain(command), returncode, stdout, stderr)


def _what_is_wrong_with_the_shell(execution: _Execution) -> str:
    """Whether it was the user's shell that failed, and not the command; asked once, as it costs a command."""
    connection, token = execution.connection, execution.script.token
    if connection.runs_commands or (execution.script.sudo and execution.stderr.started):
        return ""
    question = _Execution(connection, Script(f"echo {token}", lead=b"", token=token, sudo=False), b"", None)
    deadline = Deadline(_KILL_TIME)
    try:
        question.start(deadline)
        if not question.pump(deadline):
            return ""
    except (GuestError, TimeoutError):
        return ""  # something else is wrong, too
    finally:
        question.close()
    if token in question.stdout.text:
        connection.runs_commands = True
        return ""
    said = short(f"{question.stdout.text}{question.stderr.text}".strip(), 200)
    return (
        f"{connection.login.user}'s shell in the guest does not run commands: asked to echo a word, it answered "
        f"{said or 'nothing'}. Look at the user's entry in /etc/passwd, and whether the SSH server forces another "
        "command (ForceCommand, or command= in authorized_keys)"
    )


def _hint(execution: _Execution, returncode: int, stderr: str) -> str:
    """What kept sudo from starting the command."""
    user = execution.connection.login.user
    if execution.stderr.started:
        return ""
    if returncode == 127:
        return "sudo can't be run in the guest: install it in the image, or log in as root"
    if execution.stderr.prompts > 1:
        return f"sudo did not accept {user}'s password: set sudo_password if it is not the one for logging in"
    if "sudoers" in stderr:
        return f"{user} may not use sudo in the guest: add the user to sudoers in the image"
    if execution.stderr.prompts == 0:
        return f"sudo wants a password (or a terminal) and the login has none: set one, or allow {user} NOPASSWD"
    return f"sudo refused to run it for {user}"


def _kill(execution: _Execution) -> str:
    """Kill a command that took too long; what became of it."""
    connection, wire = execution.connection, execution.wire
    # What the guest does not take in this time ends the connection; nothing can be told it any more.
    wire.patience = _KILL_TIME
    try:
        note = _kill_by_script(execution)
    finally:
        wire.patience = PATIENCE
    if connection.alive and not execution.pump(Deadline(_LAST_WORDS)):
        # The command may have replaced its shell, by "exec"; the SSH server knows it still.
        execution.signal("KILL")
        execution.pump(Deadline(_LAST_WORDS))
    return note


def _kill_by_script(execution: _Execution) -> str:
    script, connection = execution.script, execution.connection
    password = connection.login.password_for_sudo if script.sudo else None
    command = ["sh", "-c", kill_script(script)]
    killer = _Execution(
        connection, compose(command, sudo=script.sudo, sudo_asks=password is not None), b"", password
    )
    deadline = Deadline(_KILL_TIME)
    try:
        killer.start(deadline)
        if killer.pump(deadline):
            return "Its processes in the guest were killed."
        # Not killed in its turn: where one command hangs, so does the next.
        why = f"a command that was to do it did not end within {_KILL_TIME:g} s"
    except (GuestError, TimeoutError) as error:
        why = str(error).splitlines()[0]
    finally:
        killer.close()
    note = f"Its processes in the guest could not be killed ({why})."
    if execution.unheard > _KILL_TIME / 2:
        note += f" The guest has sent nothing for {execution.unheard:.0f} s: it hangs, or is paused."
    return note
