"""Files from elsewhere: what they are, and what is refused of them."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_vbox.images import ImageError, box
from pytest_vbox.images.archives import MAX_FILES, unpack
from pytest_vbox.images.compression import name_inside, uncompress, zstd
from pytest_vbox.images.formats import compression, disk_format
from pytest_vbox.images.harmless import check_harmless
from pytest_vbox.images.imports import Imported, import_disk, usable_in_place
from pytest_vbox.images.report import Report, silent
from pytest_vbox.models import DiskFormat, Image

CONTENT = bytes(3 * 1024**2) + os.urandom(1024**2) + bytes(5000)
PACKERS = {
    "gz": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bz2": lambda data: bz2.compress(data, 1),
    "zst": lambda data: zstd.compress(data),
}


class Copies:
    """Stands for VirtualBox: a VDI is a copy."""

    def to_vdi(self, source: Path, form: DiskFormat, target: Path, report: Report, *, own: bool) -> None:  # noqa: ARG002
        target.write_bytes(b"vdi of " + source.read_bytes()[-20:])

    def from_raw(self, source: Path, target: Path, report: Report) -> None:  # noqa: ARG002
        target.write_bytes(b"vdi of raw " + source.read_bytes()[-20:])

    def import_appliance(self, file: Path, target: Path, report: Report) -> Mapping[str, object]:  # noqa: ARG002
        target.write_bytes(b"vdi of " + file.name.encode())
        return {"memory": "512"}

    def forget(self, disk: Path) -> None:
        """Nothing to forget."""

    def abandon(self, folder: Path) -> None:
        """Nothing to abandon."""


def imported(file: Path, folder: Path, **keys: object) -> Imported:
    """What a file becomes in an empty folder."""
    folder = folder / "new"
    folder.mkdir(exist_ok=True)
    return import_disk(file, Image.model_validate({"disk": file, **keys}), folder, Copies(), silent)


def tar(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    """A tar archive of files, and of whatever else is given."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    """A member that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


# Compression


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_compressed_is_uncompressed_and_zeros_take_no_room(tmp_path: Path, kind: str) -> None:
    packed, plain = tmp_path / f"disk.img.{kind}", tmp_path / "disk.img"
    packed.write_bytes(PACKERS[kind](CONTENT))
    assert compression(packed) == kind
    uncompress(packed, kind, plain, silent)
    assert plain.read_bytes() == CONTENT
    assert plain.stat().st_blocks * 512 < 2 * 1024**2


@pytest.mark.slow
@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_what_is_broken_is_said_and_not_left(tmp_path: Path, kind: str, harm: str) -> None:
    data = PACKERS[kind](CONTENT)
    data = data[: len(data) // 2] if harm == "cut" else data[:20] + bytes(200) + data[220:]
    packed, plain = tmp_path / f"disk.img.{kind}", tmp_path / "disk.img"
    packed.write_bytes(data)
    with pytest.raises(ImageError, match=r"^disk.img.* (is broken, or was cut off|cannot be uncompressed): "):
        uncompress(packed, kind, plain, silent)
    assert not plain.exists()


def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    packed = tmp_path / "bomb.gz"
    packed.write_bytes(gzip.compress(bytes(64 * 1024**2)))
    with pytest.raises(ImageError, match="becomes larger than 10000000 bytes"):
        uncompress(packed, "gz", tmp_path / "bomb", silent, limit=10_000_000)
    assert not (tmp_path / "bomb").exists()


def test_the_name_of_what_is_inside() -> None:
    assert [name_inside(name) for name in ("a.img.gz", "a.XZ", "a.vdi")] == ["a.img", "a", "a.vdi"]


# Formats


@pytest.mark.parametrize(
    ("head", "name", "expected"),
    [
        (bytes(0x40) + b"\x7f\x10\xda\xbe", "x", DiskFormat.VDI),
        (b"KDMV", "x", DiskFormat.VMDK),
        (b"# Disk DescriptorFile\n", "x", DiskFormat.VMDK),
        (b"conectix", "x", DiskFormat.VHD),
        (bytes(4096) + b"conectix".ljust(512, b"\0"), "x", DiskFormat.VHD),
        (b"vhdxfile", "x", DiskFormat.VHDX),
        (b"QFI\xfb", "x", DiskFormat.QCOW2),
        (b'<?xml version="1.0"?><Envelope', "x", DiskFormat.OVF),
        (bytes(510) + b"\x55\xaa", "x.IMG", DiskFormat.RAW),
        (bytes(257) + b"ustar", "x.ova", DiskFormat.OVA),
        (bytes(257) + b"ustar", "x.box", DiskFormat.BOX),
    ],
)
def test_a_file_is_known_by_its_bytes(tmp_path: Path, head: bytes, name: str, expected: DiskFormat) -> None:
    file = tmp_path / "file"
    file.write_bytes(head)
    assert disk_format(file, name) is expected
    assert disk_format(file, name, expected) is expected
    assert disk_format(file, name, DiskFormat.RAW) is DiskFormat.RAW


@pytest.mark.parametrize("head", [b"", b"hello", bytes(510) + b"\x55\xaa", bytes(1000)])
def test_what_is_nothing_that_is_known(tmp_path: Path, head: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(head)
    with pytest.raises(ImageError, match=r"^x.bin is nothing that is understood \(VDI.*needs format: raw$"):
        disk_format(file, "x.bin")


def qcow2(version: int = 2, backing: int = 0, features: int = 0) -> bytes:
    """The head of a qcow2."""
    head = struct.pack(">4sIQI", b"QFI\xfb", version, backing, 10 if backing else 0)
    return head.ljust(72, b"\0") + struct.pack(">Q", features) + bytes(100)


@pytest.mark.parametrize("head", [qcow2(backing=200), qcow2(3, backing=200), qcow2(3, features=4)])
def test_a_qcow2_that_reads_another_file_is_refused(tmp_path: Path, head: bytes) -> None:
    file = tmp_path / "evil.qcow2"
    file.write_bytes(head)
    with pytest.raises(ImageError, match=r"^evil.qcow2 "):
        imported(file, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        'RW 1 FLAT "/etc/shadow" 0',
        'RW 1 FLAT "../../etc/shadow" 0',
        'RW 1 SPARSE "C:\\\\secret.vmdk"',
        'RW 1 FLAT "sub/part.vmdk" 0',
        'RW 1 FLAT "link" 0',
        'RW 1 VMFSRDM "disk"',
        'RW 1 FLAT "nbd:host"',
        'rw 1 flat "/etc/shadow"',
        'RW1 FLAT "/etc/shadow"',
        '\tRW\t1\tFLAT\t"/etc/shadow"\t0',
        'x=1\rRW 1 FLAT "/etc/shadow" 0',
        '\nparentCID=1\n  parentFileNameHint = "base"',
        'RDONLY 1 FLAT "/dev/sda" 0',
        'parentFileNameHint="/home/you/secret.vmdk"',
        "RW 1 FLAT",
    ],
)
def test_a_vmdk_that_consists_of_other_files_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    file = tmp_path / "evil.vmdk"
    file.write_text(f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\n{line}\n')
    with pytest.raises(ImageError, match=r"^evil.vmdk"):
        check_harmless(file)
    # In a sparse file the same text is inside, whatever is said of its length.
    for sectors in (20, 0):
        head = b"KDMV" + bytes(24) + struct.pack("<QQ", 1, sectors)
        file.write_bytes(head.ljust(512, b"\0") + f"# Disk DescriptorFile\n{line}\n".encode())
        with pytest.raises(ImageError, match=r"^evil.vmdk"):
            check_harmless(file)


def test_a_part_of_a_vmdk_is_looked_at_too(tmp_path: Path) -> None:
    file, part = tmp_path / "outer.vmdk", tmp_path / "part.vmdk"
    file.write_text('# Disk DescriptorFile\nRW 1 SPARSE "part.vmdk"\nRW 1 SPARSE "outer.vmdk"\n')
    part.write_text('# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow" 0\n')
    with pytest.raises(ImageError, match=r"^part.vmdk names '/etc/shadow'"):
        check_harmless(file)


@pytest.mark.parametrize("first", ["# Disk Descriptor File", "#Disk DescriptorFile", "version=1", "# x"])
def test_a_vmdk_is_known_by_each_first_line_that_readers_take(tmp_path: Path, first: str) -> None:
    file = tmp_path / "evil.vdi"
    # With the mark of a VDI in it, too.
    text = f"{first}\n# ".encode().ljust(0x40, b" ") + b"\x7f\x10\xda\xbe" + b'\nRW 1 FLAT "/etc/shadow" 0\n'
    file.write_bytes(text)
    assert disk_format(file, file.name) is DiskFormat.VDI
    for keys in ({}, {"format": "vdi"}):
        with pytest.raises(ImageError, match="names '/etc/shadow'"):
            imported(file, tmp_path, **keys)
    with pytest.raises(ImageError, match="names '/etc/shadow'"):
        usable_in_place(file, Image(disk=file))


def test_a_description_that_is_too_long_to_be_looked_at_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "long.vmdk"
    file.write_bytes(b"# Disk DescriptorFile\n" + b"#" * 1024**2 + b'\nRW 1 FLAT "/etc/shadow" 0\n')
    with pytest.raises(ImageError, match="too great a length"):
        check_harmless(file)


def test_a_qed_is_refused_whatever_else_it_pretends_to_be(tmp_path: Path) -> None:
    file = tmp_path / "evil.vdi"
    file.write_bytes(b"QED\0".ljust(0x40, b"\0") + b"\x7f\x10\xda\xbe")
    with pytest.raises(ImageError, match="is a QED"):
        imported(file, tmp_path)


def test_a_disk_has_to_be_what_it_is_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "a.vdi"
    file.write_bytes(qcow2())
    with pytest.raises(ImageError, match=r"^a\.vdi is qcow2, and not vdi, as `format:` says$"):
        usable_in_place(file, Image(disk=file, format=DiskFormat.VDI))


def test_a_vmdk_of_parts_beside_it_is_fine(tmp_path: Path) -> None:
    (tmp_path / "part-flat.vmdk").write_bytes(bytes(512))
    file = tmp_path / "fine.vmdk"
    file.write_text('# Disk DescriptorFile\nRW 1 FLAT "part-flat.vmdk" 0\nRW 5 ZERO\n')
    check_harmless(file)


@pytest.mark.parametrize(("name", "place"), [("a.vdi", True), ("a.vdi.gz", False)])
def test_what_virtualbox_takes_as_it_is(tmp_path: Path, name: str, place: bool) -> None:
    vdi = bytes(0x40) + b"\x7f\x10\xda\xbe"
    file = tmp_path / name
    file.write_bytes(gzip.compress(vdi) if name.endswith("gz") else vdi)
    assert usable_in_place(file, Image(disk=file)) is place


# Archives


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "disk.vmdk"),
        special("device", tarfile.CHRTYPE),
        special("device", tarfile.BLKTYPE),
        special("fifo", tarfile.FIFOTYPE),
        ("../outside", b"x"),
        ("/etc/outside", b"x"),
        ("a/../../outside", b"x"),
        ("..\\outside", b"x"),
        ("C:\\outside", b"x"),
        special("../folder", tarfile.DIRTYPE),
    ],
)
def test_what_leads_out_of_an_archive_is_refused(
    tmp_path: Path, member: tuple[str, bytes] | tarfile.TarInfo
) -> None:
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    archive = tar(tmp_path / "evil.box", ("first", b"1"), member)
    with pytest.raises(ImageError, match=r"^evil.box holds .*; refused$"):
        unpack(archive, target, silent)
    assert [path.name for path in target.iterdir()] == ["first"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "evil.box", ("disk.vmdk", b"good"), ("./disk.vmdk", b"evil"))
    (tmp_path / "target").mkdir()
    with pytest.raises(ImageError, match=r"holds '\./disk\.vmdk' twice; refused"):
        unpack(archive, tmp_path / "target", silent)


def test_too_many_and_too_large(tmp_path: Path) -> None:
    many = tar(tmp_path / "many.box", *((str(number), b"") for number in range(MAX_FILES + 5)))
    large = tar(tmp_path / "large.box", ("disk", bytes(2000)))
    for archive, match in ((many, "more than 1000 files"), (large, "more than 1000 bytes")):
        target = tmp_path / f"target-{archive.stem}"
        target.mkdir()
        with pytest.raises(ImageError, match=match):
            unpack(archive, target, silent, limit=1000)


@pytest.mark.parametrize("keep", [100, 700, 1500])
def test_an_archive_that_was_cut_off(tmp_path: Path, keep: int) -> None:
    whole = tar(tmp_path / "cut.box", ("metadata.json", b"{}"), ("disk.vmdk", os.urandom(4000)))
    whole.write_bytes(gzip.compress(whole.read_bytes())[:keep])
    (tmp_path / "target").mkdir()
    with pytest.raises(ImageError, match=r"^cut.box (is broken, or was cut off|cannot be unpacked)"):
        unpack(whole, tmp_path / "target", silent)


def test_what_is_unpacked_is_ours_alone(tmp_path: Path) -> None:
    info = tarfile.TarInfo("run.sh")
    info.mode = 0o6777
    (tmp_path / "target").mkdir()
    (file,) = unpack(tar(tmp_path / "a.box", info), tmp_path / "target", silent)
    assert file.stat().st_mode & 0o7777 == 0o600


# Boxes


VDI = bytes(0x40) + b"\x7f\x10\xda\xbe" + bytes(100) + b"the disk"
META = ("metadata.json", b'{"provider": "virtualbox"}')


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant.d"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["x.box", "downloaded", "virtualbox.tar"])
def test_a_box_gives_its_disk_its_user_and_the_well_known_key(tmp_path: Path, packed: bool, name: str) -> None:
    file = tar(tmp_path / name, META, ("any name.vdi", VDI))
    if packed:
        file.write_bytes(gzip.compress(file.read_bytes()))
    found = imported(file, tmp_path)
    assert found.disk.read_bytes().endswith(b"the disk")
    assert found.user == "vagrant"
    assert found.private_key is not None
    assert "BEGIN RSA PRIVATE KEY" in found.private_key.read_text()
    assert found.private_key.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"disk.vdi", "vagrant_insecure_key"}


def test_a_boxs_vagrantfile_is_read_as_text_and_never_run(tmp_path: Path) -> None:
    vagrantfile = b"""
    system("touch /tmp/pytest-vbox-was-here")
    Vagrant.configure("2") do |config|
      # config.ssh.username = "commented"
      config.ssh.username = "bob"  # who
      config.ssh.password = ENV["SECRET"]
      config.ssh.username = "#{`id`}"
      config.vm.base_mac = "080027AABBCC"
      config.ssh.private_key_path = "keys/bob"
    end
    """
    file = tar(tmp_path / "x.box", META, ("d.vdi", VDI), ("Vagrantfile", vagrantfile), ("keys/bob", b"the key"))
    found = imported(file, tmp_path)
    assert (found.user, found.suggested) == ("bob", {"base_mac": "080027AABBCC"})
    assert found.private_key is not None
    assert found.private_key.read_bytes() == b"the key"
    assert not Path("/tmp/pytest-vbox-was-here").exists()


@pytest.mark.parametrize("path", ["/etc/hostname", "../../etc/hostname", "~/.ssh/id_rsa"])
def test_a_key_elsewhere_on_this_computer_is_not_taken(tmp_path: Path, path: str) -> None:
    vagrantfile = f'config.ssh.private_key_path = "{path}"'.encode()
    found = imported(tar(tmp_path / "x.box", META, ("d.vdi", VDI), ("Vagrantfile", vagrantfile)), tmp_path)
    assert found.private_key is not None
    assert found.private_key.name == "vagrant_insecure_key"


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([("metadata.json", b'{"provider": "libvirt"}'), ("d.vdi", VDI)], "for the provider 'libvirt', and not"),
        ([("metadata.json", b"{"), ("d.vdi", VDI)], "does not say for which provider"),
        ([META], "should have one disk, and has: none"),
        ([META, ("a.vdi", VDI), ("b.vdi", VDI)], "should have one disk, and has: a.vdi, b.vdi"),
        ([META, ("d.vdi", VDI), ("box.ovf", b"<x")], "box.ovf is not XML"),
        (
            [META, ("d.vdi", VDI), ("box.ovf", b'<!DOCTYPE x [<!ENTITY e "e">]><x/>')],
            "entities of its own; refused",
        ),
        ([META, ("d.vdi", VDI), ("box.ovf", b'<x><File href="../d.vdi"/></x>')], "names the disk '../d.vdi'"),
    ],
)
def test_a_box_that_is_none(tmp_path: Path, members: list[tuple[str, bytes]], match: str) -> None:
    with pytest.raises(ImageError, match=match):
        imported(tar(tmp_path / "x.box", *members), tmp_path)


def test_the_disk_that_a_description_names_is_the_one(tmp_path: Path) -> None:
    ovf = b'<x><File href="script.sh"/><File href="b.vdi"/></x>'
    file = tar(tmp_path / "x.box", META, ("a.vdi", VDI + b"wrong"), ("b.vdi", VDI), ("box.ovf", ovf))
    assert imported(file, tmp_path).disk.read_bytes().endswith(b"the disk")


def test_an_appliance_needs_one_description_and_harmless_disks(tmp_path: Path) -> None:
    ova = tar(tmp_path / "a.ova", ("a.ovf", b"<Envelope/>"), ("d.vmdk", b"KDMV".ljust(1024, b"\0")))
    assert imported(ova, tmp_path).suggested == {"memory": "512"}
    for members in ([("d.vmdk", b"KDMV")], [("a.ovf", b"<Envelope/>"), ("b.ovf", b"<Envelope/>")]):
        with pytest.raises(ImageError, match=r"should have one \.ovf file, and has"):
            imported(tar(tmp_path / "b.ova", *members), tmp_path)
    evil = b'# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow" 0\n'
    with pytest.raises(ImageError, match="names '/etc/shadow' as a part of itself"):
        imported(tar(tmp_path / "c.ova", ("a.ovf", b"<Envelope/>"), ("d.vmdk", evil)), tmp_path)


@pytest.mark.parametrize(
    ("href", "match"),
    [
        ("../../home/you/secret.vmdk", "which is not beside it; refused"),
        ("/home/you/secret.vmdk", "which is not beside it; refused"),
        ("file:///home/you/secret.vmdk", "which is not beside it; refused"),
        ("https://example.org/disk.vmdk", "which is not beside it; refused"),
        ("link.vmdk", "is no plain file; refused"),
        ("", "names '' as a part of itself"),
        ("missing.vmdk", "names 'missing.vmdk' as a part of itself, which is not beside it$"),
        ("evil.img", "evil.img names '/etc/shadow'"),
        ('d.vmdk" ovf:compression="gzip', r"is compressed \(gzip\); unpack it first"),
    ],
)
def test_an_appliance_that_consists_of_other_files_is_refused(tmp_path: Path, href: str, match: str) -> None:
    (tmp_path / "link.vmdk").symlink_to("/etc/passwd")
    (tmp_path / "d.vmdk").write_bytes(b"KDMV".ljust(1024, b"\0"))
    (tmp_path / "evil.img").write_bytes(b'# Disk DescriptorFile\nRW 1 FLAT "/etc/shadow" 0\n')
    space = "http://schemas.dmtf.org/ovf/envelope/1"
    references = f'<References><File ovf:href="{href}"/></References>'
    ovf = f'<Envelope xmlns="{space}" xmlns:ovf="{space}">{references}</Envelope>'
    file = tmp_path / "a.ovf"
    file.write_text(ovf)
    with pytest.raises(ImageError, match=match):
        imported(file, tmp_path)


def test_headers_of_an_archive_are_not_read_whole_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2 * 1024**3
    (tmp_path / "target").mkdir()
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        info.type = kind
        file = tmp_path / "evil.box"
        file.write_bytes(info.tobuf() + bytes(10240))
        with pytest.raises(ImageError, match="a header of 2147483648 bytes; refused"):
            unpack(file, tmp_path / "target", silent)


# Vagrant's own boxes


def vagrant(tmp_path: Path, *places: str) -> None:
    """Boxes as Vagrant keeps them."""
    for place in places:
        folder = tmp_path / "vagrant.d" / "boxes" / place
        folder.mkdir(parents=True)
        (folder / "d.vdi").write_bytes(VDI)
        (folder / "metadata.json").write_text(json.dumps({"provider": "virtualbox"}))


def test_the_newest_version_of_a_box_is_taken_whatever_vagrant_keeps_it_in(tmp_path: Path) -> None:
    slash = "debian-VAGRANTSLASH-b"
    vagrant(
        tmp_path, f"{slash}/9.1/virtualbox", f"{slash}/12.20230501.1/amd64/virtualbox", f"{slash}/12.2/libvirt"
    )
    folder, identity = box.vagrant_box(Image(vagrant="debian/b"))
    assert folder.parts[-3:] == ("12.20230501.1", "amd64", "virtualbox")
    assert box.vagrant_box(Image(vagrant="debian/b", vagrant_version="9.1"))[1] != identity
    before = {path: path.read_bytes() for path in folder.iterdir()}
    found = import_disk(folder, Image(vagrant="debian/b"), _empty(tmp_path / "new"), Copies(), silent)
    assert found.disk.read_bytes().endswith(b"the disk")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_box_that_vagrant_does_not_have_is_answered_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no box me/it .*there are: none\. vagrant box add .* me/it"):
        box.vagrant_box(Image(vagrant="me/it"))
    vagrant(tmp_path, "a-VAGRANTSLASH-b/1/virtualbox")
    with pytest.raises(ImageError, match="there are: a/b"):
        box.vagrant_box(Image(vagrant="me/it"))
    with pytest.raises(ImageError, match=r"no version 3 of the box a/b; there are: 1\. .*--box-version 3 a/b"):
        box.vagrant_box(Image(vagrant="a/b", vagrant_version="3"))
