"""Text that is not shown: not by ``repr()``, and so not in a traceback with local variables."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class Secret(str):
    """A password. It is the text itself for whoever sends it, and ``'…'`` for whoever shows it.

    ``pytest --showlocals`` shows the variables of every function that a traceback goes through, in other
    people's libraries too.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class Unseen:
    """Where a secret is sent: an error that comes out of the block has forgotten through which functions it came.

    On its way through other people's libraries a secret is in many a variable as part of something else, such as
    a message, and is not a `Secret` there any more.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            forget_frames(error)


def forget_frames(error: BaseException) -> None:
    """Take the tracebacks from an error and from those behind it; the errors themselves stay.

    Args:
        error: Any error, of Ctrl-C too.
    """
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        entry = waiting.pop()
        if entry is not None and not any(entry is other for other in seen):
            seen.append(entry)
            entry.__traceback__ = None
            waiting += [entry.__cause__, entry.__context__]


class ReadableByOthers(Exception):
    """A file with a secret may be read by others than its owner."""


def first_line(file: Path, *, private: bool) -> Secret:
    """The first line of a file, without its end.

    Args:
        file: The file.
        private: See that only its owner may read it. As with ssh, that is asked of the user's own files alone:
            what another account (root, say) has put there for this one has to be readable in some way.

    Raises:
        ReadableByOthers: Others may read it.
        OSError, ValueError: It cannot be read.
    """
    # Not waiting for somebody to write into a FIFO.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    # Some Windows programs begin every file with a byte order mark.
    with os.fdopen(descriptor, encoding="utf-8-sig") as stream:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode)
        if private and os.name == "posix" and status.st_uid == os.getuid() and mode & 0o077:
            raise ReadableByOthers(f"others than you may read {file} (its mode is {mode:04o})")
        with suppress(UnicodeDecodeError):
            return Secret(stream.readline(_LONGEST).partition("\n")[0].rstrip("\r"))
    # Not as the reason of this one: it has all the bytes of the file with it, and so have its functions.
    raise ValueError("it is no text in UTF-8")


def without_credentials(address: str) -> str:
    """An address as it may be shown: without what is, or was meant to be, a user and a password.

    Args:
        address: What a user gave as an address, whatever it is. Without any ``@``, it stays as it is.
    """
    return _CREDENTIALS.sub(r"\1…@", address)


# Up to the last @ of all, or what is taken for one: a password may have a / or another @ in it.
_CREDENTIALS = re.compile(r"\A(https?://)?.*[@\uff20\ufe6b]", re.IGNORECASE | re.DOTALL)
#: Letters of a line; what is longer is no password.
_LONGEST = 4096
