"""Where pytest-vbox keeps things of its own, on each platform."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_NAME = "pytest-vbox"


def state_folder() -> Path:
    """What has to survive a crash: ledgers, locks, the private service's state. Only the user may look inside."""
    return _private(Path(platformdirs.user_state_dir(_NAME, appauthor=False)))


def cache_folder() -> Path:
    """What can be made again at any time."""
    return Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def config_folder() -> Path:
    """The user's own images and hardware profiles."""
    return Path(platformdirs.user_config_dir(_NAME, appauthor=False))


def _private(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder
