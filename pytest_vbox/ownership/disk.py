"""Files and folders that other processes read, replace and delete at the same time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def listing(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing where there is none that we may look into, or none any more.

    (``Path.glob`` raises an error in Python 3.11 if a folder goes while it looks.)

    Args:
        folder: The folder.

    Raises:
        OSError: It is there, but cannot be looked into just now.
    """
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as entries:
        return [folder / name for name in sorted(entry.name for entry in entries)]
    return []


def write_synced(path: Path, text: str) -> None:
    """Replace a file whole: whoever reads it sees what was there before, or all of this; after a crash too."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    # The new name is only then on the disk when the folder is; where a folder cannot be opened, as on Windows, the
    # system sees to it.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder, unless somebody has put something there."""
    with suppress(OSError):
        folder.rmdir()
