"""Files and folders to and from a guest, over SFTP."""

from __future__ import annotations

import errno
import logging
import os
import posixpath
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from pytest_vbox.guest.connection import Connection
from pytest_vbox.guest.errors import ConnectionLost, CopyFailed
from pytest_vbox.printable import harmless

_log = logging.getLogger(__name__)

_CHUNK = 32 * 1024
# Bytes that may be under way at once. The size is the guest's word, and requests are made for all of it.
_MOST_AHEAD = 64 * 1024 * 1024
# Folders in folders, and things to get at once; a guest could name ever deeper ones, and ever more of them.
_DEEPEST, _MOST_ENTRIES = 64, 1_000_000
# Bytes that a file may be longer than it was said to be: a log grows, and files in /proc are said to be empty.
_MOST_GROWTH = 1024 * 1024 * 1024
_SUDO_HINT = "the login may not do that: copy by way of /tmp, and move it with run(..., sudo=True)"


@dataclass(frozen=True)
class _Source:
    """One thing to put: a folder, or a file with its permission bits (``None`` keeps the guest's default)."""

    path: Path
    relative: tuple[str, ...]
    folder: bool
    mode: int | None


def put(connection: Connection, local: str | os.PathLike[str], remote: str) -> None:
    """Copy a file or a folder into the guest.

    As with ``cp -r``: if ``remote`` is an existing folder, or ends with a slash, the copy goes into it under
    its own name. Missing parent folders are made. Permission bits are kept (not from Windows hosts, which
    have none); owner and times are not. A symbolic link is copied as what it points to. Files are
    overwritten, and folders merged.

    Args:
        connection: Where to.
        local: A path on the host.
        remote: A path in the guest, absolute or from the user's home folder.

    Raises:
        FileNotFoundError: There is no ``local``; the guest has not been asked anything yet.
        PermissionError: Something is not readable here, or not writable there.
        CopyFailed: Something else; a full disk, a loop of links, a socket in the folder, no SFTP server.
        ConnectionLost: The guest went away.
    """
    sources = list(_walk(Path(local), (), ()))
    if not remote:
        raise ValueError("the path in the guest is empty")
    with connection.sftp_lock, _translated(connection, remote):
        sftp = connection.sftp
        target = _target_of_put(sftp, sources[0], remote)
        for source in sources:
            path = posixpath.join(target, *source.relative)
            with _translated(connection, path):
                if source.folder:
                    _make_folder(sftp, path)
                else:
                    _put_file(sftp, source, path)
        for source in reversed(sources):
            # Only now, from the inside out: a folder without write permission could not have been filled.
            if source.folder and source.mode is not None:
                sftp.chmod(posixpath.join(target, *source.relative), source.mode)


def _walk(path: Path, relative: tuple[str, ...], above: tuple[tuple[int, int], ...]) -> Iterator[_Source]:
    """Everything to put, folders before their content; raises before the guest is contacted."""
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode) if os.name != "nt" else None
    if stat.S_ISREG(status.st_mode):
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        yield _Source(path, relative, folder=False, mode=mode)
        return
    if not stat.S_ISDIR(status.st_mode):
        raise CopyFailed(f"{path} is neither a file nor a folder")
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        raise CopyFailed(f"{path} is a link to a folder that it is in")
    yield _Source(path, relative, folder=True, mode=mode)
    for entry in sorted(path.iterdir()):
        yield from _walk(entry, (*relative, entry.name), (*above, identity))


def _target_of_put(sftp: paramiko.SFTPClient, source: _Source, remote: str) -> str:
    if remote.endswith("/"):
        _make_folders(sftp, remote.rstrip("/") or "/")
        inside = True
    else:
        inside = _is_folder(sftp, remote)
    return posixpath.join(remote, _own_name(source.path)) if inside else remote


def _own_name(path: Path) -> str:
    # "." and ".." have no name of their own.
    return path.name if path.name not in ("", "..") else path.resolve().name


def _is_folder(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        return stat.S_ISDIR(sftp.stat(path).st_mode or 0)
    except FileNotFoundError:
        return False


def _make_folder(sftp: paramiko.SFTPClient, path: str) -> None:
    try:
        sftp.mkdir(path)
    except FileNotFoundError:
        _make_folders(sftp, posixpath.dirname(path))
        sftp.mkdir(path)
    except OSError:
        # Servers answer "failure" to a name that is taken.
        if not _is_folder(sftp, path):
            raise


def _make_folders(sftp: paramiko.SFTPClient, path: str) -> None:
    if path and path != "/" and not _is_folder(sftp, path):
        _make_folder(sftp, path)


def _put_file(sftp: paramiko.SFTPClient, source: _Source, path: str) -> None:
    with source.path.open("rb") as reader:
        try:
            writer = sftp.open(path, "wb")
        except FileNotFoundError:
            _make_folders(sftp, posixpath.dirname(path))
            writer = sftp.open(path, "wb")
        with writer:
            writer.set_pipelined(True)
            size = 0
            while data := reader.read(_CHUNK):
                writer.write(data)
                size += len(data)
            status = writer.stat()
            # In a pipeline the answers to single writes are not looked at; the size tells.
            if status.st_size != size:
                raise CopyFailed(
                    f"only {status.st_size} of {size} bytes of {path} arrived: is the guest's disk full?"
                )
            if source.mode is not None and stat.S_IMODE(status.st_mode or 0) != source.mode:
                writer.chmod(source.mode)


def get(connection: Connection, remote: str, local: str | os.PathLike[str]) -> None:
    """Copy a file or a folder out of the guest.

    As with ``cp -r``: if ``local`` is an existing folder, the copy goes into it under its own name. Missing
    parent folders are made. Each file appears under its name only when it is complete. Permission bits are
    kept, without set-user-id and the like. Inside a folder, a link to a file is copied as that file; links to
    folders, dead links and devices are left out, with a warning in the log. Whatever a guest names its files,
    nothing is written outside of ``local``.

    Args:
        connection: Where from.
        remote: A path in the guest, absolute or from the user's home folder.
        local: A path on the host.

    Raises:
        FileNotFoundError: There is no ``remote`` in the guest.
        PermissionError: Something is not readable there, or not writable here.
        CopyFailed: Something else; a name that can't be used here, no SFTP server.
        ConnectionLost: The guest went away.
    """
    with connection.sftp_lock, _translated(connection, remote):
        sftp = connection.sftp
        status = sftp.stat(remote)
        target = Path(local)
        if target.is_dir():
            name = posixpath.basename(posixpath.normpath(remote))
            if name in ("", ".", ".."):
                name = posixpath.basename(sftp.normalize(remote))
            target /= _checked_name(name, remote)
        target.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(status.st_mode or 0):
            _get_folder(_Getting(connection, sftp), remote, target, 0)
        elif stat.S_ISREG(status.st_mode or 0):
            _get_file(sftp, remote, target, status)
        else:
            raise CopyFailed(f"{remote} in the guest is neither a file nor a folder")


@dataclass
class _Getting:
    """One copy of a folder, and how much was found in it so far."""

    connection: Connection
    sftp: paramiko.SFTPClient
    entries: int = 0


def _get_folder(getting: _Getting, remote: str, target: Path, depth: int) -> None:
    sftp = getting.sftp
    if depth > _DEEPEST:
        raise CopyFailed(f"{remote} in the guest is more than {_DEEPEST} folders deep")
    if depth and target.is_symlink():
        raise CopyFailed(f"{remote} in the guest is a folder, but {target} is a link to somewhere else")
    target.mkdir(exist_ok=True)
    entries = sftp.listdir_attr(remote)
    getting.entries += len(entries)
    if getting.entries > _MOST_ENTRIES:
        raise CopyFailed(f"there are more than {_MOST_ENTRIES} files and folders; {remote} is among them")
    for entry in entries:
        path, place = posixpath.join(remote, entry.filename), target / _checked_name(entry.filename, remote)
        with _translated(getting.connection, path):
            status = _followed(sftp, path, entry)
            kind = stat.S_IFMT(status.st_mode or 0) if status is not None else None
            if kind == stat.S_IFDIR and status is entry:
                _get_folder(getting, path, place, depth + 1)
            elif kind == stat.S_IFREG and status is not None:
                _get_file(sftp, path, place, status)
            else:
                _log.warning("left out %r of the guest: a link to a folder, a dead link or a device", path)


def _followed(
    sftp: paramiko.SFTPClient, path: str, entry: paramiko.SFTPAttributes
) -> paramiko.SFTPAttributes | None:
    """What is at the end of a link; the entry itself if it is none, ``None`` if there is nothing."""
    if not stat.S_ISLNK(entry.st_mode or 0):
        return entry
    try:
        return sftp.stat(path)
    except OSError:
        return None


def _checked_name(name: str, folder: str) -> str:
    """A name that stays in its folder; a hostile guest may send any."""
    separators = {"/", "\0", os.sep, os.altsep or os.sep} | ({":"} if os.name == "nt" else set())
    if name in ("", ".", "..") or any(separator in name for separator in separators):
        raise CopyFailed(f"the guest names a file {name!r} in {folder}, which can't be used here")
    return name


def _get_file(sftp: paramiko.SFTPClient, remote: str, target: Path, status: paramiko.SFTPAttributes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".pytest-vbox-", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as writer, sftp.open(remote, "rb") as reader:
            size = status.st_size or 0
            if size > _CHUNK:
                reader.prefetch(min(size, _MOST_AHEAD), 64)
            # Until the end, whatever the size was said to be.
            while data := reader.read(_CHUNK):
                writer.write(data)
                if writer.tell() > size + _MOST_GROWTH:
                    raise CopyFailed(f"{remote} in the guest has no end: it was said to have {size} bytes")
        if os.name != "nt":
            Path(name).chmod(stat.S_IMODE(status.st_mode or 0o600) & 0o777)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _translated(connection: Connection, remote: str) -> Iterator[None]:
    """Errors of SFTP with the path they are about, which they leave out."""
    try:
        yield
    except TimeoutError as error:
        connection.drop_sftp()
        raise ConnectionLost(f"the guest fell silent during the copy of {remote}") from harmless(error)
    except OSError as error:
        if error.filename is not None or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # It is one of the host's, or has been through here.
        if error.errno == errno.ENOENT:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder in the guest", remote) from harmless(
                error
            )
        if error.errno == errno.EACCES:
            raise PermissionError(
                errno.EACCES, f"permission denied in the guest; {_SUDO_HINT}", remote
            ) from harmless(error)
        if not connection.alive:
            raise ConnectionLost(f"it went during the copy of {remote}") from harmless(error)
        raise CopyFailed(f"{remote} in the guest: {error}") from harmless(error)
    except UnicodeDecodeError as error:
        connection.drop_sftp()
        name = error.object[:200].decode("utf-8", "backslashreplace")
        raise CopyFailed(f"a name in {remote} in the guest is no UTF-8: {name}") from harmless(error)
    except (paramiko.SSHException, paramiko.SFTPError, EOFError) as error:
        # Its next answer may be to this question.
        connection.drop_sftp()
        if not connection.alive:
            raise ConnectionLost(f"it went during the copy of {remote}") from harmless(error)
        raise CopyFailed(f"{remote} in the guest: {error}") from harmless(error)
