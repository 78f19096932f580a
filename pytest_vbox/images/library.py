"""The library: from where an image is to a disk that machines can share.

A disk on this computer that VirtualBox can share as it is, is used where it is. Everything else is brought into
the cache folder once, in a folder of its own: ``images/KEY/disk.vdi`` and ``meta.json``, which says what it was
made of. The key is a digest of that, so something that changed is another entry, and no disk is ever replaced
under a VirtualBox that has it open.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import download
from pytest_vbox.images.checksums import sha256_of
from pytest_vbox.images.convert import Converter
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.imports import import_disk, usable_in_place, vagrant_box
from pytest_vbox.images.report import Report, silent
from pytest_vbox.models import Image
from pytest_vbox.ownership import held

_FORMAT: Final = 1  # of what is stored; a higher one makes everything anew
_META: Final = "meta.json"
# How long to wait while another process fetches the same: a large download over a slow line.
_PATIENCE: Final = 6 * 3600.0


@dataclass(frozen=True)
class Stored:
    """One entry of the cache.

    Attributes:
        key: Its name there.
        folder: Its folder.
        disk: The disk in it.
        source: Where it came from.
        sha256: The sum of the file that it was made of.
        size: Bytes that it takes.
        made: When it was made.
        user: Who logs in, if a box said so.
        private_key: That user's key, if a box came with one.
        suggested: What a box or an appliance says of its machine.
        disk_sha256: The sum of the disk.
    """

    key: str
    folder: Path
    disk: Path
    source: str
    sha256: str
    size: int
    made: datetime
    user: str | None = None
    private_key: Path | None = None
    suggested: Mapping[str, object] = field(default_factory=dict)
    disk_sha256: str = ""


@dataclass(frozen=True)
class Usable:
    """What a machine can be made of: a disk, and the login that came with it, if any."""

    disk: Path
    private_key: Path | None = None
    user: str | None = None


class Library:
    """The images of one user on this computer.

    Args:
        cache: The cache folder.
        state: The state folder, for the locks that all workers and runs share.
        converter: Turns other formats into VDI; without one, only what needs no conversion is possible.
    """

    def __init__(self, cache: Path, state: Path, converter: Converter | None = None) -> None:
        self._folder = cache / "images"
        self._state = state
        self._converter = converter

    def usable(self, image: Image, *, report: Report = silent) -> Usable:
        """A disk for machines; fetched and imported now if it was not yet.

        Raises:
            ImageError: It cannot be had.
        """
        if image.disk is not None and image.disk.is_dir():
            raise ImageError(f"image {image.disk} is not a file")
        if image.disk is not None and image.disk.exists() and usable_in_place(image.disk, image):
            if isinstance(image.sha256, str) and not _is_url(image.sha256):
                self._verify_in_place(image.disk, image.sha256, report)
            return Usable(image.disk)
        stored = self.find(image) or self._bring(image, report)
        return Usable(stored.disk, stored.private_key, stored.user)

    def find(self, image: Image) -> Stored | None:
        """The entry of an image that was fetched or imported before, without network and without importing."""
        try:
            identity = self._identity(image)
        except ImageError:
            return None
        return self._read(self._folder / identity) if identity is not None else None

    def stored(self) -> list[Stored]:
        """All entries, the oldest first."""
        entries = (self._read(meta.parent) for meta in self._folder.glob(f"*/{_META}"))
        return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.made)

    def verify(self, stored: Stored) -> None:
        """See that a disk is still what was stored.

        Raises:
            ImageError: It has changed.
        """
        try:
            found = sha256_of(stored.disk)
        except OSError as error:
            raise ImageError(f"{stored.disk} cannot be read: {error.strerror}") from error
        if found != stored.disk_sha256:
            raise ImageError(
                f"{stored.disk} has changed since it was stored: its SHA-256 is {found}, and was "
                f"{stored.disk_sha256}. Remove it (pytest-vbox images remove), and it is made again from "
                f"{stored.source}"
            )

    def remove(self, stored: Stored) -> int:
        """Delete an entry. Returns the bytes that it took.

        Raises:
            ImageError: VirtualBox has its disk open, since machines were made of it.
        """
        if self._converter is not None:
            self._converter.forget(stored.disk)
        with held(self._state, f"image {stored.key}", Deadline(_PATIENCE)):
            # What is half gone has no meta.json, and so is no entry.
            (stored.folder / _META).unlink(missing_ok=True)
            shutil.rmtree(stored.folder, ignore_errors=True)
        return stored.size

    # Making one

    def _identity(self, image: Image) -> str | None:
        """The key of an image's entry; None while that is not known, for a download that was never made."""
        form = str(image.format or "")
        if image.url is not None:
            known = image.sha256 if isinstance(image.sha256, str) and not _is_url(image.sha256) else None
            sum_ = known or self._known_sum(image)
            return _digest("sha256", sum_, form) if sum_ else None
        if image.vagrant is not None:
            _, version = vagrant_box(image)
            return _digest("vagrant", version, form)
        if image.disk is None or not image.disk.exists():
            raise ImageError(f"image {image.disk}: there is no such file. Correct `disk:`, or fetch the image")
        status = image.disk.stat()
        return _digest("file", f"{image.disk.resolve()} {status.st_size} {status.st_mtime_ns}", form)

    def _bring(self, image: Image, report: Report) -> Stored:
        with self._lock(image):
            if image.url is not None:
                return self._download(image, report)
            identity = self._identity(image)
            assert identity is not None  # noqa: S101 - only a download has none
            known = self._read(self._folder / identity)
            if known is not None:
                return known
            file = vagrant_box(image)[0] if image.vagrant is not None else image.disk
            assert file is not None  # noqa: S101 - _identity has looked
            if isinstance(image.sha256, str) and file.is_file() and not _is_url(image.sha256):
                self._verify_in_place(file, image.sha256, report)
            return self._import(image, file, identity, "", report)

    @contextmanager
    def _lock(self, image: Image) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with held(self._state, f"image {image.source}", Deadline(_PATIENCE)):
            yield

    def _download(self, image: Image, report: Report) -> Stored:
        assert image.url is not None  # noqa: S101
        source = download.Source(image.url, image.insecure)
        wanted = image.sha256 if isinstance(image.sha256, str) and not _is_url(image.sha256) else None
        if wanted is None and image.sha256 is not None:
            wanted = download.fetch_sum(source, image.sha256)
        if wanted is not None:
            known = self._read(self._folder / _digest("sha256", wanted, str(image.format or "")))
            if known is not None:
                self._note_sum(image, wanted)
                return known
        folder = self._folder / "downloads"
        folder.mkdir(exist_ok=True, mode=0o700)
        # The name's ending stays, since a raw disk is known by it.
        target = folder / f"{_digest('url', image.url, '')[:16]}-{source.name[-80:]}"
        found = download.fetch(source, target, wanted, report)
        try:
            stored = self._import(image, target, _digest("sha256", found, str(image.format or "")), found, report)
        finally:
            target.unlink(missing_ok=True)
        self._note_sum(image, found)
        return stored

    def _import(self, image: Image, file: Path, key: str, sha256: str, report: Report) -> Stored:
        place = self._folder / key
        known = self._read(place)
        if known is not None:
            return known
        half = self._folder / f"{key}.half"
        for rest in (half, place):  # of a process that died
            shutil.rmtree(rest, ignore_errors=True)
        half.mkdir(mode=0o700)
        try:
            imported = import_disk(file, image, half, self._converter, report)
            disk = imported.disk
            meta = {
                "format": _FORMAT,
                "disk": disk.name,
                "source": image.source,
                "sha256": sha256,
                "disk_sha256": sha256_of(disk),
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "user": imported.user,
                "private_key": imported.private_key.name if imported.private_key else None,
                "suggested": dict(imported.suggested),
            }
            _write_synced(half / _META, json.dumps(meta, indent=1))
            half.rename(place)
        except OSError as error:
            raise ImageError(f"image {image.source}: cannot be stored in {half}: {error.strerror}") from error
        finally:
            shutil.rmtree(half, ignore_errors=True)
        stored = self._read(place)
        if stored is None:
            raise ImageError(f"image {image.source}: {place} vanished while it was being made")
        return stored

    def _read(self, folder: Path) -> Stored | None:
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            if meta["format"] != _FORMAT:
                return None
            disk, key = folder / meta["disk"], meta["private_key"]
            return Stored(
                key=folder.name,
                folder=folder,
                disk=disk,
                source=meta["source"],
                sha256=meta["sha256"],
                size=disk.stat().st_size,
                made=datetime.fromisoformat(meta["made"]),
                user=meta["user"],
                private_key=folder / key if key else None,
                suggested=meta["suggested"],
                disk_sha256=meta["disk_sha256"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, half gone, or made by another version

    def _verify_in_place(self, disk: Path, sha256: str, report: Report) -> None:
        """Hold a local file against its sum, once for each state of the file."""
        status = disk.stat()
        mark = (
            self._folder
            / "verified"
            / _digest(str(disk.resolve()), f"{status.st_size} {status.st_mtime_ns}", sha256)
        )
        if mark.exists():
            return
        report(f"verify {disk.name}", 0, status.st_size)
        found = sha256_of(disk)
        if found != sha256:
            raise ImageError(f"image {disk}: its SHA-256 is {found}, and should be {sha256}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()

    # The sum that a download without a fixed one had, so that it is found again without network.

    def _sum_note(self, image: Image) -> Path:
        return self._folder / "sums" / _digest("url", str(image.url), str(image.sha256 or ""))

    def _note_sum(self, image: Image, sha256: str) -> None:
        note = self._sum_note(image)
        note.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(note, sha256)

    def _known_sum(self, image: Image) -> str | None:
        with suppress(OSError):
            return self._sum_note(image).read_text(encoding="utf-8").strip() or None
        return None


def _is_url(text: str) -> bool:
    return bool(urlsplit(text).scheme)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join((str(_FORMAT), *parts)).encode()).hexdigest()[:32]


def _write_synced(path: Path, text: str) -> None:
    half = path.with_name(path.name + ".half")
    with half.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
