"""Where pytest-vbox keeps things of its own, on each platform; and that they are the user's alone."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

import platformdirs

from pytest_vbox.settings import SettingsError

_NAME: Final = "pytest-vbox"
_ROOT: Final = 0


class UnsafeFolder(SettingsError):
    """A folder of pytest-vbox's is in the hands of another user of this computer."""


def state_folder() -> Path:
    """What has to survive a crash: ledgers, locks, the private service's state. Only the user may look inside.

    Raises:
        UnsafeFolder: It belongs to another user.
    """
    folder = state_path()
    _make(folder)
    _check(folder, "XDG_STATE_HOME")
    return folder


def cache_folder() -> Path:
    """What can be made again at any time, disks of images above all. Only the user may look inside.

    Raises:
        UnsafeFolder: It belongs to another user.
    """
    folder = cache_path()
    with suppress(OSError):  # whoever writes into it will say so, and not everybody does
        _make(folder)
    if folder.exists():
        _check(folder, "XDG_CACHE_HOME")
    return folder


def state_path() -> Path:
    """The state folder, whether it is there or not."""
    return Path(platformdirs.user_state_dir(_NAME, appauthor=False))


def cache_path() -> Path:
    """The cache folder, whether it is there or not."""
    return Path(platformdirs.user_cache_dir(_NAME, appauthor=False))


def config_folder() -> Path:
    """The user's own images and hardware profiles."""
    return Path(platformdirs.user_config_dir(_NAME, appauthor=False))


def _make(folder: Path) -> None:
    """Make a folder and those above it, for the user alone, whatever the umask."""
    if not folder.exists():
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            # exist_ok: another worker may be here at the same moment.
            missing.mkdir(exist_ok=True, mode=0o700)


def _check(folder: Path, variable: str) -> None:
    """See that nobody else can change what is in a folder, or put another one in its place.

    Raises:
        UnsafeFolder: Somebody can.
    """
    if os.name != "posix":
        return  # profiles on Windows are the user's alone, by inheritance
    own = os.getuid()
    advice = f"Move it away, or set {variable} to a folder of yours"
    # A link's owner can lead it elsewhere; what it leads to is looked at below.
    for path in (folder, folder.parent):
        owner = path.lstat().st_uid
        if owner not in {own, _ROOT}:
            raise UnsafeFolder(f"{path} belongs to {user_name(owner)}, who could put anything there. {advice}")
    real = folder.resolve()
    status, above = real.stat(), real.parent.stat()
    if status.st_uid != own:
        shown = f"{folder} leads to {real}, which" if real != folder else str(folder)
        raise UnsafeFolder(f"{shown} belongs to {user_name(status.st_uid)}, not to {user_name(own)}. {advice}")
    if above.st_uid not in {own, _ROOT}:
        raise UnsafeFolder(f"{real.parent} belongs to {user_name(above.st_uid)}. {advice}")
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise UnsafeFolder(f"everybody may rename what is in {real.parent}. Try: chmod o-w {real.parent}")
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def user_name(number: int) -> str:
    """A user of this computer, in words; not on Windows, where there are no such numbers."""
    import pwd

    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user {number}"
