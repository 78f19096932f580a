"""paramiko's SFTP client, for servers that may say anything: counts are checked, and no listing is endless."""

from __future__ import annotations

import struct
from typing import Any, Final

import paramiko
from paramiko.sftp import CMD_ATTRS, CMD_DATA, CMD_NAME, CMD_STATUS
from paramiko.sftp_attr import SFTPAttributes

# Bytes of an answer, as in OpenSSH, and of one with a piece of a file, of which 32 KiB at a time are asked for.
_LARGEST: Final = 256 * 1024
_LARGEST_PIECE: Final = 64 * 1024
#: Names in one folder. More can hardly be meant, and all of them have to be kept in memory.
MOST_NAMES: Final = 250_000


class GuestSFTPClient(paramiko.SFTPClient):
    """Refuses answers that would keep paramiko busy for ever, or fill the memory."""

    _names = 0

    def _read_packet(self) -> tuple[int, bytes]:
        kind, data = super()._read_packet()  # type: ignore[misc]
        if len(data) > (_LARGEST_PIECE if kind == CMD_DATA else _LARGEST):
            raise paramiko.SFTPError(f"the server sent an answer of {len(data)} bytes")
        # The number of the request comes first.
        if kind == CMD_ATTRS:
            _after_attributes(data, 4)
        elif kind == CMD_NAME:
            self._names += _checked_names(data)
            if self._names > MOST_NAMES:
                raise paramiko.SFTPError(f"the server lists more than {MOST_NAMES} names in one folder")
        elif kind == CMD_STATUS:
            # Also at the end of a listing.
            self._names = 0
        return kind, data

    def _request(self, kind: int, *arguments: Any) -> Any:
        try:
            return super()._request(kind, *arguments)  # type: ignore[misc]
        except struct.error as error:
            raise paramiko.SFTPError(f"the server's answer makes no sense: {error}") from error


def _checked_names(data: bytes) -> int:
    """How many names an answer really holds."""
    count, place = _integer(data, 4), 8
    for _ in range(count):
        for _ in ("name", "as ls shows it"):
            place += 4 + _integer(data, place)
        place = _after_attributes(data, place)
    return count


def _after_attributes(data: bytes, place: int) -> int:
    """Where the attributes of a file end that begin at a place."""
    flags = _integer(data, place)
    place += 4
    for flag, size in (
        (SFTPAttributes.FLAG_SIZE, 8),
        (SFTPAttributes.FLAG_UIDGID, 8),
        (SFTPAttributes.FLAG_PERMISSIONS, 4),
        (SFTPAttributes.FLAG_AMTIME, 8),
    ):
        place += size if flags & flag else 0
    if flags & SFTPAttributes.FLAG_EXTENDED:
        count = _integer(data, place)
        place += 4
        for _ in range(2 * count):
            place += 4 + _integer(data, place)
    if place > len(data):
        raise paramiko.SFTPError("the server's answer is cut short")
    return place


def _integer(data: bytes, place: int) -> int:
    if place + 4 > len(data):
        raise paramiko.SFTPError("the server's answer is cut short")
    return int.from_bytes(data[place : place + 4], "big")
