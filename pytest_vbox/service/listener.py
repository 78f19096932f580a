"""Who listens on a port of this computer: a service of another user's is not taken for one of ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING: Final = "0A"
_ROOT: Final = 0
# 127.0.0.1 and "any address" as the kernel writes them, of IPv4 and mapped into IPv6, for both orders of bytes.
_FITTING: Final = frozenset(
    {
        "0100007F",
        "7F000001",
        "0" * 8,
        "0" * 32,
        "0000000000000000FFFF00000100007F",
        "00000000000000000000FFFF7F000001",
    }
)


def is_trusted(port: int) -> bool:
    """Whether it is this user or root who listens on a port of 127.0.0.1.

    Known on Linux only; elsewhere whoever listens is trusted. A port on which nobody listens is not.
    """
    if not sys.platform.startswith("linux"):
        return True
    try:
        owners = set(_owners(port))
    except (OSError, ValueError, IndexError):
        return True  # no /proc, or another one than Linux's
    return bool(owners) and owners <= {os.getuid(), _ROOT}


def _owners(port: int) -> Iterator[int]:
    """The numbers of the users who listen there."""
    for table in _TABLES:
        if not table.exists():
            continue  # no IPv6
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            address, _, found = columns[1].partition(":")
            if columns[3] == _LISTENING and int(found, 16) == port and address in _FITTING:
                yield int(columns[7])
