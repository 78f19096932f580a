"""Unpacking archives from elsewhere: plain files only, nothing outside of the target, within bounds."""

from __future__ import annotations

import errno
import lzma
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

from pytest_vbox.images.compression import MAX_BYTES
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.report import Report
from pytest_vbox.printable import harmless

#: No box or appliance has more files.
MAX_FILES: Final = 1000
_CHUNK: Final = 1024**2
_LONGEST: Final = 200
_DEEPEST: Final = 32
#: Bytes of all headers of one member, with the map of its holes.
_LONGEST_HEADER: Final = 256 * 1024
#: A long name, a long target of a link, attributes of its own and for all that follow: few have more than two.
_MOST_HEADERS: Final = 16
_HEADERS: Final = frozenset(
    {
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    }
)
_ROOM: Final = 64 * 1024**2
#: What tarfile, and what it uncompresses with, raise where an archive is broken.
BROKEN: Final = (
    tarfile.TarError,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    TypeError,
    RecursionError,
    zlib.error,
    lzma.LZMAError,
)


class Member(tarfile.TarInfo):
    """A member whose headers are bounded: tarfile reads each by recursion, and whole into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # tarfile's hook for subclasses
        if self.type in _HEADERS and not 0 <= self.size <= _LONGEST_HEADER:
            raise ImageError(f"an archive with a header of {self.size} bytes; refused")
        if isinstance(archive, Archive):
            archive.count_header()
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found


class Archive(tarfile.TarFile):
    """An archive of which every member takes only so much to describe: in headers, and in bytes of them.

    Where a field makes no sense, any of `BROKEN` is raised.
    """

    tarinfo = Member

    def __init__(self, name: str, mode: str, fileobj: IO[bytes], **keywords: Any) -> None:
        self._headers = 0
        self._source = _Measured(fileobj)
        super().__init__(name, mode, self._source, **keywords)  # type: ignore[arg-type]

    def next(self) -> tarfile.TarInfo | None:
        """The next member."""
        self._headers, self._source.left = 0, _LONGEST_HEADER
        try:
            return super().next()
        finally:
            self._source.left = None

    def count_header(self) -> None:
        """One more header of the same member."""
        self._headers += 1
        if self._headers > _MOST_HEADERS:
            raise ImageError(f"an archive with more than {_MOST_HEADERS} headers for one member; refused")


class _Measured:
    """What an archive is read from, with a bound while a header is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.left: int | None = None

    def read(self, size: int) -> bytes:
        if self.left is not None:
            self.left -= size
            if self.left < 0:
                raise ImageError(f"an archive with a header of more than {_LONGEST_HEADER} bytes; refused")
        return self._source.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def unpack(source: Path, folder: Path, report: Report, limit: int = MAX_BYTES) -> list[Path]:
    """Unpack a tar archive, compressed by gzip or not.

    Args:
        source: The archive.
        folder: Where to; it is there, and empty.
        report: Is told of progress.
        limit: How large all files together may become, in bytes.

    Returns:
        The files, in the order of the archive.

    Raises:
        ImageError: It is broken, or holds what it should not: links, devices, names that lead elsewhere, too much.
    """
    limit = min(limit, shutil.disk_usage(folder).free - _ROOM)
    try:
        with Archive.open(source, "r|*") as archive:
            return _unpack_all(source, archive, folder, report, limit)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ImageError(f"no space left in {folder} to unpack {source.name}") from error
        raise ImageError(f"{source.name} cannot be unpacked: {error}") from harmless(error)
    except BROKEN as error:
        raise ImageError(f"{source.name} is broken, or was cut off: {error}") from harmless(error)


def _unpack_all(source: Path, archive: tarfile.TarFile, folder: Path, report: Report, limit: int) -> list[Path]:
    done, unpacked = 0, []
    for count, member in enumerate(archive):
        if count >= MAX_FILES:
            raise ImageError(f"{source.name} holds more than {MAX_FILES} files")
        if member.isdir() and not _parts(member.name):
            continue
        path = _place(source, folder, member)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        if member.size < 0:
            raise ImageError(f"{source.name} is broken: {member.name[:_LONGEST]!r} has {member.size} bytes")
        done += member.size
        # What is left out of a file with holes is read all the same.
        if max(done, archive.offset - _ROOM) > limit:
            raise ImageError(f"{source.name} holds more than {limit} bytes, the most that there is room for")
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(archive, member, path)
        unpacked.append(path)
        report(f"unpack {source.name}", done, None)
    return unpacked


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    if content is None:
        raise ImageError(f"{member.name!r} cannot be read")
    # Never over something: the second of two members with one name would replace the first after it was looked at.
    with content, path.open("xb") as file:
        path.chmod(0o600)
        shutil.copyfileobj(content, file, _CHUNK)


def _place(source: Path, folder: Path, member: tarfile.TarInfo) -> Path:
    shown = repr(member.name[:_LONGEST])
    if not (member.isreg() or member.isdir()):
        raise ImageError(f"{source.name} holds {shown}, which is a link or a device; refused")
    parts = _parts(member.name)
    if not parts or member.name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in member.name:
        raise ImageError(f"{source.name} holds {shown}, which leads out of the archive; refused")
    if len(parts) > _DEEPEST:  # each costs a folder, and taking them away a level of recursion
        raise ImageError(f"{source.name} holds {shown}, in more than {_DEEPEST} folders; refused")
    path = folder.joinpath(*parts)
    if member.isreg() and path.exists():
        raise ImageError(f"{source.name} holds {shown} twice; refused")
    return path


def _parts(name: str) -> list[str]:
    return [part for part in name.replace("\\", "/").split("/") if part not in {"", "."}]
