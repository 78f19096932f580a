"""What this computer has no more of: room on a disk, file handles, processes; told so that somebody can mend it.

VirtualBox, the operating system and the libraries in between each have words of their own for it, most of which
name neither the folder nor what to do. Here they all become one error.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

from pytest_vbox import places
from pytest_vbox.ownership import NotStarted
from pytest_vbox.virtualbox.errors import Failed, FileError, HostError, IprtError

#: MiB below which a disk counts as short, where VirtualBox fails without saying why.
SHORT: Final = 256
_MIB: Final = 1024 * 1024
# Below this, nothing that anybody writes fits.
_FULL: Final = 64 * 1024
_LONGEST_CHAIN: Final = 20


class Lack(StrEnum):
    """What there is no more of."""

    DISK = "disk"
    READ_ONLY = "read-only"
    FILES = "files"
    PROCESSES = "processes"


class Folder(StrEnum):
    """A folder that pytest-vbox, or VirtualBox for it, writes into."""

    STATE = "pytest-vbox's state folder"
    CACHE = "pytest-vbox's cache folder"
    MACHINES = "VirtualBox's machine folder"
    ARTIFACTS = "the artifacts folder"


Folders = Mapping[Folder, Path]
Explained = AbstractContextManager[None]

_BY_NUMBER: Final = {
    errno.ENOSPC: Lack.DISK,
    errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC: Lack.DISK,
    errno.EROFS: Lack.READ_ONLY,
    errno.EACCES: Lack.READ_ONLY,
    errno.EMFILE: Lack.FILES,
    errno.ENFILE: Lack.FILES,
}
# Words of VirtualBox's runtime, of the operating system within VirtualBox's words, and of Python.
_BY_WORDS: Final = (
    (re.compile(r"VERR_DISK_FULL|No space left on device|DrvVD_DISKFULL"), Lack.DISK),
    (re.compile(r"VERR_WRITE_PROTECT|Read-only file system"), Lack.READ_ONLY),
    (re.compile(r"VERR_TOO_MANY_OPEN_FILES|Too many open files"), Lack.FILES),
    (re.compile(r"VERR_MAX_PROCS_REACHED|VERR_MAX_THRDS_REACHED|can't start new thread"), Lack.PROCESSES),
)
_FILE: Final = re.compile(r"'(/[^'\n]+|[A-Za-z]:\\[^'\n]+)'")
# What only says that it failed; VirtualBox has no words at all for a clone that finds no room.
_WORDLESS: Final = (FileError, IprtError, Failed, HostError)
_ELSEWHERE: Final = {
    Folder.STATE: "let XDG_STATE_HOME name a folder elsewhere",
    Folder.CACHE: "let `pytest-vbox cache prune` remove what is not used any more, or XDG_CACHE_HOME name a "
    "folder elsewhere",
    Folder.MACHINES: "let `pytest-vbox gc` and `pytest-vbox cache prune` remove what is not used any more, or "
    "move the folder (VBoxManage setproperty machinefolder FOLDER)",
    Folder.ARTIFACTS: "name another one with --vbox-artifacts",
}


class HostExhausted(Exception):
    """This computer has no more of something that machines need: room, file handles, processes.

    Attributes:
        lack: What there is no more of.
        folder: Where, if it is room or the right to write; or None.
        free: The bytes that are free there.
        doing: What was being done.
    """

    def __init__(self, message: str, lack: Lack, folder: Path | None, free: int | None, doing: str) -> None:
        super().__init__(message)
        self.lack = lack
        self.folder = folder
        self.free = free
        self.doing = doing

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self.args[0]), self.lack, self.folder, self.free, self.doing)


def own_folders() -> dict[Folder, Path]:
    """The folders of this user's, whether they are there or not."""
    return {Folder.STATE: places.state_path(), Folder.CACHE: places.cache_path()}


@contextmanager
def explained(doing: str, folders: Callable[[], Folders]) -> Iterator[None]:
    """Turn errors within the block that come from a lack of something into one that says so.

    Args:
        doing: What is being done, such as ``making the machine pytest-x``.
        folders: Tells where things are written; asked only after an error.

    Raises:
        HostExhausted: With the original error as its cause.
    """
    __tracebackhide__ = True
    try:
        yield
    except HostExhausted:
        raise
    except Exception as error:
        better = explain(error, doing, folders)
        if better is None:
            raise
        # What was found out on the way is said along with it.
        for note in getattr(error, "__notes__", ()):
            better.add_note(note)
        raise better from error


def explain(error: BaseException, doing: str, folders: Callable[[], Folders]) -> HostExhausted | None:
    """An error that says what there is no more of, if that is why something failed.

    Args:
        error: What was raised.
        doing: What was being done.
        folders: Tells where things are written.
    """
    for link in _chain(error):
        lack = _lack(link)
        if lack is not None:
            # Without handles nobody can be asked for folders, and none is to blame.
            known = folders() if lack in {Lack.DISK, Lack.READ_ONLY} else {}
            path = _path(link)
            # What has no path, Python has from a file of ours, and VirtualBox from one of a machine's.
            order = sorted(known, key=lambda kind: (kind is Folder.MACHINES) is isinstance(link, OSError))
            kind, folder = _place(lack, path, {kind: known[kind] for kind in order})
            if isinstance(link, PermissionError) and kind is None:
                continue  # a file of the user's, which has nothing to do with us
            return _told(lack, kind, folder, doing, error)
    return _guessed(error, doing, folders)


def _guessed(error: BaseException, doing: str, folders: Callable[[], Folders]) -> HostExhausted | None:
    """The same for errors that do not say why, where hardly any room is left."""
    if isinstance(error, NotStarted):
        return next(
            (
                _told(lack, kind, folder, doing, error)
                for kind, folder in folders().items()
                for lack, bad in ((Lack.DISK, _is_full), (Lack.READ_ONLY, _is_read_only))
                if bad(folder)
            ),
            None,
        )
    if not _is_wordless(error):
        return None
    left = [(free, kind, folder) for kind, folder in folders().items() if (free := _free(folder)) is not None]
    free, kind, folder = min(left, default=(SHORT * _MIB, None, None), key=lambda entry: entry[0])
    return _told(Lack.DISK, kind, folder, doing, error) if free < SHORT * _MIB else None


def _is_wordless(error: BaseException) -> bool:
    """Whether VirtualBox has said nothing but the kind of error: the first line of its class's documentation."""
    words = (type(error).__doc__ or "").partition("\n")[0]
    return isinstance(error, _WORDLESS) and error.text == words


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it, wrapped ones too."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _LONGEST_CHAIN:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        behind = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args)
        waiting += [entry for entry in behind if isinstance(entry, BaseException)]


def _lack(error: BaseException) -> Lack | None:
    if isinstance(error, OSError) and error.errno in _BY_NUMBER:
        return _BY_NUMBER[error.errno]
    if isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN:
        return Lack.PROCESSES  # what fork() answers
    text = str(error)
    return next((lack for words, lack in _BY_WORDS if words.search(text)), None)


def _path(error: BaseException) -> Path | None:
    """The file that an error is about."""
    if isinstance(error, OSError) and isinstance(error.filename, str | os.PathLike):
        return Path(error.filename)
    found = _FILE.search(str(error))
    return Path(found[1]) if found else None


def _place(lack: Lack, path: Path | None, folders: Folders) -> tuple[Folder | None, Path | None]:
    """Which of the folders it is about, and which folder exactly."""
    if lack not in {Lack.DISK, Lack.READ_ONLY}:
        return None, None
    if path is not None:
        # The innermost one: a machine folder may lie in a state folder.
        within = [(kind, folder) for kind, folder in folders.items() if path.is_relative_to(folder)]
        if within:
            return max(within, key=lambda entry: len(entry[1].parts))
        if path.is_absolute():
            return None, path.parent
    bad = _is_full if lack is Lack.DISK else _is_read_only
    return next(((kind, folder) for kind, folder in folders.items() if bad(folder)), (None, None))


def _told(lack: Lack, kind: Folder | None, folder: Path | None, doing: str, error: BaseException) -> HostExhausted:
    free = _free(folder) if folder is not None else None
    where = f"{kind} {folder}" if kind is not None else str(folder or "a folder that it does not name")
    elsewhere = f"; or {_ELSEWHERE[kind]}" if kind is not None else ""
    if lack is Lack.DISK:
        room = f" ({_size(free)} free)" if free is not None else ""
        what = f"too little room is left on the disk of {where}{room}"
        advice = f"make room there{elsewhere}"
    elif lack is Lack.READ_ONLY:
        what = f"{where} cannot be written to"
        advice = f"make it writable for this user{elsewhere}"
    elif lack is Lack.FILES:
        what = f"no file handle is left for this process or computer{_limit('RLIMIT_NOFILE')}"
        advice = "raise the limit (ulimit -n 1024), or look for what the tests open and do not close"
    else:
        what = f"no process or thread can be started any more{_limit('RLIMIT_NPROC')}"
        advice = "raise the limit (ulimit -u, or pids.max of the container), or use fewer workers"
    said = " ".join(str(error).split())
    message = f"{what}, while {doing}.\n{said}\ntry: {advice}"
    return HostExhausted(message, lack, folder, free, doing)


def _free(folder: Path) -> int | None:
    """The bytes free where a folder is, or will be."""
    for path in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(path).free
    return None


def _is_full(folder: Path) -> bool:
    free = _free(folder)
    return free is not None and free < _FULL


def _is_read_only(folder: Path) -> bool:
    existing = next((path for path in (folder, *folder.parents) if path.exists()), None)
    return existing is not None and not os.access(existing, os.W_OK)


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count else "nothing"


def _limit(name: str) -> str:
    """What this process may have, as far as the system tells."""
    try:
        import resource  # there is none on Windows

        soft = resource.getrlimit(getattr(resource, name))[0]
        return f" (this process may have {soft})" if soft != resource.RLIM_INFINITY else ""
    except (ImportError, AttributeError, OSError, ValueError):
        return ""
