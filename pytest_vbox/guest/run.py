"""Running a command in a guest, as `subprocess.run` does on the host."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from pytest_vbox.guest.connection import Connection
from pytest_vbox.guest.errors import CommandError, CommandTimeout, GuestError
from pytest_vbox.guest.execution import Execution, FairDeadline
from pytest_vbox.guest.script import Script, compose, kill_script
from pytest_vbox.guest.settle import Settling
from pytest_vbox.guest.wire import PATIENCE
from pytest_vbox.printable import short

Command = str | Sequence[str | os.PathLike[str]]

# Seconds for killing a command that took too long, and for the last of its output.
_KILL_TIME, _LAST_WORDS = 15.0, 2.0
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
    execution = Execution(connection, script, data, password)
    deadline = FairDeadline(timeout)
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


def _result(execution: Execution, command: Command, *, check: bool) -> subprocess.CompletedProcess[str]:
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


def _what_is_wrong_with_the_shell(execution: Execution) -> str:
    """Whether it was the user's shell that failed, and not the command; asked once, as it costs a command."""
    connection, token = execution.connection, execution.script.token
    if connection.runs_commands or (execution.script.sudo and execution.stderr.started):
        return ""
    question = Execution(connection, Script(f"echo {token}", lead=b"", token=token, sudo=False), b"", None)
    deadline = FairDeadline(_KILL_TIME)
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


def _hint(execution: Execution, returncode: int, stderr: str) -> str:
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


def _kill(execution: Execution) -> str:
    """Kill a command that took too long; what became of it."""
    connection, wire = execution.connection, execution.wire
    # What the guest does not take in this time ends the connection; nothing can be told it any more.
    wire.patience = _KILL_TIME
    try:
        note = _kill_by_script(execution)
    finally:
        wire.patience = PATIENCE
    if connection.alive and not execution.pump(FairDeadline(_LAST_WORDS)):
        # The command may have replaced its shell, by "exec"; the SSH server knows it still.
        execution.signal("KILL")
        execution.pump(FairDeadline(_LAST_WORDS))
    return note


def _kill_by_script(execution: Execution) -> str:
    script, connection = execution.script, execution.connection
    password = connection.login.password_for_sudo if script.sudo else None
    command = ["sh", "-c", kill_script(script)]
    killer = Execution(
        connection, compose(command, sudo=script.sudo, sudo_asks=password is not None), b"", password
    )
    deadline = FairDeadline(_KILL_TIME)
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
