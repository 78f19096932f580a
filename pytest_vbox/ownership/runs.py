"""The folders of runs: what all ledgers list together, and folders that nobody needs any more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from pytest_vbox.ownership import meeting
from pytest_vbox.ownership.disk import listing, remove_if_empty
from pytest_vbox.ownership.ledger import Abandoned
from pytest_vbox.ownership.lockfiles import Busy

# A text in JSON. It is not decoded: names of machines have nothing in them that would be escaped.
_TEXT: Final = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')


def names_written_down(state: Path) -> frozenset[str]:
    """The names of all that any ledger lists, of the living and of the dead: somebody sees to it.

    Of a ledger that another version wrote, each text: one of them is the name.

    Args:
        state: The state folder.

    Raises:
        Busy: A ledger cannot be read just now.
    """
    names: set[str] = set()
    try:
        for path in (file for folder in listing(state / "runs") for file in listing(folder)):
            if path.suffix == ".json" and path.name[:1].isdigit():
                ledger = Abandoned.read(path)
                names.update(entry.name for entry in ledger.entries)
                if ledger.unreadable:
                    names.update(_texts_in(path))
    except OSError as error:
        raise Busy(f"what the ledgers list cannot be told just now: {error}") from error
    return frozenset(names)


def _texts_in(ledger: Path) -> list[str]:
    try:
        return _TEXT.findall(ledger.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return []


def remove_ended_runs(state: Path) -> None:
    """Delete the folders of runs in which nobody has a ledger any more, such as a reaper leaves that was killed.

    Args:
        state: The state folder.
    """
    for folder in listing(state / "runs"):
        remove_ended_run(folder)


def remove_ended_run(folder: Path) -> None:
    """Delete the folder of a run, if nobody has a ledger there any more.

    Args:
        folder: The folder.
    """
    # Whoever lives, the reaper too, has a lock there; a process of the run has its own before all else.
    if any(path.name[:1].isdigit() for path in listing(folder)):
        return
    lock = FileLock(folder / "reaper.lock")
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return
    meeting.remove(folder)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
    remove_if_empty(folder)
