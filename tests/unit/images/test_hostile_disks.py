"""Disks and appliances that lead elsewhere by ways that VirtualBox or qemu-img really take."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from fuzz.builders import BLOCK, descriptor, header, sparse

from pytest_vbox.images import ImageError
from pytest_vbox.images.appliances import without_settings
from pytest_vbox.images.convert import qemu_source
from pytest_vbox.images.harmless import check_appliance, check_harmless, check_whole
from pytest_vbox.models import DiskFormat

OWN = descriptor('RW 128 SPARSE "disk.vmdk"')
ELSEWHERE = descriptor('RW 128 FLAT "../secret" 0', kind="monolithicFlat")
AT_END = 2**64 - 1


def disk(folder: Path, content: bytes) -> Path:
    """A file with this content."""
    path = folder / "disk.vmdk"
    path.write_bytes(content)
    return path


def with_text(text: bytes, *, sector: int, sectors: int = 20) -> bytes:
    """A sparse VMDK with a text in its second sector, whose header says that the description is elsewhere."""
    first = header(at=sector, sectors=sectors) + text.ljust(20 * BLOCK, b"\0") + sparse(OWN)[21 * BLOCK :]
    return first[: 100 * BLOCK] + OWN.ljust(29 * BLOCK, b"\0")


@pytest.mark.parametrize("hint", ['parentFileNameHint="a"', 'parentFileNameHint = ""', "PARENTFILENAMEHINT=a"])
@pytest.mark.parametrize(("sector", "sectors"), [(100, 20), (0, 0), (1, 20)])
def test_a_parent_where_qemu_looks_for_it_counts_wherever_the_header_points(
    tmp_path: Path, hint: str, sector: int, sectors: int
) -> None:
    with pytest.raises(ImageError, match="is a difference to another disk"):
        check_harmless(disk(tmp_path, with_text(f"#\n{hint}\n".encode(), sector=sector, sectors=sectors)))


def test_qemu_does_read_that_parent(tmp_path: Path) -> None:
    """What the check above is for; without it, this brought any file of the computer into a disk."""
    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("qemu-img is not installed")
    (tmp_path / "secret").write_bytes(b"this must never be seen in a disk" * 2000)
    home = tmp_path / "home"
    home.mkdir()
    (home / "part").write_bytes(ELSEWHERE)
    text = descriptor('RW 128 SPARSE "a"', parent="part").replace(b"parentCID=ffffffff", b"parentCID=fffffffe")
    path = disk(home, with_text(text, sector=100))
    subprocess.run([tool, "convert", "-f", "vmdk", "-O", "raw", path, tmp_path / "out"], check=True)
    assert b"never be seen" in (tmp_path / "out").read_bytes()
    with pytest.raises(ImageError, match="is a difference to another disk"):
        check_harmless(path)
    # And it is not told to open any parent.
    source = qemu_source(path, DiskFormat.VMDK)
    subprocess.run([tool, "convert", "-O", "raw", "--", source, tmp_path / "out"], check=True)
    assert b"never be seen" not in (tmp_path / "out").read_bytes()


@pytest.mark.parametrize(
    "form", [DiskFormat.VMDK, DiskFormat.VHD, DiskFormat.QCOW2, DiskFormat.VHDX, DiskFormat.VDI]
)
def test_qemu_reads_whole_disks_as_it_is_told_to_open_them(tmp_path: Path, form: DiskFormat) -> None:
    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("qemu-img is not installed")
    raw, file, out = tmp_path / "raw", tmp_path / f"a: ü,'\"{{}}.{form}", tmp_path / "out"
    raw.write_bytes(b"content" * 2**16)
    known_as = "vpc" if form is DiskFormat.VHD else str(form)
    subprocess.run([tool, "convert", "-f", "raw", "-O", known_as, raw, f"file:{file}"], check=True)
    subprocess.run([tool, "convert", "-O", "raw", "--", qemu_source(file, form), out], check=True)
    assert out.read_bytes().startswith(raw.read_bytes())


def test_an_empty_parent_is_none(tmp_path: Path) -> None:
    check_harmless(disk(tmp_path, sparse(OWN + b'parentFileNameHint=""\n')))


@pytest.mark.parametrize("directory", [AT_END, 26])
def test_the_header_at_the_end_counts_too(tmp_path: Path, directory: int) -> None:
    first = header(directory=directory, flags=3 | 3 << 16) + OWN.ljust(20 * BLOCK, b"\0")
    content = first + ELSEWHERE.ljust(20 * BLOCK, b"\0") + header(at=21) + bytes(BLOCK)
    with pytest.raises(ImageError, match=r"^disk.vmdk names '../secret'"):
        check_harmless(disk(tmp_path, content))


def test_a_sparse_vmdk_without_a_size_is_what_it_describes(tmp_path: Path) -> None:
    (tmp_path / "part.vmdk").write_bytes(header(capacity=0) + ELSEWHERE)
    described = descriptor('RW 128 SPARSE "part.vmdk"')
    for content in (header(capacity=0) + described, described):
        with pytest.raises(ImageError, match=r"^part.vmdk names '../secret'"):
            check_harmless(disk(tmp_path, content))
    check_harmless(disk(tmp_path, sparse(described)))  # the name it had when it was made


def test_a_sparse_vmdk_of_esx_has_its_parent_there_too(tmp_path: Path) -> None:
    content = b"COWD".ljust(BLOCK, b"\0") + b'#\nparentFileNameHint="a"\n'
    with pytest.raises(ImageError, match="is a difference to another disk"):
        check_harmless(disk(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        OWN.replace(b"parentCID=ffffffff", b"parentCID=12345678"),
        OWN + b'ddb.uuid.parent="b61b936a-ae5d-4c8f-a82d-d946b5db76de"\n',
        sparse(OWN + b'ddb.uuid.parent="b61b936a-ae5d-4c8f-a82d-d946b5db76de"\n'),
        bytes(0x40) + b"\x7f\x10\xda\xbe" + struct.pack("<III", 0x10001, 400, 4) + bytes(500),
        (b"conectix" + bytes(52) + struct.pack(">I", 4)).ljust(2048, b"\0"),
        bytes(1024) + (b"conectix" + bytes(52) + struct.pack(">I", 4)).ljust(BLOCK, b"\0"),
    ],
)
def test_a_difference_that_knows_its_parent_by_number_is_not_whole(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ImageError, match=r"not whole without it\. Make a whole one where that is"):
        check_whole(disk(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        OWN + b'ddb.uuid.parent="00000000-0000-0000-0000-000000000000"\n',
        sparse(OWN),
        bytes(0x40) + b"\x7f\x10\xda\xbe" + struct.pack("<III", 0x10001, 400, 1) + bytes(500),
        (b"conectix" + bytes(52) + struct.pack(">I", 3)).ljust(2048, b"\0"),
        b"",
    ],
)
def test_a_disk_without_a_parent_is_whole(tmp_path: Path, content: bytes) -> None:
    check_whole(disk(tmp_path, content))


# Appliances

_OVF = """<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
<References><File href="{href}"/></References><VirtualSystem id="a"><vbox:OSType>Linux26_64</vbox:OSType>
<vbox:Machine stateFile="/home/you/thesis.odt" name="a"><Hardware/></vbox:Machine></VirtualSystem></Envelope>"""


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "alone"
    folder.mkdir()
    return folder


def appliance(folder: Path, href: str = "disk.vmdk") -> Path:
    """An appliance with VirtualBox's settings in it."""
    disk(folder, sparse(OWN))
    ovf = folder / "a.ovf"
    ovf.write_text(_OVF.format(href=href))
    return ovf


def test_virtualbox_gets_an_appliance_without_the_machines_settings(tmp_path: Path, alone: Path) -> None:
    ovf = appliance(tmp_path)
    before = ovf.read_bytes()
    copy = without_settings(ovf, check_appliance(ovf), alone)
    text = copy.read_text()
    assert "Machine" not in text.replace("ovf/machine", "")
    assert "thesis" not in text
    assert "Linux26_64" in text
    assert (alone / "disk.vmdk").read_bytes() == (tmp_path / "disk.vmdk").read_bytes()
    assert ovf.read_bytes() == before


@pytest.mark.parametrize("name", ["sha1", "sha256"])
def test_what_the_manifest_says_of_the_disk_is_left_to_virtualbox(tmp_path: Path, alone: Path, name: str) -> None:
    ovf, manifest = appliance(tmp_path), tmp_path / "a.mf"
    line = f"{name.upper()} (disk.vmdk) = 1234\n"
    manifest.write_text(f"{name.upper()} (a.ovf) = {hashlib.new(name, ovf.read_bytes()).hexdigest()}\n{line}")
    without_settings(ovf, check_appliance(ovf), alone)
    assert (alone / "a.mf").read_text() == line


def test_a_description_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path, alone: Path) -> None:
    ovf = appliance(tmp_path)
    (tmp_path / "a.mf").write_text(f"SHA256 (a.ovf) = {'0' * 64}\n")
    with pytest.raises(ImageError, match=r"a.ovf is not what its manifest a.mf says"):
        without_settings(ovf, check_appliance(ovf), alone)


@pytest.mark.parametrize("href", ["a.ovf", "a.mf"])
def test_no_part_takes_the_place_of_the_description(tmp_path: Path, alone: Path, href: str) -> None:
    ovf = appliance(tmp_path, href)
    (tmp_path / "a.mf").write_text("the user's\n")
    with pytest.raises(ImageError, match=r"names 'a.*' as a part of itself, which is no disk"):
        without_settings(ovf, check_appliance(ovf), alone)
    assert "thesis" not in (alone / "a.ovf").read_text()
    assert (tmp_path / "a.mf").read_text() == "the user's\n"
