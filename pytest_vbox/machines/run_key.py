"""The key with which a run logs in to guests that learn their keys from it, by cloud-init."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pytest_vbox.guest import new_key
from pytest_vbox.ownership import OwnFolder, remove_abandoned

_KIND: Final = "keys"
_NAME: Final = "id_ed25519"


class RunKey:
    """One key pair for each process, made when it is first needed. No guest but this process's knows it.

    Args:
        state: The state folder.
        run: The id of the run, shared by all its workers.
        note: Is told of the key's folder before there is one.
    """

    def __init__(self, state: Path, run: str, note: Callable[[Path], None] = lambda _: None) -> None:
        self._folder = OwnFolder(state, _KIND, run)
        self._note = note
        self._mutex = threading.Lock()
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The private key's file. It is gone after :meth:`close`."""
        with self._mutex:
            if self._path is None:
                self._note(self.folder)
                path = self._folder.path / _NAME
                new_key(path)
                self._path = path
            return self._path

    @property
    def folder(self) -> Path:
        """The folder that the key is in, if there is one."""
        return self._folder.place

    def close(self) -> None:
        """Delete the key. Twice does no harm."""
        with self._mutex:
            self._folder.close()
            self._path = None


def leave_copy(key: Path, folder: Path) -> Path:
    """Copy a private key to a folder that outlives it, for a machine that is kept. Returns the copy.

    Args:
        key: The key's file.
        folder: Where the copy goes.
    """
    copy = folder / _NAME
    copy.unlink(missing_ok=True)
    copy.touch(mode=0o600)
    return Path(shutil.copyfile(key, copy))


def remove_abandoned_keys(state: Path) -> None:
    """Delete the keys of processes that died."""
    remove_abandoned(state, _KIND)
