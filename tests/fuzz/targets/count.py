"""The count of what machines take: read, or taken for empty; and every rule works on what was read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_vbox.ownership.counting import Count, Limits, Part, Slot, Ticket, impossible, late, stuck

WORDS = [
    *(b'"%s": ' % word for word in (b"format", b"next", b"participants", b"limits", b"slots", b"tickets", b"pid")),
    *(b'"%s": ' % word for word in (b"machines", b"memory", b"starting", b"claim", b"spare", b"number", b"run")),
    *(b"null", b"true", b"NaN", b"1e999", b"-1", b"[[[[", b"9" * 400),
]


def seeds() -> Iterator[bytes]:
    limits = Limits(4, 4096, 2)
    count = Count()
    yield count.dump().encode()
    count.put("a", Part(1, "r", limits, (Slot("m", 512, 1),), (Ticket(1, "n", 512, 1, "t"),)))
    count.put("b", Part(2, "r", limits, (), (Ticket(2, "n", 5120, 1),)))
    yield count.dump().encode()


def run(data: bytes, folder: Path) -> None:  # noqa: ARG001
    text = data.decode(errors="replace")
    count = Count.load(text)
    assert Count.load(count.dump()) == count, "it is read as it was written"
    verdict = count.verdict()
    count.wants_spare()
    for entry in count.queue[:8]:
        limits = count.parts[entry.participant].limits
        count.has_room(entry.ticket.memory, limits)
        impossible(count, entry, limits, 1)
        late(count, entry, limits, 1.0)
    if verdict.victim is not None:
        stuck(count, verdict.victim)
    count.put("new", Part(3, "r", Limits(1, 1, 1), (), (Ticket(count.next, "n", 1, 1),)))
    assert Count.load(count.dump()) == count
