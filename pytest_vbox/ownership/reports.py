"""What was cleaned up after the dead: a log, and what the next run shows of it."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pytest_vbox.printable import short

_LOG: Final = "reaper.log"
_UNSEEN: Final = "unseen"
_LARGEST: Final = 1024 * 1024


def log_file(state: Path) -> Path:
    """The log, for people. The one before it ends with ``.1``."""
    return state / _LOG


def report(state: Path, run: str, lines: list[str]) -> None:
    """Write down what was done about a run that died; it tells of no errors, since there is more to clean up.

    Args:
        state: The state folder.
        run: The run.
        lines: Sentences; none if there is nothing to say.
    """
    if not lines:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # The name of a test is its author's, and goes to a terminal.
    text = "".join(f"{now} run {run[:8]}: {short(line)}\n" for line in lines)
    for write in (_log, _show):
        # A full disk, which is no reason to leave machines on it.
        with suppress(OSError):
            write(state, text)


def _log(state: Path, text: str) -> None:
    log = log_file(state)
    with suppress(OSError):
        if log.stat().st_size > _LARGEST:
            log.replace(log.with_name(f"{_LOG}.1"))
    with log.open("a", encoding="utf-8") as file:
        file.write(text)


def _show(state: Path, text: str) -> None:
    """Let the next run show it."""
    folder = state / _UNSEEN
    folder.mkdir(exist_ok=True, mode=0o700)
    temporary = folder / f"{uuid.uuid4().hex}.new"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(temporary.with_suffix(".txt"))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def take_unseen(state: Path) -> list[str]:
    """What nobody was shown yet, oldest first; each line is given once."""
    lines: list[str] = []
    for path in (state / _UNSEEN).glob("*.txt"):
        taken = path.with_suffix(".taken")
        with suppress(OSError):  # another run shows it
            path.rename(taken)
            lines += taken.read_text(encoding="utf-8", errors="replace").splitlines()
            taken.unlink()
    return sorted(lines)
