"""Archives that were made to be unpacked badly: each was once a crash, a hang, or too much memory."""

from __future__ import annotations

import gzip
import re
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fuzz.builders import archive, attributes, block

from pytest_vbox.images import ImageError
from pytest_vbox.images.archives import unpack
from pytest_vbox.images.imports import _is_tar
from pytest_vbox.images.report import silent

HOLES = b"\0" * 41  # of the last fields of a header, before the map of the holes


def refused(tmp_path: Path, data: bytes, limit: int = 4 * 1024**2) -> str:
    """What is said when it is unpacked."""
    file, folder = tmp_path / "a.box", tmp_path / "inside"
    file.write_bytes(data)
    folder.mkdir(exist_ok=True)
    with pytest.raises(ImageError) as caught:
        unpack(file, folder, silent, limit)
    return str(caught.value)


def pax(said: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    """A file with attributes."""
    shown = len(content) if size is None else size
    return block(b"PaxHeader", b"x", len(said), said) + block(b"holes", b"0", shown, content)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"X"])
def test_a_chain_of_headers_is_refused_and_no_recursion_without_end(tmp_path: Path, kind: bytes) -> None:
    content = b"16 comment=abcd\n" if kind in b"xgX" else b"name\0"
    chain = block(b"next", kind, len(content), content) * 5000
    started = time.process_time()
    for data in (chain, gzip.compress(chain, 1)):
        assert "more than 16 headers for one member" in refused(tmp_path, data + block(b"a", b"0"))
    assert time.process_time() - started < 2


def test_headers_together_are_bounded(tmp_path: Path) -> None:
    long_name = block(b"long", b"L", 100_000, b"a" * 100_000)
    assert "a header of more than 262144 bytes" in refused(tmp_path, long_name * 3)


def test_a_map_of_holes_without_end_is_refused(tmp_path: Path) -> None:
    # Each of these blocks says that there is another one.
    more = (b"%011o\0" % 0) * 42 + b"\1"
    data = block(b"holes", b"S", 0, b"", HOLES + b"\0" * 96 + b"\1") + more.ljust(512, b"\0") * 2000
    assert "a header of more than" in refused(tmp_path, gzip.compress(data))


@pytest.mark.parametrize("content", [b"99999999999\n" + b"0\n" * 400_000, b"1\n0\n" + b"1" * 800_000])
def test_a_map_of_holes_in_the_content_is_bounded(tmp_path: Path, content: bytes) -> None:
    said = attributes(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="100000")
    started = time.process_time()
    assert re.search("a header of more than|is broken", refused(tmp_path, gzip.compress(pax(said, content))))
    assert time.process_time() - started < 2


def test_holes_count_as_what_they_become(tmp_path: Path) -> None:
    said = attributes(GNU__sparse__size=str(4 * 1024**4), GNU__sparse__numblocks="1", GNU__sparse__map="0,512")
    assert "holds more than 4194304 bytes" in refused(tmp_path, pax(said, b"x" * 512))


def test_a_file_of_less_than_nothing_does_not_make_room_for_others(tmp_path: Path) -> None:
    said = attributes(GNU__sparse__size="-9000000", GNU__sparse__numblocks="1", GNU__sparse__map="0,512")
    assert "has -9000000 bytes" in refused(tmp_path, pax(said, b"x" * 512))


def test_a_header_of_a_negative_size_is_refused(tmp_path: Path) -> None:
    assert "a header of -512 bytes" in refused(tmp_path, block(b"a", b"L", -512))
    assert refused(tmp_path, block(b"a", b"0", -512) + block(b"b", b"0"))


@pytest.mark.parametrize(
    "data",
    [
        block(b"holes", b"S")[:500],
        block(b"holes", b"S", 0, b"", HOLES + b"\0" * 96 + b"\1"),  # more of the map, which is not there
        pax(attributes(GNU__sparse__major="1", GNU__sparse__minor="0")),
        pax(attributes(GNU__sparse__map="0,abc", GNU__sparse__size="1")),
        pax(b"0 a=b\n"),
        pax(b"99999999999999999999 a=b\n"),
        pax(attributes(hdrcharset="ABCD")),
        b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x00",  # gzip, and the end in the middle of its first field
        b"BZh9" + b"1AY&SY" + b"\xff" * 40,
        b"\xfd7zXZ\x00" + b"\xff" * 40,
    ],
)
def test_what_tarfile_itself_trips_over_is_broken(tmp_path: Path, data: bytes) -> None:
    file, folder = tmp_path / "a.box", tmp_path / "inside"
    file.write_bytes(data)
    folder.mkdir()
    with suppress(ImageError):
        unpack(file, folder, silent)
    assert _is_tar(file) in {True, False}


def test_folders_are_not_nested_without_end(tmp_path: Path) -> None:
    # Some 1000 of them could not be taken away again.
    said = attributes(path="a/" * 1500 + "b")
    assert "in more than 32 folders; refused" in refused(tmp_path, pax(said))
    assert list((tmp_path / "inside").iterdir()) == []


def test_an_archive_with_long_names_and_attributes_is_fine(tmp_path: Path) -> None:
    names = ["a" * 200 + "/" + "b" * 200, "ü" * 50, "plain"]
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        file, folder = tmp_path / f"{number}.box", tmp_path / str(number)
        folder.mkdir()
        file.write_bytes(archive(*((name, b"content") for name in names), form=form))
        assert [path.relative_to(folder).as_posix() for path in unpack(file, folder, silent)] == names


def test_a_file_with_holes_is_unpacked(tmp_path: Path) -> None:
    said = attributes(
        GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="2048", GNU__sparse__name="ab"
    )
    file = tmp_path / "a.box"
    file.write_bytes(pax(said, b"1\n1024\n512\n".ljust(512, b"\0") + b"x" * 512))
    (tmp_path / "in").mkdir()
    (path,) = unpack(file, tmp_path / "in", silent)
    assert path.read_bytes() == bytes(1024) + b"x" * 512 + bytes(512)
