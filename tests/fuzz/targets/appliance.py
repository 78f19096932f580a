"""Descriptions of appliances: their files lie beside them, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pytest_vbox.images import ImageError
from pytest_vbox.images.appliances import without_settings
from pytest_vbox.images.formats import disk_format
from pytest_vbox.images.harmless import check_appliance

WORDS = [
    *(b"<File ", b'ovf:href="', b"../secret", b"/etc/passwd", b"file:///etc/passwd", b"http://x/", b"disk.vmdk"),
    *(b"<!DOCTYPE a [<!ENTITY b SYSTEM '/etc/passwd'>]>", b"&b;", b"<vbox:Machine ", b"ovf:compression='gzip'"),
    *(
        b"<xi:include href='/etc/passwd' xmlns:xi='http://www.w3.org/2001/XInclude'/>",
        b"%2e%2e/",
        b"\\",
        b"<?",
        b"?>",
    ),
]
_OVF = b"""<?xml version="1.0"?>
<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
<References><File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="512"/></References>
<DiskSection><Info>d</Info><Disk ovf:capacity="512" ovf:diskId="vmdisk1" ovf:fileRef="file1"/></DiskSection>
<VirtualSystem ovf:id="a"><Info>m</Info><vbox:Machine ovf:required="false" version="1.15" uuid="{0}" name="a"
 OSType="Linux26_64" snapshotFolder="Snapshots"><Hardware><SharedFolders><SharedFolder name="a" hostPath="/"/>
</SharedFolders></Hardware></vbox:Machine></VirtualSystem></Envelope>"""


def seeds() -> Iterator[bytes]:
    yield _OVF
    yield b'<Envelope><References><File href="disk.vmdk"/><File href="a.iso"/></References></Envelope>'


def run(data: bytes, folder: Path) -> None:
    (folder / "disk.vmdk").write_bytes(b"KDMV" + bytes(508))
    ovf = folder / "a.ovf"
    ovf.write_bytes(data)
    alone = folder / "alone"
    alone.mkdir()
    with suppress(ImageError):
        files = check_appliance(ovf)
        assert all(file.parent == folder for file in files), files
        copy = without_settings(ovf, files, alone)
        assert ovf.read_bytes() == data
        assert b"Machine " not in copy.read_bytes()
        assert check_appliance(copy.rename(folder / "b.ovf")) == files, "it names other files than before"
    with suppress(ImageError):
        disk_format(ovf, "a.ovf")
