"""Archives from elsewhere: unpacked into their folder and within bounds, or refused; then read as a box."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from fuzz.builders import archive, attributes, block, descriptor, header, sparse, summed
from pytest_vbox.images import ImageError
from pytest_vbox.images.archives import MAX_FILES, unpack
from pytest_vbox.images.harmless import check_appliance
from pytest_vbox.images.imports import import_disk
from pytest_vbox.images.report import Report, silent
from pytest_vbox.models import DiskFormat, Image

WORDS = [
    *(b"../", b"/etc/passwd", b"metadata.json", b"Vagrantfile", b"include/_Vagrantfile", b"box.ovf", b"box.vmdk"),
    *(b"C:\\", b"..\\", b"././@LongLink", b"ustar  \0", b"ustar\x0000", b"././@PaxHeader", b"\x80" + b"\xff" * 11),
    *(b"30 path=../../secret\n", b"22 GNU.sparse.major=1\n", b"22 GNU.sparse.minor=0\n", b"19 size=99999999999\n"),
    *(
        b"GNU.sparse.map=",
        b"GNU.sparse.numblocks=",
        b"GNU.sparse.realsize=",
        b"GNU.sparse.size=",
        b"hdrcharset=BINARY",
    ),
    *(
        b'{"provider": "virtualbox"}',
        b"config.ssh.username = ",
        b"config.ssh.private_key_path = ",
        b"config.vm.base_mac = ",
    ),
]
_LIMIT = 4 * 1024**2


class _Copies:
    """Stands for VirtualBox: nothing is converted."""

    def to_vdi(self, source: Path, form: DiskFormat, target: Path, report: Report, *, own: bool) -> None:
        assert source.is_file()
        target.write_bytes(b"")

    def from_raw(self, source: Path, target: Path, report: Report) -> None:
        """Nobody says `format: raw` of a box."""
        raise AssertionError

    def import_appliance(self, file: Path, target: Path, report: Report) -> Mapping[str, object]:
        """That is the target `appliance`."""
        raise AssertionError

    def forget(self, disk: Path) -> None:
        """Nothing to forget."""

    def abandon(self, folder: Path) -> None:
        """Nothing to abandon."""


def seeds() -> Iterator[bytes]:
    disk = ("box.vmdk", sparse(descriptor('RW 128 SPARSE "box.vmdk"'))[:8192])
    about = ("metadata.json", json.dumps({"provider": "virtualbox"}).encode())
    vagrant = (
        "Vagrantfile",
        b'config.ssh.username = "me"\nconfig.vm.base_mac = "080027000001"\nconfig.ssh.private_key_path = "key"\n',
    )
    ovf = ("box.ovf", b'<Envelope><References><File href="box.vmdk"/></References></Envelope>')
    long_name = ("a" * 120 + "/key", b"secret")
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        yield b"\1" + archive(about, disk, vagrant, ovf, ("key", b"k"), form=form)
        yield b"\1" + archive(about, ("ü" * 60, b"x"), long_name, form=tarfile.PAX_FORMAT)
    yield b"\1" + b"".join(
        block(b"link", kind) for kind in (b"5", b"1", b"2", b"3", b"6", b"7", b"S", b"L", b"K", b"g")
    )
    yield b"\1" + block(b"holes", b"S", 512, b"x" * 512, b"\0" * 41 + b"%011o\0" % 0 + b"%011o\0" % 512)
    for said in (
        attributes(
            GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="1024", GNU__sparse__name="a"
        ),
        attributes(GNU__sparse__size="1024", GNU__sparse__numblocks="1", GNU__sparse__map="0,512"),
        attributes(
            GNU__sparse__size="1024",
            GNU__sparse__numblocks="1",
            GNU__sparse__offset="0",
            GNU__sparse__numbytes="512",
        ),
    ):
        head = block(b"././@PaxHeader", b"x", len(said), said)
        yield b"\1" + head + block(b"holes", b"0", 1024, b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512)
    yield b"\3" + gzip.compress(archive(about, disk))
    yield b"\0" + header()


def run(data: bytes, folder: Path) -> None:
    flags, content = (data[0], data[1:]) if data else (0, b"")
    if flags & 1:
        content = summed(content)
    if flags & 4:
        content = gzip.compress(content, 1)
    file, inside, made = folder / "a.box", folder / "inside", folder / "new"
    file.write_bytes(content)
    inside.mkdir()
    made.mkdir()
    try:
        files = unpack(file, inside, silent, limit=_LIMIT)
    except ImageError:
        files = []
    assert len(files) <= MAX_FILES
    # What had been unpacked before it was refused counts too.
    there = [path for path in inside.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in there), there
    assert sum(path.stat().st_size for path in there) <= _LIMIT
    for path in files:
        if path.suffix == ".ovf":
            with suppress(ImageError):
                check_appliance(path)
    with suppress(ImageError):
        imported = import_disk(inside, Image.model_validate({"disk": "/a.box"}), made, _Copies(), silent)
        assert imported.disk.parent == made
        assert imported.user
