"""The library: from where an image is to a disk that machines can share.

A disk on this computer that VirtualBox can share as it is, is used where it is. Everything else is brought into
the cache folder once, in a folder of its own: ``images/KEY/disk.vdi`` and ``meta.json``, which says what it was
made of. The key is a digest of that, so something that changed is another entry, and no disk is ever replaced
under a VirtualBox that has it open.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import download
from pytest_vbox.images.checksums import sha256_of
from pytest_vbox.images.convert import Converter
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.identity import FORMAT, digest, download_key, existing, fixed_sum, local_key, state_of
from pytest_vbox.images.imports import DISK, Imported, import_disk, usable_in_place, vagrant_box
from pytest_vbox.images.report import Report, silent
from pytest_vbox.models import ACCOUNT_NAMES, Image, is_account
from pytest_vbox.ownership import held
from pytest_vbox.printable import short

_META: Final = "meta.json"
# How long to wait while another process fetches the same: a large download over a slow line.
_PATIENCE: Final = 6 * 3600.0
# Characters shown of a name that is none.
_SHOWN: Final = 60


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
        password: The user's password, if a box said so.
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
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Usable:
    """What a machine can be made of: a disk, and the login that came with it, if any."""

    disk: Path
    private_key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def applied_to(self, image: Image) -> Image:
        """The image with this disk; and with this login, where the YAML says nothing and cloud-init makes none.

        Raises:
            ImageError: What the box says of its user is no name of an account.
        """
        update: dict[str, object] = {"disk": self.disk}
        given = image.model_fields_set
        if image.cloud_init is None:
            if self.user is not None and "user" not in given:
                # A box is its author's, and the name goes to commands that people copy.
                if not is_account(self.user):
                    raise ImageError(
                        f"image {image.source}: its Vagrantfile has config.ssh.username = "
                        f"'{short(self.user, _SHOWN)}', which is no name of an account: {ACCOUNT_NAMES}. Say who "
                        "logs in with user: in the YAML"
                    )
                update["user"] = self.user
            if not given & {"private_key", "password"}:
                update["private_key"] = self.private_key
                if self.password is not None:
                    update["password"] = SecretStr(self.password)
                    update["sudo_password"] = image.sudo_password or SecretStr(self.password)
        return image.model_copy(update=update)


class Library:
    """The images of one user on this computer.

    Args:
        cache: The cache folder.
        state: The state folder, for the locks that all workers and runs share.
        converter: Turns other formats into VDI; without one, only what needs no conversion is possible.
        noted: Has the folder of an image written down while it is being made, for whoever cleans up.
    """

    def __init__(
        self,
        cache: Path,
        state: Path,
        converter: Converter | None = None,
        noted: Callable[[Path], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        self._folder = cache / "images"
        self._state = state
        self._converter = converter
        self._noted = noted

    def usable(self, image: Image, *, report: Report = silent) -> Usable:
        """A disk for machines; fetched and imported now if it was not yet.

        Raises:
            ImageError: It cannot be had.
        """
        if image.disk is not None and usable_in_place(existing(image), image):
            self._verify_local(image, image.disk, report)
            return Usable(image.disk)
        stored = self.find(image) or self._bring(image, report)
        return Usable(stored.disk, stored.private_key, stored.user, stored.password)

    def find(self, image: Image) -> Stored | None:
        """The entry of an image that was fetched or imported before, without network and without importing."""
        try:
            key = self._key(image)
        except (ImageError, OSError):
            return None
        return self._read(self._folder / key) if key is not None else None

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
        with self._alone(stored.key):
            if self._converter is not None:
                self._converter.forget(stored.disk)
            # What is half gone has no meta.json, and so is no entry.
            (stored.folder / _META).unlink(missing_ok=True)
            shutil.rmtree(stored.folder, ignore_errors=True)
        return stored.size

    # Making one

    def _key(self, image: Image) -> str | None:
        """The key of an image's entry; None while that is not known, for a download that was never made."""
        if image.url is None:
            return local_key(image)
        known = fixed_sum(image) or self._known_sum(image)
        return download_key(image, known) if known else None

    def _bring(self, image: Image, report: Report) -> Stored:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # One at a time of one source; the others find it made.
        with held(self._state, f"image {image.source}", Deadline(_PATIENCE), _waiting(image, report)):
            if image.url is not None:
                return self._download(image, report)
            if image.vagrant is not None:
                return self._import(image, vagrant_box(image)[0], local_key(image), "", report)
            file = existing(image)
            key = local_key(image)
            self._verify_local(image, file, report)
            return self._import(image, file, key, "", report)

    def _download(self, image: Image, report: Report) -> Stored:
        assert image.url is not None  # noqa: S101
        source = download.Source(image.url, image.insecure)
        wanted = fixed_sum(image)
        if wanted is None and image.sha256 is not None:
            wanted = download.fetch_sum(source.name, image.sha256, insecure=image.insecure)
        known = self._read(self._folder / download_key(image, wanted)) if wanted is not None else None
        if known is not None:
            self._note_sum(image, known.sha256)
            return known
        folder = self._folder / "downloads"
        folder.mkdir(exist_ok=True, mode=0o700)
        # The name's ending stays, since a raw disk is known by it.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", source.name)[-80:]
        target = folder / f"{digest('url', image.url)[:16]}-{name}"
        found = download.fetch(source, target, wanted, report)
        try:
            stored = self._import(image, target, download_key(image, found), found, report)
        finally:
            target.unlink(missing_ok=True)
        self._note_sum(image, found)
        return stored

    @contextmanager
    def _alone(self, key: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Nobody else makes or removes the entry, or makes its disk a base, meanwhile."""
        base = (self._folder / key / DISK).resolve()
        with (
            held(self._state, f"image {key}", Deadline(_PATIENCE), on_wait),
            held(self._state, f"base {base}", Deadline(_PATIENCE), on_wait),
        ):
            yield

    def _import(self, image: Image, file: Path, key: str, sha256: str, report: Report) -> Stored:
        place = self._folder / key
        # Of two sources with one content, too, only one makes it.
        with self._alone(key, _waiting(image, report)):
            known = self._read(place)
            if known is not None:
                return known
            self._clear(key)
            # Another name each time: VirtualBox may still work on the one of a process that died.
            half = self._folder / f"{key}.{uuid.uuid4().hex[:8]}.half"
            with self._noted(half):
                self._make(file, image, half, place, sha256, report)
        stored = self._read(place)
        if stored is None:
            raise ImageError(f"image {image.source}: {place} vanished while it was being made")
        return stored

    def _make(self, file: Path, image: Image, half: Path, place: Path, sha256: str, report: Report) -> None:
        half.mkdir(mode=0o700)
        try:
            imported = import_disk(file, image, half, self._converter, report)
            report(f"check {imported.disk.name}", 0, None)
            self._describe(half, imported, image, sha256)
            half.rename(place)
            _sync(self._folder)
        except OSError as error:
            raise ImageError(f"image {image.source}: cannot be stored in {half}: {error.strerror}") from error
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _clear(self, key: str) -> None:
        """Take away what a process that died has left, or somebody who deleted only a part."""
        place = self._folder / key
        for rest in self._folder.glob(f"{key}.*half"):
            if self._converter is not None:
                self._converter.abandon(rest)
            shutil.rmtree(rest, ignore_errors=True)
        # VirtualBox remembers disks whose files were deleted, and refuses another at the same place.
        if self._converter is not None:
            self._converter.forget(place / DISK)
        shutil.rmtree(place, ignore_errors=True)

    def _describe(self, folder: Path, imported: Imported, image: Image, sha256: str) -> None:
        """Write down what was made, once all of it is on the disk."""
        meta = {
            "format": FORMAT,
            "disk": imported.disk.name,
            "source": image.source,
            "sha256": sha256,
            "disk_sha256": sha256_of(imported.disk),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "user": imported.user,
            "password": imported.password,
            "private_key": imported.private_key.name if imported.private_key else None,
            "suggested": dict(imported.suggested),
        }
        with imported.disk.open("r+b") as file:
            os.fsync(file.fileno())
        _write_synced(folder / _META, json.dumps(meta, indent=1))
        _sync(folder)

    def _read(self, folder: Path) -> Stored | None:
        try:
            meta = json.loads((folder / _META).read_text(encoding="utf-8"))
            if meta["format"] != FORMAT:
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
                password=meta.get("password"),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # not there, half gone, or made by another version

    def _verify_local(self, image: Image, disk: Path, report: Report) -> None:
        """Hold a local file against its sum, once for each state of the file."""
        if image.sha256 is None:
            return
        mark = self._folder / "verified" / digest(state_of(disk), str(image.sha256))
        if mark.exists() and not isinstance(image.sha256, Path):
            return
        wanted = fixed_sum(image) or download.fetch_sum(disk.name, image.sha256, insecure=image.insecure)
        if mark.exists() and mark.read_text(encoding="ascii") == wanted:
            return
        report(f"verify {disk.name}", 0, None)
        found = sha256_of(disk)
        if found != wanted:
            raise ImageError(f"image {disk}: its SHA-256 is {found}, and should be {wanted}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(mark, wanted)

    # The sum that a download without a fixed one had, so that it is found again without network.

    def _sum_note(self, image: Image) -> Path:
        return self._folder / "sums" / digest("url", str(image.url), str(image.sha256 or ""))

    def _note_sum(self, image: Image, sha256: str) -> None:
        note = self._sum_note(image)
        note.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(note, sha256)

    def _known_sum(self, image: Image) -> str | None:
        with suppress(OSError):
            return self._sum_note(image).read_text(encoding="utf-8").strip() or None
        return None


def _waiting(image: Image, report: Report) -> Callable[[], None]:
    """Tells now and then that another process is at the same image; what the report raises ends the wait."""
    return lambda: report(f"wait for another process that fetches {image.source}", 0, None)


def _write_synced(path: Path, text: str) -> None:
    half = path.with_name(path.name + ".half")
    with half.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _sync(folder: Path) -> None:
    """Make names in a folder last. Windows does that by itself, and cannot open folders."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
