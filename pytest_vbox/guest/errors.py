"""What can go wrong between the host and a guest, each with what a user needs to mend it."""

from __future__ import annotations

import pickle
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pytest_vbox.printable import printable, short, stand_in

_SHOWN_LINES = 40
_SHOWN_CHARACTERS = 8000
# Characters of what probes and checks saw, the log of a failed cloud-init among it.
_MOST_SEEN = 10_000


def excerpt(name: str, text: str | None) -> str:
    """The end of a stream, under a heading that says how much of it is shown.

    Args:
        name: What the heading calls it, such as ``stdout``.
        text: All of it; at most the last 40 lines and 8000 characters are shown.
    """
    if not text:
        return f"--- {name}: empty ---"
    lines = text.rstrip("\n").split("\n")
    shown = "\n".join(lines[-_SHOWN_LINES:])
    cut = len(shown) > _SHOWN_CHARACTERS
    if cut:
        shown = shown[-_SHOWN_CHARACTERS:]
    if cut or len(lines) > _SHOWN_LINES:
        count = shown.count("\n") + 1
        name = f"{name}, the last {count} of {len(lines)} lines ({len(text)} characters in all)"
    return f"--- {name} ---\n{printable(shown)}"


def _shown_command(command: str | Sequence[str]) -> str:
    text = command if isinstance(command, str) else shlex.join(str(part) for part in command)
    return printable(text)


class GuestError(Exception):
    """The base of every error that this package raises about a guest.

    All of them can be pickled with their fields and, where it can be pickled too, their cause.
    """

    def __str__(self) -> str:
        return printable(super().__str__())

    def __reduce__(self) -> tuple[Callable[..., GuestError], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__), _portable(self.__cause__))


def _portable(cause: BaseException | None) -> BaseException | None:
    """The cause itself if it survives pickling, else a stand-in with its type and text."""
    if cause is None:
        return None
    try:
        pickle.loads(pickle.dumps(cause))  # noqa: S301 - made right here
    except Exception:  # noqa: BLE001 - a foreign exception may fail in any way
        return stand_in(cause)
    return cause


_Error = TypeVar("_Error", bound=GuestError)


def _rebuild(
    kind: type[_Error], args: tuple[Any, ...], fields: dict[str, Any], cause: BaseException | None
) -> _Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    error.__cause__ = cause
    return error


class GuestUnreachable(GuestError):
    """No usable SSH connection came about before the deadline.

    Args:
        address: Host and port that were tried.
        phase: How far it came: ``banner``, ``handshake`` or ``login``.
        elapsed: Seconds spent.
        last: What the probes saw, oldest first.
        probes: How many there were.
        hint: What that usually means.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        phase: str,
        elapsed: float,
        last: str,
        probes: int,
        hint: str = "",
    ) -> None:
        self.address, self.phase, self.elapsed = address, phase, elapsed
        self.last, self.probes, self.hint = last, probes, hint
        super().__init__()

    def __str__(self) -> str:
        what = "no SSH banner" if self.phase == "banner" else f"no SSH connection (stuck in the {self.phase})"
        text = f"{what} from {self.address[0]}:{self.address[1]} after {self.elapsed:.1f} s; "
        text += f"{self.probes} {'probe' if self.probes == 1 else 'probes'}: {short(self.last, _MOST_SEEN)}"
        return text + (f". Hint: {self.hint}" if self.hint else "")


class LoginRefused(GuestError):
    """The guest's SSH server answered, and would not let the user in.

    Args:
        user: Whom it refused.
        tried: The methods that were tried, in order.
        allowed: The methods the server says it allows.
        detail: The server's own words, if it had any.
        hint: What that usually means.

    Attributes:
        tries: How often it was tried.
    """

    def __init__(
        self,
        user: str,
        *,
        tried: Sequence[str],
        allowed: Sequence[str] = (),
        detail: str = "",
        hint: str = "",
    ) -> None:
        self.user, self.tried, self.allowed = user, tuple(tried), tuple(allowed)
        self.detail, self.hint = detail, hint
        self.tries = 1
        super().__init__()

    def __str__(self) -> str:
        times = f", {self.tries} times" if self.tries > 1 else ""
        text = f"the guest refused to log in {self.user!r}{times}; tried {', '.join(self.tried) or 'nothing'}"
        text += f"; the server allows {short(', '.join(self.allowed)) or 'methods it did not name'}"
        if self.detail:
            text += f"; it said: '{short(self.detail.strip())}'"
        return text + (f". Hint: {short(self.hint)}" if self.hint else "")


class HostKeyMismatch(GuestError):
    """The guest showed another host key than the pinned one.

    Args:
        expected: The pinned key's type and fingerprint.
        got: The shown key's type and fingerprint.
    """

    def __init__(self, *, expected: str, got: str) -> None:
        self.expected, self.got = expected, got
        super().__init__()

    def __str__(self) -> str:
        return (
            f"the guest's host key is {self.got}, but {self.expected} was expected. Hint: either another "
            "machine answers at this address, or the guest made new keys: then update the pinned key"
        )


class KeyUnusable(GuestError):
    """A private key file can't be used to log in.

    Args:
        path: The file.
        reason: Why not, and the way out.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__()

    def __str__(self) -> str:
        return f"the private key {self.path} can't be used: {self.reason}"


class IncompatibleServer(GuestError):
    """The guest's SSH server and this host have no algorithm in common, or it broke the protocol."""


class ConnectionLost(GuestError):
    """The guest went away in the middle of something.

    Args:
        reason: What was being done, and how the end showed.
        stdout: What a running command had written so far.
        stderr: The same for its error stream.
    """

    def __init__(self, reason: str, *, stdout: str = "", stderr: str = "") -> None:
        self.reason, self.stdout, self.stderr = reason, stdout, stderr
        super().__init__()

    def __str__(self) -> str:
        text = f"the connection to the guest was lost: {short(self.reason)}"
        if self.stdout or self.stderr:
            text += f"\n{excerpt('stdout', self.stdout)}\n{excerpt('stderr', self.stderr)}"
        return text


class CopyFailed(GuestError):
    """A file or folder could not be copied, for another reason than a missing name or a permission.

    Args:
        reason: What failed, with the names.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__()

    def __str__(self) -> str:
        return printable(self.reason)


class WaitTimeout(GuestError, TimeoutError):
    """A condition did not come true in time.

    Args:
        description: The condition.
        elapsed: Seconds waited.
        last: What its last check saw.
    """

    def __init__(self, description: str, *, elapsed: float, last: str) -> None:
        self.description, self.elapsed, self.last = description, elapsed, last
        super().__init__()

    def __str__(self) -> str:
        text = f"gave up waiting for {self.description} after {self.elapsed:.1f} s"
        return f"{text}; last seen: {printable(self.last[-_MOST_SEEN:]) or 'nothing'}"


class CloudInitFailed(GuestError):
    """cloud-init in the guest failed, or is not there.

    Args:
        errors: What it says went wrong.
        log: The end of what its programs wrote (``/var/log/cloud-init-output.log``).
    """

    def __init__(self, errors: Sequence[str], *, log: str = "") -> None:
        self.errors, self.log = tuple(errors), log
        super().__init__()

    def __str__(self) -> str:
        text = "\n".join(
            ["cloud-init failed in the guest:", *(f"  {short(error)}" for error in self.errors[:_SHOWN_LINES])]
        )
        return f"{text}\n{excerpt('/var/log/cloud-init-output.log', self.log)}" if self.log else text


class CommandError(GuestError, subprocess.CalledProcessError):
    """A command ran in the guest and failed.

    Args:
        command: As it was given to ``run``.
        returncode: Its exit status, or minus the signal that ended it.
        stdout: What it wrote.
        stderr: What it wrote there.
        hint: What the failure usually means, if it is not the command's own.
    """

    def __init__(
        self, command: str | Sequence[str], returncode: int, *, stdout: str, stderr: str, hint: str = ""
    ) -> None:
        subprocess.CalledProcessError.__init__(self, returncode, command, stdout, stderr)
        self.hint = hint

    def __str__(self) -> str:
        text = f"command failed in the guest with {_shown_status(self.returncode)}: {_shown_command(self.cmd)}"
        if self.hint:
            text += f"\nHint: {self.hint}"
        return f"{text}\n{excerpt('stdout', self.stdout)}\n{excerpt('stderr', self.stderr)}"


class CommandTimeout(GuestError, subprocess.TimeoutExpired):
    """A command did not end in time, and was killed.

    Args:
        command: As it was given to ``run``.
        timeout: Seconds it had.
        stdout: What it had written by then.
        stderr: The same for its error stream.
        note: What became of the remote processes.
        unheard: Seconds since the guest last sent anything at all.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        timeout: float,
        *,
        stdout: str,
        stderr: str,
        note: str = "",
        unheard: float = 0.0,
    ) -> None:
        # The base class declares bytes, but holds text as soon as text was asked for.
        fields: dict[str, Any] = {"output": stdout, "stderr": stderr}
        subprocess.TimeoutExpired.__init__(self, command, timeout, **fields)
        self.note, self.unheard = note, unheard

    def __str__(self) -> str:
        text = f"command did not end in the guest within {self.timeout:g} s: {_shown_command(self.cmd)}"
        if self.note:
            text += f"\n{self.note}"
        stdout, stderr = str(self.output or ""), str(self.stderr or "")
        return f"{text}\n{excerpt('stdout so far', stdout)}\n{excerpt('stderr so far', stderr)}"


_SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}  # fmt: skip


def signal_number(name: str) -> int:
    """Linux's number of a signal named as SSH does (``KILL``); the host's own numbers may differ."""
    return _SIGNALS.get(name.partition("@")[0], 127)


def _shown_status(returncode: int) -> str:
    names = {number: name for name, number in _SIGNALS.items()}
    if returncode < 0:
        return f"signal {-returncode} (SIG{names.get(-returncode, '?')})"
    if returncode - 128 in names:
        return f"exit status {returncode} (as a shell reports SIG{names[returncode - 128]})"
    return f"exit status {returncode}"
