"""Ledgers of dead processes: whatever is in them, they are read, and struck, and the rest stays as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from pytest_vbox.ownership import Entry, Ledger, abandoned

WORDS = [
    *(b'"%s": ' % field.name.encode() for field in fields(Entry)),
    *(
        b'"format": 2',
        b'"entries": [',
        b'"run": ',
        b'"process": {',
        b"null",
        b"NaN",
        b"1e999",
        b"[[[[",
        b'{"',
        b"\\ud800",
    ),
]


def seeds() -> Iterator[bytes]:
    entry = {
        "id": "6d3d0a43-6f64-5c25-9b39-0f8f3f9a1d57",
        "name": "a",
        "host": "b",
        "test": "c::d",
        "since": "2026",
        "kind": "machine",
        "ports": [20123],
    }
    for entries in ([], [entry], [entry, {**entry, "id": "e"}]):
        yield json.dumps({"format": 2, "run": "r", "process": {}, "session": "s", "entries": entries}).encode()


def run(data: bytes, folder: Path) -> None:
    ledger = Ledger(folder, "run")
    ledger.add(Entry("mine", "mine", "host"))
    ledger.close()
    broken = folder / "runs" / "run" / "0-broken.json"
    broken.write_bytes(data)
    broken.with_suffix(".lock").touch()
    with abandoned(folder) as found:
        entries = [(leftover, entry) for leftover in found for entry in list(leftover.entries)]
        names = [entry.name for _, entry in entries]
        assert "mine" in names, "one bad ledger hides the others"
        for leftover, entry in entries:
            assert all(isinstance(getattr(entry, field), str) for field in ("id", "name", "host", "kind")), entry
            leftover.strike(entry)
    with abandoned(folder) as found:
        assert not any(leftover.entries for leftover in found)
