"""Anchors whose base is gone: what somebody leaves in VirtualBox who deletes a disk's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BaselessAnchor:
    """An anchor whose file was deleted.

    Attributes:
        name: Its name in VirtualBox.
        location: Where the file was.
        settings: Its settings file.
    """

    name: str
    location: str
    settings: Path


def is_deleted(location: str) -> bool:
    """Whether a file is certainly not there; one that cannot be looked at may be."""
    try:
        Path(location).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
