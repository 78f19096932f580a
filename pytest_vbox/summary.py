"""Where the time of a run's machines went: a table for people, and a document for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_vbox.records import Journal, Record, Way

_FORMAT: Final = 1


@dataclass
class Story:
    """What the processes of a run have told.

    Attributes:
        records: One for each machine.
        notes: Sentences that everybody should see.
        peaks: The most machines at once, of each process.
        virtualbox: VirtualBox's version, if any process knows it.
    """

    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    virtualbox: str = ""

    def add(self, document: Mapping[str, Any]) -> None:
        """Take over what a process has told, as :func:`told_by` gave it."""
        self.records += [Record.from_json(record) for record in document["records"]]
        self.notes += [note for note in document["notes"] if note not in self.notes]
        self.peaks.append(document["peak"])
        self.virtualbox = self.virtualbox or document["virtualbox"]


def told_by(journal: Journal) -> dict[str, Any]:
    """What a process has to tell, as it can be sent to another."""
    return {
        "records": [record.to_json() for record in journal.records],
        "notes": list(journal.notes),
        "peak": journal.peak,
        "virtualbox": journal.virtualbox,
    }


def table(story: Story) -> list[str]:
    """The lines for pytest's summary; none if no machine was asked for."""
    if not story.records:
        return []
    rows = [("machines", "how many", "median", "95 %", "where the median went")]
    for name, records in _groups(story.records):
        seconds = [record.seconds for record in records]
        rows.append(
            (
                name,
                str(len(records)),
                duration(statistics.median(seconds)),
                duration(percentile(seconds, 95)),
                ", ".join(
                    f"{phase} {duration(statistics.median(values))}" for phase, values in _phases(records).items()
                ),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in {1, 2, 3} else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    saved = _saved(story.records)
    if saved:
        lines.append(f"saved: about {duration(saved)} against booting each of them")
    workers = f" in {len(story.peaks)} processes" if len(story.peaks) > 1 else ""
    lines.append(f"at once: at most {sum(story.peaks)}{workers}")
    for what, (seconds_, requests) in _waited(story.records).items():
        lines.append(f"waited for {what}: {duration(seconds_)} in {requests} of {len(story.records)} requests")
    return lines


def document(story: Story, about: Mapping[str, Any]) -> dict[str, Any]:
    """The same, and each machine, for programs; see docs/reference/report.md.

    Args:
        story: What was told.
        about: The versions and the like.
    """
    return {
        "format": _FORMAT,
        "about": dict(about),
        "ways": {
            name: {
                "count": len(records),
                "seconds": _figures([record.seconds for record in records]),
                "phases": {phase: _figures(values) for phase, values in _phases(records).items()},
            }
            for name, records in _groups(story.records)
        },
        "saved_seconds": _saved(story.records),
        "peak": sum(story.peaks),
        "waited": {
            what: {"seconds": seconds, "requests": requests}
            for what, (seconds, requests) in _waited(story.records).items()
        },
        "notes": story.notes,
        "machines": [record.to_json() for record in story.records],
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of some values that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def duration(seconds: float) -> str:
    """A time for people, in two or three digits."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _groups(records: Iterable[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Records by how their machines came; golden machines on their own."""
    groups: dict[str, list[Record]] = {name: [] for name in (*Way, "golden")}
    for record in records:
        groups["golden" if record.purpose == "golden" else str(record.way)].append(record)
    return ((name, group) for name, group in groups.items() if group)


def _phases(records: Iterable[Record]) -> dict[str, list[float]]:
    phases: dict[str, list[float]] = {}
    for record in records:
        for phase, seconds in record.phases.items():
            phases.setdefault(phase, []).append(seconds)
    return phases


def _figures(values: Sequence[float]) -> dict[str, float]:
    return {"p50": statistics.median(values), "p95": percentile(values, 95), "max": max(values)}


def _saved(records: Iterable[Record]) -> float:
    return sum(record.saved for record in records)


def _waited(records: Iterable[Record]) -> dict[str, tuple[float, int]]:
    waited: dict[str, tuple[float, int]] = {}
    for record in records:
        for what, seconds in record.waited.items():
            before, requests = waited.get(what, (0.0, 0))
            waited[what] = before + seconds, requests + 1
    return waited
