"""Waiting, politely, until a guest's SSH server speaks.

VirtualBox's NAT accepts a connection to a forwarded port at once, whether or not the guest listens. A guest
whose network is down makes the connection hang; one that runs no SSH server yet makes it close. So a
connection proves nothing: only the bytes ``SSH-`` do. NAT sends its first packet to the guest once and
repeats it only after 6 s, then 12 s, so a connection opened before the guest was ready is best given up soon
and opened anew; but never two at once, because each costs a slow guest a process and up to a second.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.errors import GuestUnreachable

# Seconds the first silent connections are kept, for guests that come to life at once; then these by turns.
_FIRST_PATIENCE = (0.4, 0.8, 1.6, 3.0)
_PATIENCE = (4.0, 1.5, 2.0)
# What takes long to boot takes long to answer, too: this part of the time spent so far, up to so many seconds.
_PATIENCE_PART, _LONGEST_PATIENCE = 0.1, 10.0
# Seconds between two connections when the last one was refused or closed at once.
_PAUSE = 0.2
# At least this often, in seconds, the caller is asked whether to go on.
_SLICE = 1.0
_MOST_OTHER_TEXT = 4096
# Bytes of the banner itself: RFC 4253 allows 255. What reads it afterwards would read on without end.
_LONGEST_BANNER = 1024

REFUSED = "connection refused"
SILENT = "accepted, then silent"
CLOSED = "accepted, then closed"

_HINTS = {
    REFUSED: "nothing on the host listens at this port: is the machine running, and is its forward in place?",
    SILENT: "the guest did not get as far as its network, or has no SSH server at the forwarded port",
    CLOSED: "the guest's network is up, but nothing listens at the forwarded port: is its SSH server started?",
}


class Sightings:
    """What successive probes saw, equal ones in a row counted together."""

    def __init__(self) -> None:
        self.count = 0
        self.phase = "banner"
        """How far the last one came that was answered."""
        self.cause: BaseException | None = None
        """What ended that one."""
        self._runs: list[tuple[str, int]] = []

    def add(self, seen: str) -> None:
        """Note what one more probe saw."""
        self.count += 1
        times = 0
        if self._runs and self._runs[-1][0] == seen:
            times = self._runs.pop()[1]
        self._runs.append((seen, times + 1))

    @property
    def last(self) -> str:
        """What the last probe saw, or an empty string."""
        return self._runs[-1][0] if self._runs else ""

    def __str__(self) -> str:
        runs = [f"{seen} ({times} x)" if times > 1 else seen for seen, times in self._runs[-5:]]
        return ("…, " if len(self._runs) > 5 else "") + (", then ".join(runs) or "none was made")

    def unreachable(self, address: tuple[str, int], deadline: Deadline) -> GuestUnreachable:
        """The error that says all this."""
        hint = _HINTS.get(self.last, "")
        if self.last.startswith("other text"):
            hint = "something else than an SSH server answers there: is the guest's port the right one?"
        error = GuestUnreachable(
            address, phase=self.phase, elapsed=deadline.elapsed, last=str(self), probes=self.count, hint=hint
        )
        error.__cause__ = self.cause
        return error


def patience(silent: int, elapsed: float, *, network: bool = False) -> float:
    """How long, in seconds, to keep the next connection if nothing comes.

    Too long, and a connection that came too early holds up the one that would succeed. Too short, and a slow
    guest (an interpreted one on a busy host takes 3 s) is left just before it answers, and again with the next.

    Args:
        silent: How many connections in a row have been given up already.
        elapsed: Seconds since the first.
        network: The guest has been heard of: a closed port answers at once, so silence means that its SSH server
            took the connection, and is slow.
    """
    if network:
        return _LONGEST_PATIENCE
    if silent < len(_FIRST_PATIENCE):
        return _FIRST_PATIENCE[silent]
    by_turns = _PATIENCE[silent % len(_PATIENCE)]
    return min(_LONGEST_PATIENCE, max(by_turns, _PATIENCE_PART * elapsed))


def wait_for_banner(
    address: tuple[str, int],
    deadline: Deadline,
    on_wait: Callable[[], None] | None = None,
    sightings: Sightings | None = None,
) -> socket.socket:
    """A connection on which the guest's SSH server has begun to speak; its banner is still unread.

    Args:
        address: Host and port, usually of a forward.
        deadline: When to give up.
        on_wait: Called about every second while nothing comes; what it raises ends the wait.
        sightings: Where to note what the probes see; a new one if not given.

    Raises:
        GuestUnreachable: There was no banner in time.
    """
    sightings = sightings or Sightings()
    ask = on_wait or _nothing
    silent, network, begin = 0, False, deadline.elapsed
    while not deadline.expired:
        wait = patience(silent, deadline.elapsed - begin, network=network)
        sock, seen = _probe(address, deadline.sooner(wait), ask)
        if sock is not None:
            return sock
        # A silence that the deadline cut short says less than what was seen before it.
        if seen != SILENT or deadline.remaining > 0 or not sightings.count:
            sightings.add(seen)
        silent, network = silent + 1, seen == CLOSED
        ask()
        if seen != SILENT:
            # There is nothing to be awaited but a change in the guest, which tells nobody.
            threading.Event().wait(deadline.at_most(_PAUSE))
    raise sightings.unreachable(address, deadline)


def _nothing() -> None:
    pass


def _probe(
    address: tuple[str, int], deadline: Deadline, ask: Callable[[], None]
) -> tuple[socket.socket | None, str]:
    """One connection: itself if a banner came, else closed again, with what was seen."""
    try:
        sock = socket.create_connection(address, timeout=max(0.01, deadline.remaining))
    except ConnectionRefusedError:
        return None, REFUSED
    except ConnectionError:
        return None, CLOSED
    except TimeoutError:
        return None, "no answer to the attempt to connect"
    except OSError as error:
        return None, str(error)
    try:
        seen = _listen(sock, deadline, ask)
    except BaseException:
        sock.close()
        raise
    if seen is None:
        return sock, ""
    sock.close()
    return None, seen


def _listen(sock: socket.socket, deadline: Deadline, ask: Callable[[], None]) -> str | None:
    """``None`` as soon as a banner can be read, else what came instead."""
    other = bytearray()
    while not deadline.expired and len(other) < _MOST_OTHER_TEXT:
        sock.settimeout(max(0.01, deadline.at_most(_SLICE)))
        try:
            # Peeking leaves the banner to the SSH library: the handshake needs no second connection.
            peeked = sock.recv(_LONGEST_BANNER, socket.MSG_PEEK)
        except TimeoutError:
            ask()
            continue
        except OSError:
            peeked = b""
        if not peeked:
            return _seen(other, CLOSED)
        if not other or other.endswith(b"\n"):
            if peeked.startswith(b"SSH-") and b"\n" in peeked:
                return None
            if peeked.startswith(b"SSH-") and len(peeked) == _LONGEST_BANNER:
                return f"other text: a banner without end, {_shown(peeked)}"
            if peeked.startswith(b"SSH-") or b"SSH-".startswith(peeked):
                # The rest is under way, but peeking returns at once as long as these bytes lie here.
                threading.Event().wait(deadline.at_most(0.01))
                continue
        # A server may say something before its banner; it is read line by line up to the banner.
        line = peeked[: peeked.find(b"\n") + 1] or peeked
        other += sock.recv(len(line))
    return _seen(other, SILENT)


def _seen(other: bytes | bytearray, otherwise: str) -> str:
    return f"other text: {_shown(other)}" if other else otherwise


def _shown(text: bytes | bytearray) -> str:
    return repr(text[:200].decode("utf-8", "replace"))
