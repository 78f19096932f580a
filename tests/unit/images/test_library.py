"""What is fetched and imported once, and found again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import ImageError, Library, Report, Usable
from pytest_vbox.models import DiskFormat, Image
from pytest_vbox.ownership import held

from .test_imports import VDI, Copies
from .web import Web, ranged, send

PACKED = gzip.compress(VDI)
SUM = hashlib.sha256(PACKED).hexdigest()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """A library with a stand-in for VirtualBox's converter."""
    return Library(tmp_path / "cache", tmp_path / "state", Copies())


@pytest.fixture
def web() -> Iterator[Web]:
    """A server of one compressed disk."""
    with Web(lambda _, handler: ranged(handler, PACKED)) as web:
        yield web


def test_a_disk_that_virtualbox_takes_is_used_where_it_is(library: Library, tmp_path: Path) -> None:
    disk = tmp_path / "a.vdi"
    disk.write_bytes(VDI)
    image = Image(disk=disk)
    assert library.usable(image).disk == disk
    assert (library.find(image), library.stored()) == (None, [])


def test_a_local_disk_is_held_against_its_sum(library: Library, tmp_path: Path) -> None:
    disk = tmp_path / "a.vdi"
    disk.write_bytes(VDI)
    good = Image(disk=disk, sha256=hashlib.sha256(VDI).hexdigest())
    assert library.usable(good).disk == disk
    assert library.usable(good).disk == disk
    with pytest.raises(ImageError, match=rf"a\.vdi: its SHA-256 is [0-9a-f]+, and should be {SUM}"):
        library.usable(Image(disk=disk, sha256=SUM))


def test_a_local_file_is_imported_once_and_anew_when_it_has_changed(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "a.vdi.gz"
    file.write_bytes(PACKED)
    image = Image(disk=file)
    assert library.find(image) is None
    first = library.usable(image).disk
    made = first.stat().st_mtime_ns
    assert library.usable(image).disk == first
    assert first.stat().st_mtime_ns == made
    os.utime(file, ns=(1, 1))
    second = library.usable(image).disk
    assert second != first
    assert first.exists()
    assert [entry.disk for entry in library.stored()] in ([first, second], [second, first])


def test_a_download_is_made_once_and_found_without_network(library: Library, web: Web, tmp_path: Path) -> None:
    image = Image(url=f"{web.url}/a.vdi.gz", sha256=SUM)
    disk = library.usable(image).disk
    assert disk.read_bytes().endswith(b"the disk")
    assert library.usable(image).disk == disk
    found = library.find(image)
    assert found is not None
    assert (found.disk, found.sha256, found.source) == (disk, SUM, image.url)
    assert len(web.requests) == 1
    assert not list((tmp_path / "cache" / "images" / "downloads").iterdir())
    # Another address of the same file is the same disk.
    assert library.usable(Image(url=f"{web.url}/mirror/a.vdi.gz", sha256=SUM)).disk == disk
    assert len(web.requests) == 1


def test_a_download_whose_sum_is_in_a_list_is_found_without_network_too(library: Library, tmp_path: Path) -> None:
    def answer(_: Web, handler: Any) -> None:
        body = f"{SUM}  a.vdi.gz\n".encode() if handler.path == "/SHA256SUMS" else PACKED
        send(handler, body)

    with Web(answer) as web:
        image = Image(url=f"{web.url}/a.vdi.gz", sha256=f"{web.url}/SHA256SUMS")
        disk = library.usable(image).disk
    again = Library(tmp_path / "cache", tmp_path / "state", Copies())
    assert again.usable(image).disk == disk


def test_without_a_sum_only_an_insecure_image_is_fetched(library: Library, web: Web) -> None:
    image = Image(url=f"{web.url}/a.vdi.gz", insecure=True)
    disk = library.usable(image).disk
    assert library.usable(image).disk == disk
    assert len(web.requests) == 1
    with pytest.raises(ValueError, match="url needs sha256"):
        Image(url=f"{web.url}/a.vdi.gz")


def test_a_wrong_download_leaves_nothing(library: Library, web: Web) -> None:
    with pytest.raises(ImageError, match="and should be 000"):
        library.usable(Image(url=f"{web.url}/a.vdi.gz", sha256="0" * 64))
    assert library.stored() == []


@pytest.mark.parametrize("rest", ["half", "torn"])
def test_the_rest_of_a_process_that_died_does_not_count(library: Library, tmp_path: Path, rest: str) -> None:
    file = tmp_path / "a.vdi.gz"
    file.write_bytes(PACKED)
    image = Image(disk=file)
    folder = library.usable(image).disk.parent
    if rest == "half":
        folder.rename(folder.with_name(folder.name + ".half"))
        (folder.with_name(folder.name + ".half") / "meta.json").unlink()
    else:
        (folder / "meta.json").write_text(json.dumps({"format": 1}))
    assert library.find(image) is None
    assert library.stored() == []
    assert library.usable(image).disk.read_bytes().endswith(b"the disk")
    assert [path.name for path in folder.parent.glob("*.half")] == []


def test_an_import_that_fails_leaves_nothing(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "a.vdi.gz"
    file.write_bytes(PACKED[:-10])
    with pytest.raises(ImageError, match="is broken, or was cut off"):
        library.usable(Image(disk=file))
    assert [path.name for path in (tmp_path / "cache" / "images").iterdir()] == []


def test_an_entry_is_verified_and_removed(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "a.vdi.gz"
    file.write_bytes(PACKED)
    library.usable(Image(disk=file))
    (stored,) = library.stored()
    library.verify(stored)
    stored.disk.write_bytes(b"changed")
    with pytest.raises(ImageError, match="has changed since it was stored"):
        library.verify(stored)
    assert library.remove(stored) == stored.size
    assert library.stored() == []
    assert file.read_bytes() == PACKED


def test_what_is_not_there(library: Library, tmp_path: Path) -> None:
    image = Image(disk=tmp_path / "nope.vdi")
    assert library.find(image) is None
    with pytest.raises(ImageError, match=r"nope\.vdi: there is no such file"):
        library.usable(image)


@pytest.mark.slow
def test_two_processes_at_once_download_once(web: Web, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from unit.images.test_imports import Copies
from pytest_vbox.images import Library
from pytest_vbox.models import Image
folder = Path(sys.argv[1])
library = Library(folder / "cache", folder / "state", Copies())
print(library.usable(Image(url=sys.argv[2], sha256=sys.argv[3])).disk)
"""
    command = [sys.executable, "-c", code, str(tmp_path), f"{web.url}/a.vdi.gz", SUM]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    (first, _), (second, _) = (process.communicate(timeout=50) for process in both)
    assert first == second
    assert first.strip().endswith("disk.vdi")
    assert len(web.requests) == 1


def test_one_content_that_is_fetched_from_two_places_at_once_is_imported_once(web: Web, tmp_path: Path) -> None:
    made: list[Path] = []

    class Counted(Copies):
        def to_vdi(self, source: Path, form: DiskFormat, target: Path, report: Report, *, own: bool) -> None:
            made.append(target)
            super().to_vdi(source, form, target, report, own=own)

    def fetched(mirror: str) -> Path:
        library = Library(tmp_path / "cache", tmp_path / "state", Counted())
        return library.usable(Image(url=f"{web.url}/{mirror}/a.vdi.gz", sha256=SUM)).disk

    with ThreadPoolExecutor() as threads:
        disks = set(threads.map(fetched, ["one", "two", "three"]))
    assert len(disks) == len(made) == 1


class Watched(Copies):
    """A stand-in for VirtualBox that writes down what it has to forget, and may refuse."""

    def __init__(self) -> None:
        self.forgotten: list[Path] = []
        self.abandoned: list[Path] = []
        self.refuses = False

    def forget(self, disk: Path) -> None:
        if self.refuses:
            raise ImageError(f"{disk} is in use by machine 'm'")
        self.forgotten.append(disk)

    def abandon(self, folder: Path) -> None:
        self.abandoned.append(folder)


def test_no_disk_is_replaced_under_machines_that_use_it(tmp_path: Path) -> None:
    watched = Watched()
    library = Library(tmp_path / "cache", tmp_path / "state", watched)
    file = tmp_path / "a.vdi.gz"
    file.write_bytes(PACKED)
    disk = library.usable(Image(disk=file)).disk
    (disk.parent / "meta.json").write_text("torn")
    disk.write_bytes(b"in use")
    watched.refuses = True
    with pytest.raises(ImageError, match="in use by machine 'm'"):
        library.usable(Image(disk=file))
    assert disk.read_bytes() == b"in use"
    watched.refuses = False
    watched.forgotten.clear()
    library.usable(Image(disk=file))
    assert watched.forgotten == [disk]
    watched.refuses = True
    (stored,) = library.stored()
    with pytest.raises(ImageError, match="in use by machine 'm'"):
        library.remove(stored)
    assert library.stored() == [stored]


def test_what_a_process_that_died_was_making_is_taken_out_of_virtualbox(tmp_path: Path) -> None:
    watched = Watched()
    library = Library(tmp_path / "cache", tmp_path / "state", watched)
    file = tmp_path / "a.vdi.gz"
    file.write_bytes(PACKED)
    place = library.usable(Image(disk=file)).disk.parent
    half = place.rename(place.with_name(f"{place.name}.0123.half"))
    library.usable(Image(disk=file))
    assert watched.abandoned == [half]
    assert not half.exists()


def test_a_local_disk_is_held_against_a_list_of_sums(library: Library, tmp_path: Path) -> None:
    disk, sums = tmp_path / "a.vdi", tmp_path / "SHA256SUMS"
    disk.write_bytes(VDI)
    sums.write_text(f"{hashlib.sha256(VDI).hexdigest()}  a.vdi\n")
    image = Image(disk=disk, sha256=sums)
    assert library.usable(image).disk == disk
    sums.write_text(f"{SUM}  a.vdi\n")
    with pytest.raises(ImageError, match=f"and should be {SUM}"):
        library.usable(image)
    sums.write_text(f"{SUM}  b.vdi\n")
    with pytest.raises(ImageError, match=r"has no sum for 'a\.vdi'; it has: b\.vdi"):
        library.usable(image)
    with Web(lambda _, handler: send(handler, f"{hashlib.sha256(VDI).hexdigest()}  a.vdi\n".encode())) as web:
        image = Image(disk=disk, sha256=f"{web.url}/SHA256SUMS")
        library.usable(image)
    # Once is enough, while the disk stays as it is.
    assert library.usable(image).disk == disk


def test_an_appliance_is_imported_anew_when_one_of_its_disks_has_changed(library: Library, tmp_path: Path) -> None:
    ovf, disk = tmp_path / "a.ovf", tmp_path / "d.vmdk"
    ovf.write_text('<Envelope><References><File href="d.vmdk"/></References></Envelope>')
    disk.write_bytes(b"KDMV".ljust(1024, b"\0"))
    first = library.usable(Image(disk=ovf)).disk
    assert library.usable(Image(disk=ovf)).disk == first
    disk.write_bytes(b"KDMV".ljust(2048, b"\0"))
    assert library.usable(Image(disk=ovf)).disk != first


def test_a_box_that_vagrant_fetched_again_is_imported_anew(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path))
    folder = tmp_path / "boxes" / "a-VAGRANTSLASH-b" / "1.0" / "virtualbox"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text('{"provider": "virtualbox"}')
    (folder / "box.vdi").write_bytes(VDI)
    image = Image(vagrant="a/b")
    first = library.usable(image).disk
    found = library.find(image)
    assert found is not None
    assert found.disk == first
    (folder / "box.vdi").write_bytes(VDI + b"newer")
    assert library.usable(image).disk != first
    with pytest.raises(ImageError, match="sha256 is the sum of a file, and Vagrant keeps a box unpacked"):
        library.usable(Image(vagrant="a/b", sha256=SUM))


def test_a_folder_is_no_disk(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a file"):
        library.usable(Image(disk=tmp_path))


BOXED = Usable(Path("/cache/disk.vdi"), Path("/cache/key"), "bob", "secret")


def test_the_login_of_a_box_counts_where_the_yaml_says_nothing() -> None:
    image = BOXED.applied_to(Image(disk=Path("a.box")))
    assert (image.disk, image.user, image.private_key) == (BOXED.disk, "bob", BOXED.private_key)
    assert [word and word.get_secret_value() for word in (image.password, image.sudo_password)] == ["secret"] * 2
    assert "secret" not in repr(BOXED)


@pytest.mark.parametrize(
    "keys", [{"user": "me", "password": "mine"}, {"user": "me", "private_key": "mine"}, {"cloud_init": {}}]
)
def test_the_login_of_the_yaml_comes_over_that_of_a_box(keys: dict[str, object]) -> None:
    given = Image.model_validate({"disk": "a.box", **keys})
    image = BOXED.applied_to(given)
    assert image.disk == BOXED.disk
    names = ("user", "password", "private_key", "sudo_password")
    assert [getattr(image, name) for name in names] == [getattr(given, name) for name in names]


OWNED = "vagrant@127.0.0.1; touch owned; \x1b]0;X\x07"


@pytest.mark.parametrize("user", [OWNED, "", "-oProxyCommand=x", "a b", "a" * 33, "$(id)", "bob\n"])
def test_a_user_of_a_box_that_is_no_name_of_an_account_is_refused(user: str) -> None:
    hostile = Usable(BOXED.disk, user=user)
    with pytest.raises(ImageError, match="no name of an account") as caught:
        hostile.applied_to(Image(disk=Path("a.box")))
    text = str(caught.value)
    assert text.isprintable()
    for part in ("image ", "a.box", "config.ssh.username", "1 to 32 letters", "user: in the YAML"):
        assert part in text
    # The way out that it names is one.
    assert hostile.applied_to(Image(disk=Path("a.box"), user="me")).user == "me"


@pytest.mark.slow
def test_who_waits_for_another_process_is_told_and_may_end_the_wait(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "disk.img"
    file.write_bytes(bytes(510) + b"\x55\xaa")
    image = Image.model_validate({"disk": file, "format": "raw"})

    class Over(Exception):
        pass

    def report(what: str, done: int, total: int | None) -> None:  # noqa: ARG001 - as a report is called
        assert what == f"wait for another process that fetches {image.source}"
        raise Over

    with held(tmp_path / "state", f"image {image.source}", Deadline(5)), pytest.raises(Over):
        library.usable(image, report=report)
