"""Disks of every format become bases with the same content; boxes and downloads become machines."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import http.server
import io
import json
import lzma
import shutil
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from machine_support import disk_of, forget, locations, names_of_ours

from pytest_vbox.deadline import Deadline
from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.images import Bases, ImageError, Library, VirtualBoxConverter
from pytest_vbox.images.compression import zstd
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import DiskFormat, Image
from pytest_vbox.virtualbox.enums import CleanupMode, DeviceType, LockType, MediumType, MediumVariant, StorageBus

SIZE = 8 * 1024**2


@pytest.fixture(scope="module")
def content() -> bytes:
    """What is on the small disk: a partition table's mark, and blocks that differ."""
    blocks = [hashlib.sha256(bytes([number % 256])).digest() * 16 for number in range(64)]
    disk = bytearray(SIZE)
    for number, block in enumerate(blocks):
        disk[number * 100_352 : number * 100_352 + 512] = block
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


@pytest.fixture
def library(vbox_host: VirtualBoxHost, tmp_path: Path) -> Iterator[Library]:
    """A library of its own, whose disks VirtualBox forgets afterwards."""
    library = Library(tmp_path / "cache", vbox_host.context.state, VirtualBoxConverter(vbox_host.api))
    yield library
    forget(vbox_host, [entry.disk for entry in library.stored()])


@pytest.fixture
def raw(tmp_path: Path, content: bytes) -> Path:
    """The small disk, raw."""
    path = tmp_path / "small.img"
    path.write_bytes(content)
    return path


@pytest.fixture
def made(vbox_host: VirtualBoxHost, raw: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes the small disk in a format of VirtualBox's own."""

    def make(form: str, name: str, variant: MediumVariant = MediumVariant.STANDARD) -> Path:
        vdi = tmp_path / "made.vdi"
        if not vdi.exists():
            VirtualBoxConverter(vbox_host.api).from_raw(raw, vdi, lambda *_: None)
        source = vbox_host.api.open_medium(str(vdi))
        target = vbox_host.api.create_medium(form, str(tmp_path / name))
        source.clone_to(target, [variant]).wait(Deadline(60))
        target.close()
        source.close()
        return tmp_path / name

    return make


def qcow2(content: bytes) -> bytes:
    """A qcow2 of version 2, every cluster in it."""
    cluster = 65536
    clusters = len(content) // cluster
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, len(content), 0, 1, 3 * cluster, cluster, 1, 0, 0
    )
    first = 5
    counts = b"".join(struct.pack(">H", 1) for _ in range(first + clusters))
    table = b"".join(struct.pack(">Q", (first + number) * cluster | 1 << 63) for number in range(clusters))
    parts = [header, struct.pack(">Q", 2 * cluster), counts, struct.pack(">Q", 4 * cluster | 1 << 63), table]
    return b"".join(part.ljust(cluster, b"\0") for part in parts) + content


def content_of(host: VirtualBoxHost, disk: Path, folder: Path) -> bytes:
    """What a guest would see on a disk: read by copying it to a flat VMDK."""
    medium = host.api.open_medium(str(disk))
    flat = host.api.create_medium("VMDK", str(folder / "seen.vmdk"))
    medium.clone_to(flat, [MediumVariant.FIXED]).wait(Deadline(60))
    flat.close()
    medium.close()
    (data,) = folder.glob("seen-flat.vmdk")
    return data.read_bytes()


OVF = """<?xml version="1.0"?>
<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
 <References><File ovf:id="file1" ovf:href="{disk}"/></References>
 <DiskSection><Info>Disks</Info>
  <Disk ovf:capacity="{size}" ovf:diskId="vmdisk1" ovf:fileRef="file1"
   ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
 <VirtualSystem ovf:id="small"><Info>A machine</Info>
  <OperatingSystemSection ovf:id="94"><Info>Ubuntu</Info><Description>Ubuntu_64</Description>
  </OperatingSystemSection>
  <VirtualHardwareSection><Info>Hardware</Info>
   <System><vssd:ElementName>Hardware</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
    <vssd:VirtualSystemIdentifier>small</vssd:VirtualSystemIdentifier>
    <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType></System>
   <Item><rasd:ElementName>2 CPUs</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
    <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
   <Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:ElementName>Memory</rasd:ElementName>
    <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>
    <rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
   <Item><rasd:Address>0</rasd:Address><rasd:ElementName>ideController0</rasd:ElementName>
    <rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>PIIX4</rasd:ResourceSubType>
    <rasd:ResourceType>5</rasd:ResourceType></Item>
   <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk1</rasd:ElementName>
    <rasd:HostResource>/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
    <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
  </VirtualHardwareSection></VirtualSystem></Envelope>
"""


def archive(path: Path, mode: Literal["w", "w:gz"], **members: bytes | Path) -> Path:
    """A tar archive; names have ``__`` for a dot."""
    with tarfile.open(path, mode) as tar:
        for name, member in members.items():
            data = member if isinstance(member, bytes) else member.read_bytes()
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


FORMATS = ("raw", "raw.gz", "vdi.xz", "vmdk.zst", "vhd.bz2", "qcow2", "qcow2.gz", "ova", "ovf", "box", "tar box")


@pytest.fixture
def file_of(raw: Path, made: Callable[..., Path], tmp_path: Path, content: bytes) -> Callable[[str], Path]:
    """The small disk as a file of each format."""
    optimized = partial(made, "VMDK", "stream.vmdk", MediumVariant.VMDK_STREAM_OPTIMIZED)
    folder = tmp_path / "files"
    folder.mkdir()

    def write(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    def ovf() -> Path:
        shutil.copy(optimized(), folder / "stream.vmdk")
        return write("small.ovf", OVF.format(disk="stream.vmdk", size=SIZE).encode())

    def ova() -> Path:
        text = OVF.format(disk="stream.vmdk", size=SIZE).encode()
        return archive(folder / "small.ova", "w", small__ovf=text, stream__vmdk=optimized())

    def box(mode: Literal["w", "w:gz"]) -> Path:
        metadata = json.dumps({"provider": "virtualbox"}).encode()
        vagrantfile = b'Vagrant.configure("2") do |config|\n  config.vm.base_mac = "080027AABBCC"\nend\n'
        members: dict[str, bytes | Path] = {
            "metadata__json": metadata,
            "Vagrantfile": vagrantfile,
            "any-name__vmdk": optimized(),
        }
        return archive(folder / "small.box", mode, **members)

    makers: dict[str, Callable[[], Path]] = {
        "raw": lambda: raw,
        "raw.gz": lambda: write("small.img.gz", gzip.compress(content)),
        "vdi.xz": lambda: write("small.vdi.xz", lzma.compress(made("VDI", "a.vdi").read_bytes(), preset=0)),
        "vmdk.zst": lambda: write("small.vmdk.zst", zstd.compress(made("VMDK", "a.vmdk").read_bytes())),
        "vhd.bz2": lambda: write("small.vhd.bz2", bz2.compress(made("VHD", "a.vhd").read_bytes(), 1)),
        "qcow2": lambda: write("small.qcow2", qcow2(content)),
        "qcow2.gz": lambda: write("small.qcow2.gz", gzip.compress(qcow2(content))),
        "ova": ova,
        "ovf": ovf,
        "box": lambda: box("w:gz"),
        "tar box": lambda: box("w"),
    }
    return lambda form: makers[form]()


@pytest.mark.parametrize("form", FORMATS)
def test_a_disk_of_any_format_becomes_a_vdi_with_the_same_content_and_nothing_else_is_left(
    vbox_host: VirtualBoxHost,
    library: Library,
    file_of: Callable[[str], Path],
    content: bytes,
    tmp_path: Path,
    form: str,
) -> None:
    file = file_of(form)
    before = file.read_bytes()
    usable = library.usable(Image(disk=file))
    assert file.read_bytes() == before
    assert usable.disk.name == "disk.vdi"
    assert content_of(vbox_host, usable.disk, tmp_path) == content
    assert not [name for name in names_of_ours(vbox_host) if name.startswith("pytest-vbox import")]
    (stored,) = library.stored()
    kept = {path.name for path in stored.folder.iterdir()}
    assert kept - {"vagrant_insecure_key"} == {"disk.vdi", "meta.json"}
    assert not [place for place in locations(vbox_host.api.hard_disks) if str(tmp_path) in place]
    if "ov" in form:
        assert stored.suggested["os_type"] == "Ubuntu_64"
        assert (stored.suggested["cpus"], stored.suggested["bus"]) == ("2", "ide")
    if "box" in form:
        assert (usable.user, stored.suggested) == ("vagrant", {"base_mac": "080027AABBCC"})
        assert usable.private_key is not None
        assert usable.private_key.stat().st_mode & 0o777 == 0o600
    library.verify(stored)
    assert library.usable(Image(disk=file)).disk == usable.disk
    assert library.remove(stored) > 0
    assert library.stored() == []


def test_vhds_vmdks_and_vdis_are_used_where_they_are(library: Library, made: Callable[..., Path]) -> None:
    for form in ("VDI", "VMDK", "VHD"):
        file = made(form, f"b.{form.lower()}")
        assert library.usable(Image(disk=file)).disk == file
    fixed = made("VHD", "fixed.vhd", MediumVariant.FIXED)
    assert library.usable(Image(disk=fixed)).disk == fixed
    assert library.stored() == []


def test_a_raw_disk_without_a_partition_table_needs_to_be_called_raw(
    vbox_host: VirtualBoxHost, library: Library, tmp_path: Path
) -> None:
    file = tmp_path / "plain.bin"
    file.write_bytes(b"A" * 4 * 1024**2)
    usable = library.usable(Image(disk=file, format=DiskFormat.RAW))
    assert content_of(vbox_host, usable.disk, tmp_path).startswith(b"A" * 4 * 1024**2)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="only qemu-img makes a VHDX")
def test_a_vhdx_becomes_a_vdi_with_the_same_content(
    vbox_host: VirtualBoxHost, library: Library, raw: Path, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "small.vhdx"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vhdx", raw, file], check=True, timeout=60)
    usable = library.usable(Image(disk=file))
    # A VHDX is as long as whole blocks are.
    assert content_of(vbox_host, usable.disk, tmp_path).rstrip(b"\0") == content.rstrip(b"\0")


def test_what_virtualbox_cannot_read_is_said_with_the_way_out(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "torn.qcow2"
    file.write_bytes(qcow2(b""))
    with pytest.raises(ImageError, match=r"^torn\.qcow2 is a disk of 0 bytes$"):
        library.usable(Image(disk=file))
    file.write_bytes(b"QFI\xfb" + struct.pack(">I", 99) + bytes(4000))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match=r"(?s)VirtualBox cannot read torn\.qcow2: .*Install qemu-img"):
        library.usable(Image(disk=file))
    assert library.stored() == []


def test_a_disk_that_the_user_has_in_virtualbox_stays_there_as_it_was(
    vbox_host: VirtualBoxHost, library: Library, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "mine.qcow2"
    file.write_bytes(qcow2(content))
    mine = vbox_host.api.open_medium(str(file))
    try:
        usable = library.usable(Image(disk=file))
        assert content_of(vbox_host, usable.disk, tmp_path) == content
        assert str(file) in locations(vbox_host.api.hard_disks)
    finally:
        mine.close()


def test_a_box_of_vagrants_whose_disk_virtualbox_knows_from_elsewhere_is_imported_and_not_written(
    vbox_host: VirtualBoxHost,
    library: Library,
    made: Callable[..., Path],
    tmp_path: Path,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAGRANT_HOME", str(tmp_path / "vagrant.d"))
    folder = tmp_path / "vagrant.d" / "boxes" / "me-VAGRANTSLASH-it" / "1.0" / "amd64" / "virtualbox"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text('{"provider": "virtualbox"}')
    original = made("VMDK", "original.vmdk", MediumVariant.VMDK_STREAM_OPTIMIZED)
    disk = Path(shutil.copy(original, folder / "box.vmdk"))
    before = disk.read_bytes()
    same = vbox_host.api.open_medium(str(original))
    try:
        usable = library.usable(Image(vagrant="me/it"))
    finally:
        same.close()
    assert content_of(vbox_host, usable.disk, tmp_path) == content
    assert disk.read_bytes() == before
    assert [path.name for path in usable.disk.parent.glob("copy*")] == []


def test_a_disk_is_neither_removed_nor_replaced_while_a_machine_uses_it(
    vbox_host: VirtualBoxHost,
    library: Library,
    made: Callable[..., Path],
    tmp_path: Path,
    content: bytes,
) -> None:
    packed = tmp_path / "small.vdi.gz"
    packed.write_bytes(gzip.compress(made("VDI", "a.vdi").read_bytes(), 1))
    image = Image(disk=packed)
    disk = library.usable(image).disk
    bases = Bases(vbox_host.session, vbox_host.context.state)
    name = f"pytest-vbox-test-{tmp_path.name}"
    machine = vbox_host.api.create_machine("", name, [], "Other_64", "forceOverwrite=1")
    machine.add_storage_controller("SATA", StorageBus.SATA)
    vbox_host.api.register_machine(machine)
    (stored,) = library.stored()
    try:
        with (
            bases.ready(disk, MediumType.MULTI_ATTACH, Deadline(30)) as base,
            vbox_host.session.lock(machine, LockType.WRITE, Deadline(30)) as session,
        ):
            session.machine.attach_device("SATA", 0, 0, DeviceType.HARD_DISK, base)
            session.machine.save_settings()
            (difference,) = base.children
        with pytest.raises(ImageError, match=f"in use by machine '{name}'"):
            library.remove(stored)
        # Somebody's difference to a disk that VirtualBox knows would have brought that disk's content with it.
        evil = tmp_path / "evil.vdi.gz"
        evil.write_bytes(gzip.compress(Path(difference.location).read_bytes(), 1))
        with pytest.raises(ImageError, match=r"^evil\.vdi (is a difference to another disk|.*parent)"):
            library.usable(Image(disk=evil))
        (stored.folder / "meta.json").unlink()
        with pytest.raises(ImageError, match=f"in use by machine '{name}'"):
            library.usable(image)
        assert disk.exists()
    finally:
        machine.delete_config(machine.unregister(CleanupMode.DETACH_ALL_RETURN_HARD_DISKS_ONLY)).wait(Deadline(30))
    assert library.usable(image).disk == disk
    assert content_of(vbox_host, disk, tmp_path) == content


def test_a_cache_that_was_deleted_is_made_anew_though_virtualbox_remembers_its_disks(
    vbox_host: VirtualBoxHost, library: Library, made: Callable[..., Path], tmp_path: Path
) -> None:
    packed = tmp_path / "small.vdi.gz"
    packed.write_bytes(gzip.compress(made("VDI", "a.vdi").read_bytes(), 1))
    bases = Bases(vbox_host.session, vbox_host.context.state)
    for _ in range(2):
        disk = library.usable(Image(disk=packed)).disk
        with bases.ready(disk, MediumType.MULTI_ATTACH, Deadline(30)) as base:
            assert base.type is MediumType.MULTI_ATTACH
        shutil.rmtree(tmp_path / "cache")
    library.usable(Image(disk=packed))
    (stored,) = library.stored()
    assert library.remove(stored) > 0
    assert not [place for place in locations(vbox_host.api.hard_disks) if str(tmp_path) in place]


def test_what_a_process_that_died_was_converting_is_taken_out_of_virtualbox(
    vbox_host: VirtualBoxHost, library: Library, made: Callable[..., Path], tmp_path: Path
) -> None:
    plain = made("VDI", "a.vdi")
    packed = tmp_path / "small.vdi.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 1))
    place = library.usable(Image(disk=packed)).disk.parent
    half = place.rename(place.with_name(f"{place.name}.0123.half"))
    vbox_host.api.open_medium(str(half / "disk.vdi"))
    library.usable(Image(disk=packed))
    assert not half.exists()
    assert not [place for place in locations(vbox_host.api.hard_disks) if str(tmp_path) in place]


def test_a_machine_boots_from_a_box_and_is_logged_in_to_with_the_boxs_own_key(
    vbox_machine: MachineFactory,
    yaml_images: Callable[[str], None],
    vbox_host: VirtualBoxHost,
    tiny: Image,
    tmp_path: Path,
) -> None:
    assert tiny.private_key is not None
    vagrantfile = b"""Vagrant.configure("2") do |config|
      config.ssh.username = 'root'
      config.ssh.private_key_path = "key"
      system("touch /tmp/never-run")
    end\n"""
    box = archive(
        tmp_path / "tiny.box",
        "w:gz",
        metadata__json=b'{"provider": "virtualbox"}',
        Vagrantfile=vagrantfile,
        key=tiny.private_key,
        disk__vdi=disk_of(tiny),
    )
    yaml_images(f"boxed: {{disk: {box}}}")
    vm = vbox_machine(image="boxed")
    assert vm.run("whoami").stdout == "root\n"
    vbox_host.remove(vm)
    (stored,) = (entry for entry in vbox_host.library.stored() if entry.source == str(box))
    # Machines were made of it, and it is what it was.
    vbox_host.library.verify(stored)
    assert [golden.image for golden in vbox_host.golden.remove_of(stored.disk)] == [vm.image]
    vbox_host.library.remove(stored)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A folder that is served on loopback: ``tmp_path / "www"``."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_machine_boots_from_a_compressed_download_whose_sum_is_in_a_list(
    vbox_machine: MachineFactory,
    yaml_images: Callable[[str], None],
    vbox_host: VirtualBoxHost,
    tiny: Image,
    tmp_path: Path,
    served: str,
) -> None:
    file = tmp_path / "www" / "tiny.vdi.gz"
    file.write_bytes(gzip.compress(disk_of(tiny).read_bytes(), 1))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "www" / "SHA256SUMS").write_text(f"{digest} *tiny.vdi.gz\n")
    login = f"user: root, private_key: {tiny.private_key}"
    yaml_images(f"fetched: {{url: {served}/tiny.vdi.gz, sha256: {served}/SHA256SUMS, {login}}}")
    vm = vbox_machine(image="fetched")
    assert vm.run("echo here").stdout == "here\n"
    vbox_host.remove(vm)
    (stored,) = (entry for entry in vbox_host.library.stored() if entry.sha256 == digest)
    file.unlink()
    # Without the file, and without network, it is there.
    assert vbox_host.library.find(vbox_host.catalogue.images["fetched"]) == stored
    assert [golden.image for golden in vbox_host.golden.remove_of(stored.disk)] == [vm.image]
    vbox_host.library.remove(stored)


SETTINGS = """<vbox:Machine xmlns:vbox="http://www.virtualbox.org/ovf/machine" ovf:required="false"
 version="1.15-linux" uuid="{{c58bd13a-01d9-4045-a472-ae18650a2f94}}" name="small" OSType="Linux26_64"
 snapshotFolder="Snapshots" stateFile="{precious}" lastStateChange="2020-01-01T00:00:00Z">
 <ovf:Info>Settings</ovf:Info>
 <MediaRegistry><HardDisks><HardDisk uuid="{{18bf3a2a-c501-4e38-81b2-fdff20b0beb4}}" location="{disk}"
 format="VDI" type="Normal"/></HardDisks></MediaRegistry>
 <Hardware><CPU count="1"/><Memory RAMSize="512"/><BIOS><IOAPIC enabled="true"/></BIOS></Hardware>
 <StorageControllers><StorageController name="IDE" type="PIIX4" PortCount="2" useHostIOCache="true"
 Bootable="true"><AttachedDevice type="HardDisk" port="0" device="0">
 <Image uuid="{{28bf3a2a-c501-4e38-81b2-fdff20b0beb4}}"/></AttachedDevice></StorageController>
 </StorageControllers></vbox:Machine></VirtualSystem>"""


def test_an_appliance_neither_deletes_a_file_of_the_users_nor_registers_a_disk_of_theirs(
    vbox_host: VirtualBoxHost,
    library: Library,
    file_of: Callable[[str], Path],
    made: Callable[..., Path],
    tmp_path: Path,
) -> None:
    ovf, disk, precious = file_of("ovf"), made("VDI", "theirs.vdi"), tmp_path / "thesis.sav"
    precious.write_bytes(b"years of work")
    settings = SETTINGS.format(precious=precious, disk=disk)
    number = 'xmlns:vbox="http://www.virtualbox.org/ovf/machine" vbox:uuid="28bf3a2a-c501-4e38-81b2-fdff20b0beb4"'
    text = ovf.read_text().replace("</VirtualSystem>", settings).replace("<Disk ", f"<Disk {number} ")
    ovf.write_text(text)
    stored = library.usable(Image(disk=ovf))
    assert stored.disk.is_file()
    assert precious.read_bytes() == b"years of work"
    assert str(disk) not in locations(vbox_host.api.hard_disks)
    assert not [name for name in names_of_ours(vbox_host) if name.startswith("pytest-vbox import")]
