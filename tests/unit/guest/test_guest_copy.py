"""Copying files and folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vbox.guest import Connection, ConnectionLost, CopyFailed, get, put

from .server import Behaviour, GuestServer


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder of the host."""
    folder = tmp_path / "host"
    folder.mkdir()
    return folder


@pytest.fixture
def there(behaviour: Behaviour) -> Path:
    """The guest's root, seen from the host."""
    return behaviour.root


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def _fill(folder: Path) -> Path:
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "top").write_text("top")
    (folder / "sub" / "a b").write_text("a b")
    (folder / "sub" / "deep" / "é").write_text("deep")
    (folder / "sub" / "empty").mkdir()
    return folder


TREE = {"top": "top", "sub/a b": "a b", "sub/deep/é": "deep"}


@pytest.mark.parametrize(("mode", "size"), [(0o644, 0), (0o755, 5), (0o600, 32 * 1024), (0o444, 300_001)])
def test_a_file_there_and_back(connection: Connection, here: Path, there: Path, mode: int, size: int) -> None:
    data = os.urandom(size)
    (here / "f").write_bytes(data)
    (here / "f").chmod(mode)
    put(connection, here / "f", "/g")
    assert (there / "g").read_bytes() == data
    assert _mode(there / "g") == mode
    get(connection, "/g", str(here / "back"))
    assert (here / "back").read_bytes() == data
    assert _mode(here / "back") == mode


def test_put_into_a_folder(connection: Connection, here: Path, there: Path) -> None:
    (here / "f").write_text("x")
    (there / "folder").mkdir()
    put(connection, here / "f", "/folder")
    put(connection, here / "f", "/new/deep/")
    put(connection, here / "f", "/new/other/name")
    assert _tree(there) == {"folder/f": "x", "new/deep/f": "x", "new/other/name": "x"}


def test_put_overwrites_and_shortens(connection: Connection, here: Path, there: Path) -> None:
    (here / "f").write_text("short")
    (there / "f").write_text("something longer")
    put(connection, here / "f", "/f")
    assert (there / "f").read_text() == "short"


def test_put_a_folder(connection: Connection, here: Path, there: Path) -> None:
    _fill(here / "folder")
    (here / "folder" / "sub").chmod(0o750)
    put(connection, here / "folder", "/copy")
    assert _tree(there / "copy") == TREE
    assert (there / "copy" / "sub" / "empty").is_dir()
    assert _mode(there / "copy" / "sub") == 0o750
    put(connection, here / "folder", "/copy")  # It exists now, so the copy goes into it.
    assert _tree(there / "copy" / "folder") == TREE


def test_put_the_current_folder(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(here / "folder")
    monkeypatch.chdir(here / "folder")
    (there / "d").mkdir()
    put(connection, ".", "/d")
    assert _tree(there / "d" / "folder") == TREE


def test_put_a_read_only_folder(connection: Connection, here: Path, there: Path) -> None:
    _fill(here / "folder")
    (here / "folder" / "sub").chmod(0o555)
    put(connection, here / "folder", "/copy")
    assert _mode(there / "copy" / "sub") == 0o555
    (here / "folder" / "sub").chmod(0o755)
    (there / "copy" / "sub").chmod(0o755)


def test_put_follows_links(connection: Connection, here: Path, there: Path) -> None:
    _fill(here / "real")
    (here / "folder").mkdir()
    (here / "folder" / "link").symlink_to(here / "real")
    (here / "folder" / "file").symlink_to(here / "real" / "top")
    put(connection, here / "folder", "/copy")
    assert _tree(there / "copy") == {"file": "top"} | {f"link/{name}": text for name, text in TREE.items()}
    assert not (there / "copy" / "link").is_symlink()


def test_put_refuses_before_any_contact(connection: Connection, server: GuestServer, here: Path) -> None:
    loop = here / "loop"
    loop.mkdir()
    (loop / "again").symlink_to(loop)
    with pytest.raises(CopyFailed, match="a folder that it is in"):
        put(connection, loop, "/x")
    os.mkfifo(here / "pipe")
    with pytest.raises(CopyFailed, match="neither a file nor a folder"):
        put(connection, here / "pipe", "/x")
    with pytest.raises(FileNotFoundError, match="missing"):
        put(connection, here / "missing", "/x")
    (here / "f").touch()
    with pytest.raises(ValueError, match="empty"):
        put(connection, here / "f", "")
    server.hang_up()
    with pytest.raises(FileNotFoundError, match="missing"):
        put(connection, here / "missing", "/x")


def test_put_where_it_may_not(connection: Connection, here: Path) -> None:
    (here / "f").touch()
    with pytest.raises(PermissionError, match=r"denied in the guest.*sudo=True.*'/forbidden'"):
        put(connection, here / "f", "/forbidden")


def test_put_below_a_file(connection: Connection, here: Path, there: Path) -> None:
    _fill(here / "folder")
    (there / "f").touch()
    with pytest.raises(CopyFailed, match="/f"):
        put(connection, here / "folder", "/f")


def test_put_on_a_full_disk(connection: Connection, here: Path) -> None:
    (here / "f").write_bytes(b"x" * 100_000)
    with pytest.raises(CopyFailed, match="only 0 of 100000 bytes of /full arrived: is the guest's disk full"):
        put(connection, here / "f", "/full")


def test_get_into_a_folder(connection: Connection, here: Path, there: Path) -> None:
    (there / "f").write_text("x")
    get(connection, "/f", here)
    get(connection, "/f", here / "new" / "name")
    assert _tree(here) == {"f": "x", "new/name": "x"}


def test_get_a_folder(connection: Connection, here: Path, there: Path) -> None:
    _fill(there / "folder")
    get(connection, "/folder", here / "copy")
    assert _tree(here / "copy") == TREE
    assert (here / "copy" / "sub" / "empty").is_dir()
    get(connection, "/folder/", here)
    assert _tree(here / "folder") == TREE


def test_get_replaces_a_file_only_when_complete(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there / "f").write_bytes(b"new" * 100_000)
    (here / "f").write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fdopen", fail)
        with pytest.raises(OSError, match="No space left"):
            get(connection, "/f", here / "f")
    assert _tree(here) == {"f": "old"}
    get(connection, "/f", here / "f")
    assert (here / "f").read_bytes() == b"new" * 100_000


def test_get_drops_special_bits(connection: Connection, here: Path, there: Path) -> None:
    (there / "f").touch()
    (there / "f").chmod(0o4755)
    get(connection, "/f", here)
    assert _mode(here / "f") == 0o755


def test_get_what_is_not_there(connection: Connection, here: Path) -> None:
    with pytest.raises(FileNotFoundError, match="in the guest: '/no/such'") as caught:
        get(connection, "/no/such", here)
    assert caught.value.filename == "/no/such"
    assert list(here.iterdir()) == []


def test_get_what_it_may_not(connection: Connection, here: Path, there: Path) -> None:
    (there / "forbidden").touch()
    with pytest.raises(PermissionError, match="denied in the guest"):
        get(connection, "/forbidden", here)
    assert list(here.iterdir()) == []


def test_get_a_device(connection: Connection, here: Path, there: Path) -> None:
    os.mkfifo(there / "pipe")
    with pytest.raises(CopyFailed, match="neither a file nor a folder"):
        get(connection, "/pipe", here)


def test_get_follows_links_to_files_alone(
    connection: Connection, here: Path, there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fill(there / "folder")
    (there / "folder" / "file").symlink_to("top")
    (there / "folder" / "outside").symlink_to(there)
    (there / "folder" / "dead").symlink_to("nothing")
    os.mkfifo(there / "folder" / "pipe")
    get(connection, "/folder", here)
    assert _tree(here / "folder") == TREE | {"file": "top"}
    assert not (here / "folder" / "file").is_symlink()
    left_out = [record.getMessage() for record in caplog.records if record.name.endswith("guest.copy")]
    assert {name for name in ("outside", "dead", "pipe") if any(name in text for text in left_out)} == {
        "outside", "dead", "pipe",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["", "../evil", "/etc/evil", "sub/evil"])
def test_hostile_names_are_refused(connection: Connection, here: Path, there: Path, name: str) -> None:
    (there / "hostile").mkdir()
    (there / "hostile" / "names").write_text(name)
    inside = here / "inside"
    inside.mkdir()
    with pytest.raises(CopyFailed, match="can't be used here"):
        get(connection, "/hostile", inside)
    assert [path.name for path in here.iterdir()] == ["inside"]


@pytest.mark.parametrize("name", ["..", "."])
def test_names_of_folders_themselves_are_passed_over(
    connection: Connection, here: Path, there: Path, name: str
) -> None:
    (there / "hostile").mkdir()
    (there / "hostile" / "names").write_text(name)
    get(connection, "/hostile", here)
    assert [path.name for path in here.rglob("*")] == ["hostile"]


def test_a_guest_without_sftp(connection: Connection, behaviour: Behaviour, here: Path) -> None:
    behaviour.sftp = False
    (here / "f").touch()
    with pytest.raises(CopyFailed, match=r"has no SFTP.*openssh-sftp-server"):
        put(connection, here / "f", "/f")
    assert connection.alive


@pytest.mark.parametrize("opened", [True, False])
def test_a_guest_that_is_gone(
    connection: Connection, server: GuestServer, here: Path, there: Path, opened: bool
) -> None:
    (there / "f").touch()
    if opened:
        get(connection, "/f", here)
    server.hang_up()
    with pytest.raises(ConnectionLost):
        get(connection, "/f", here)


def test_a_guest_that_falls_silent(
    connection: Connection, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from .sftp_server import FolderServer

    (there / "f").touch()
    get(connection, "/f", here)
    connection.sftp.get_channel().settimeout(0.1)  # type: ignore[union-attr]
    go_on = threading.Event()
    real: Callable[..., object] = FolderServer.stat
    monkeypatch.setattr(FolderServer, "stat", lambda self, path: go_on.wait() and real(self, path))
    with pytest.raises(ConnectionLost, match="fell silent during the copy of /f"):
        get(connection, "/f", here)
    go_on.set()
    get(connection, "/f", here)  # By a new session.


def test_one_sftp_session_serves_all(connection: Connection) -> None:
    assert connection.sftp is connection.sftp
    connection.sftp.close()
    assert connection.sftp.listdir("/") == []
