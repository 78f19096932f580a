"""Who listens on a port of this computer: a service of another user's is not taken for one of ours.

What Linux tells is in /proc/net/tcp: each socket with its addresses, its state and the number of its user.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENING: Final = "0A"
_ROOT: Final = 0
_LOOPBACK: Final = IPv4Address("127.0.0.1")

_Address = IPv4Address | IPv6Address
_Place = tuple[_Address, int]


@dataclass(frozen=True)
class _Row:
    """A socket: where it is, with whom it is connected, and whose it is."""

    here: _Place
    there: _Place
    listens: bool
    owner: int


def is_trusted(port: int) -> bool:
    """Whether it is this user or root who listens on a port of 127.0.0.1.

    Known on Linux only; elsewhere whoever listens is trusted. A port on which nobody listens is not.
    """
    rows = _rows(port)
    if rows is None:
        return True
    owners = {row.owner for row in rows if row.listens and _takes(row.here[0], _LOOPBACK)}
    return bool(owners) and not owners - _trusted()


def strangers(there: tuple[str, int], here: tuple[str, int]) -> frozenset[int]:
    """Who else than this user and root may have the other end of a connection within this computer.

    It is known on Linux only, and not of what is led into another network namespace, as a container's port may be:
    then it is nobody, as far as is known. Of what other users of this computer listen on it is always known there.

    Args:
        there: Address and port of the other end.
        here: Address and port of this end.

    Returns:
        The numbers of these users.
    """
    ends = _place(*there), _place(*here)
    rows = _rows(there[1])
    if rows is None:
        return frozenset()
    # Who listens may have accepted it and stopped listening since. Then it is among those that are connected.
    owners = {
        row.owner
        for row in rows
        if (_takes(row.here[0], ends[0][0]) if row.listens else (row.here, row.there) == ends)
    }
    return frozenset(owners - _trusted())


def _trusted() -> set[int]:
    return {os.getuid(), _ROOT}


def _rows(port: int) -> list[_Row] | None:
    """All sockets that are on a port, or None if that is not known."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return list(_read_rows(port))
    except (OSError, ValueError, IndexError, struct.error):
        return None  # no /proc, or another one than Linux's


def _read_rows(port: int) -> Iterator[_Row]:
    for table in _TABLES:
        if not table.exists():
            continue  # no IPv6
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            columns = line.split()
            if int(columns[1].partition(":")[2], 16) == port:
                here, there = (_read(column) for column in columns[1:3])
                yield _Row(here, there, columns[3] == _LISTENING, int(columns[7]))


def _read(text: str) -> _Place:
    """Address and port as the kernel writes them: the former as numbers of 32 bits, as they are in memory."""
    address, _, port = text.partition(":")
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return _unmapped(IPv4Address(packed) if len(words) == 1 else IPv6Address(packed)), int(port, 16)


def _place(address: str, port: int) -> _Place:
    return _unmapped(ip_address(address.partition("%")[0])), port


def _unmapped(address: _Address) -> _Address:
    return getattr(address, "ipv4_mapped", None) or address


def _takes(listening: _Address, wanted: _Address) -> bool:
    """Whether who listens on one address may be given a connection to another."""
    if listening.is_unspecified:
        # IPv6's takes those to IPv4 too, unless it was told otherwise.
        return listening.version == 6 or wanted.version == 4
    return listening == wanted
