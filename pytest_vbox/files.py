"""Reading files that a project names: a file, and no pipe, device or folder that is read for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

#: Bytes of a file that is read as a whole: a script, a key, user-data, a floppy.
LIMIT: Final = 64 * 1024**2

_KINDS: Final = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def read_regular(file: Path, limit: int = LIMIT) -> bytes:
    """What is in a file.

    Args:
        file: The file; a link is followed.
        limit: Bytes that it may have at most.

    Raises:
        OSError: It cannot be read, is no regular file, or too large; ``strerror`` says it in words.
    """
    # Without waiting for somebody to write into a pipe.
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        _check(file, os.fstat(descriptor).st_mode)
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit // 1024} KiB{_leads_to(file)}", str(file))
    return content


def check_regular(file: Path) -> None:
    """See that there is a file, for others to open it.

    Raises:
        OSError: There is none, or something else; ``strerror`` says it in words.
    """
    _check(file, file.stat().st_mode)


def _check(file: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((words for is_it, words in _KINDS if is_it(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is no file but {kind}{_leads_to(file)}", str(file))


def _leads_to(file: Path) -> str:
    """Where a link leads, for the message."""
    real = Path(os.path.realpath(file))
    return f" (a link to {ascii(str(real))[1:-1]})" if file.is_symlink() else ""
