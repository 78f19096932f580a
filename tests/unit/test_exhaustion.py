"""What there is no more of is told by one error, whoever said so in whatever words."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest
import requests
import urllib3.exceptions

from pytest_vbox import exhaustion
from pytest_vbox.exhaustion import Folder, HostExhausted, Lack, explain, explained
from pytest_vbox.guest import CommandError
from pytest_vbox.images import ImageError
from pytest_vbox.virtualbox.errors import FileError, ObjectNotFound, ServiceUnavailable, error_for

MIB = 1024 * 1024


@pytest.fixture
def folders(tmp_path: Path) -> dict[Folder, Path]:
    found = {
        Folder.MACHINES: tmp_path / "machines",
        Folder.STATE: tmp_path / "state",
        Folder.CACHE: tmp_path / "machines" / "cache",
    }
    for folder in found.values():
        folder.mkdir()
    return found


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """How much is free where; elsewhere there is plenty."""
    known: dict[Path, int] = {}
    monkeypatch.setattr(exhaustion, "_free", lambda folder: known.get(folder, 10**12))
    return known


def _caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def _no_socket() -> Exception:
    inner = OSError(errno.EMFILE, "Too many open files")
    retry = urllib3.exceptions.MaxRetryError(None, "/", inner)  # type: ignore[arg-type]
    return _caused(ServiceUnavailable("it does not answer"), requests.exceptions.ConnectionError(retry))


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Lack.DISK),
        (FileError("Could not create it (VERR_DISK_FULL)"), Lack.DISK),
        (_caused(ImageError("cannot be stored"), OSError(errno.ENOSPC, "full")), Lack.DISK),
        (OSError(errno.EROFS, "Read-only file system"), Lack.READ_ONLY),
        (FileError("Could not save it (VERR_WRITE_PROTECT)"), Lack.READ_ONLY),
        (OSError(errno.EMFILE, "Too many open files"), Lack.FILES),
        (_no_socket(), Lack.FILES),
        (RuntimeError("can't start new thread"), Lack.PROCESSES),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), Lack.PROCESSES),
    ],
    ids=str,
)
def test_whoever_says_it_it_is_the_same(error: Exception, lack: Lack, folders: dict[Folder, Path]) -> None:
    found = explain(error, "making a machine", lambda: folders)
    assert found is not None
    assert found.lack is lack
    assert "while making a machine" in str(found)
    assert " ".join(str(error).split()) in str(found)
    assert "\ntry: " in str(found)


@pytest.mark.parametrize(
    "error",
    [
        ObjectNotFound("no such machine"),
        CommandError("dd", 1, stdout="", stderr="dd: writing: full"),
        RuntimeError("something else"),
        FileNotFoundError(errno.ENOENT, "No such file", "/x"),
        PermissionError(errno.EACCES, "Permission denied", "/somebody/else/s"),
        FileError("the file is damaged"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_something_else_stays_what_it_is(error: Exception, folders: dict[Folder, Path]) -> None:
    with pytest.raises(type(error)) as caught, explained("x", lambda: folders):
        raise error
    assert caught.value is error


def test_the_folder_is_that_of_the_file_in_the_error(folders: dict[Folder, Path], free: dict[Path, int]) -> None:
    machines = folders[Folder.MACHINES]
    free[machines] = 3 * MIB
    error = FileError(f"Could not create '{machines}/x/y.vdi' (VERR_DISK_FULL)")
    found = explain(error, "x", lambda: folders)
    assert found is not None
    assert (found.folder, found.free) == (machines, 3 * MIB)
    assert "VirtualBox's machine folder" in str(found)
    assert "(3.0 MiB free)" in str(found)


def test_the_innermost_folder_counts(folders: dict[Folder, Path]) -> None:
    error = OSError(errno.ENOSPC, "full", str(folders[Folder.CACHE] / "images" / "x"))
    found = explain(error, "x", lambda: folders)
    assert found is not None
    assert found.folder == folders[Folder.CACHE]
    assert "XDG_CACHE_HOME" in str(found)


def test_python_is_thought_to_mean_our_files_and_virtualbox_its_own_where_both_are_full(
    folders: dict[Folder, Path], free: dict[Path, int]
) -> None:
    free |= dict.fromkeys(folders.values(), 0)
    python = explain(OSError(errno.ENOSPC, "full"), "x", lambda: folders)
    virtualbox = explain(FileError("VERR_DISK_FULL"), "x", lambda: folders)
    assert python is not None
    assert virtualbox is not None
    assert python.folder == folders[Folder.STATE]
    assert virtualbox.folder == folders[Folder.MACHINES]


def test_an_error_without_words_is_explained_only_where_hardly_any_room_is_left(
    folders: dict[Folder, Path], free: dict[Path, int]
) -> None:
    error = error_for(FileError.default_code or 0, "")
    assert explain(error, "x", lambda: folders) is None
    free[folders[Folder.MACHINES]] = 20 * MIB
    found = explain(error, "x", lambda: folders)
    assert found is not None
    assert found.folder == folders[Folder.MACHINES]


def test_folders_are_not_asked_for_when_there_are_no_handles() -> None:
    def fail() -> dict[Folder, Path]:
        raise AssertionError

    assert explain(OSError(errno.EMFILE, "Too many open files"), "x", fail) is not None


def test_notes_and_cause_are_kept_and_it_survives_the_way_to_another_worker(folders: dict[Folder, Path]) -> None:
    error = OSError(errno.ENOSPC, "full")
    error.add_note("(then removing it failed too)")
    with pytest.raises(HostExhausted) as caught, explained("x", lambda: folders):
        raise error
    assert caught.value.__cause__ is error
    assert caught.value.__notes__ == ["(then removing it failed too)"]
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made right here
    assert (str(again), again.lack, again.doing) == (str(caught.value), Lack.DISK, "x")


def test_errors_that_lead_to_each_other_are_no_endless_loop(folders: dict[Folder, Path]) -> None:
    one, two = ValueError("a"), ValueError("b")
    one.__cause__, two.__cause__ = two, one
    assert explain(one, "x", lambda: folders) is None
