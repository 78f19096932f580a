"""Controllers, disks, ports and networks: what they may say together, and what is said of what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from pytest_vbox.models import Hardware

from .models_kit import complaints_of, load

CREATE = "storage[0].devices[0].create"
GROUPS = "and of the bandwidth_groups of the type"
RATE = "must be a number of bytes per second, or text such as '10 MB/s' or '100 Mbit/s'"


def hardware(folder: Path, keys: str) -> Hardware:
    return load(folder, f"hardware:\n  x: {{{keys}}}\n").profiles["x"]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (
            "storage: [{bus: ide, devices: [null, null, null, null, {type: dvd}]}]",
            "storage[0].devices: has 5 entries, and the controller has 4 places",
        ),
        (
            "storage: [{ports: 1, devices: [{}, {type: dvd}]}]",
            "storage[0].devices: has 2 entries, and the controller has 1 places; more ports make more",
        ),
        (
            "storage: [{bus: nvme, devices: [{type: dvd}]}]",
            "storage[0].devices: [0] is of the type 'dvd', and the bus 'nvme' takes 'hard-disk'",
        ),
        (
            "storage: [{bus: floppy, devices: [{type: hard-disk}]}]",
            "storage[0].devices: [0] is of the type 'hard-disk', and the bus 'floppy' takes 'floppy'",
        ),
        (
            "storage: [{bus: ide}, {bus: ide, name: B}]",
            "storage: has 2 controllers on the bus 'ide', and PIIX3 allows 1",
        ),
        (
            "storage: [{}, {name: B}]",
            "storage: has 2 controllers on the bus 'sata', and PIIX3 allows 1; ICH9 has more",
        ),
        (
            "storage: [{bus: floppy}]",
            ": storage has no place for the image's disk: every position of every controller is taken",
        ),
        (
            "storage: [{ports: 1, devices: [{create: 1 GiB}]}]",
            ": storage has no place for the image's disk: every position of every controller is taken",
        ),
        ("storage: [{bus: usb}]", ": a storage controller on the bus 'usb' needs usb_controllers, such as [xhci]"),
        ("boot_device: [IDE, 0]", ": boot_device names the controller 'IDE'; there are: SATA"),
        ("boot_device: [SATA, 5]", ": boot_device: 'SATA' has the positions 0 to 1, not 5"),
        (
            "boot_device: [SATA, 0], storage: [{devices: [{type: dvd}]}]",
            ": boot_device: at position 0 of 'SATA' is something else already",
        ),
        (
            "boot_device: [A, 0], storage: [{}, {bus: floppy, name: A}]",
            ": boot_device names 'A', whose bus 'floppy' takes no hard disks",
        ),
        (
            "storage: [{devices: [{medium: a.vdi, create: 1 GiB}]}]",
            "storage[0].devices[0]: take medium (a file that is there) or create (a new disk), not both",
        ),
        (
            "storage: [{devices: [{type: dvd, create: 1 GiB}]}]",
            "storage[0].devices[0]: create is for the type 'hard-disk', and it is 'dvd'",
        ),
        (
            "storage: [{devices: [{attach: immutable}]}]",
            "storage[0].devices[0]: attach is for a disk that is there already, and there is no medium",
        ),
        (
            "storage: [{devices: [{create: {format: vdi}}]}]",
            "storage[0].devices[0].create.size: the key is missing",
        ),
        (
            "storage: [{devices: [{create: {size: 5, variant: split-2g}}]}]",
            "storage[0].devices[0].create.variant: 'split-2g' is for the format 'vmdk', and it is 'vdi'",
        ),
        (
            "storage: [{devices: [{create: {size: 5, format: vmdk, variant: stream-optimized}}]}]",
            f"{CREATE}.variant: 'stream-optimized' cannot be written to; it is for files that are sent elsewhere",
        ),
        (
            "storage: [{devices: [{bandwidth_group: slow}]}]",
            f": storage[0].devices[0] shares the limit 'slow', {GROUPS} 'disk' there are: none",
        ),
        (
            "bandwidth_groups: [{name: a, type: disk, limit: 1}], network: [{bandwidth_group: a}]",
            ": network[0] shares the limit 'a', and of the bandwidth_groups of the type 'network' there are: none",
        ),
        (
            "bandwidth_groups: [{name: a, type: disk, limit: fast}]",
            f"bandwidth_groups[0].limit: {RATE}, not 'fast'",
        ),
        (
            "bandwidth_groups: [{name: a, type: disk, limit: 1}, {name: a, type: disk, limit: 1}]",
            "bandwidth_groups: 2 are named 'a'; give each a name of its own",
        ),
        ("memory: 512, memory_balloon: 1 GiB", ": memory_balloon (1024 MiB) must be less than memory (512 MiB)"),
        ("iommu: amd", ": iommu 'amd' needs the chipset ICH9"),
        ("hardware_uuid: x", "hardware_uuid: must be a UUID, not 'x'"),
        ("groups: [a/b]", "groups[0]: must be a machine group such as /databases/old, not 'a/b'"),
        ("cpu_execution_cap: 101", "cpu_execution_cap: must be at most 100, not '101'"),
        ("usb_controllers: [xhci, XHCI]", "usb_controllers: 'xhci' is there twice; each may be there once"),
        ("serial_ports: [{mode: tcp}]", "serial_ports[0]: mode 'tcp' needs port"),
        (
            "serial_ports: [{mode: tcp, port: 1, path: x}]",
            "serial_ports[0]: mode 'tcp' takes address and port, not path",
        ),
        ("serial_ports: [{mode: pipe}]", "serial_ports[0]: mode 'pipe' needs path"),
        (
            "serial_ports: [{port: 5}]",
            "serial_ports[0]: port and address are for the mode 'tcp', and it is 'file'",
        ),
        ("serial_ports: [null, null, null, null, null]", "serial_ports: has 5 entries, at most 4 allowed"),
        (
            "shared_folders: [{name: a, path: x, mount_point: /mnt}]",
            "shared_folders[0]: mount_point is for auto_mount: true",
        ),
        ("shared_folders: [{name: a/b, path: x}]", "shared_folders[0].name: 'a/b' is not of the right form"),
        (
            "shared_folders: [{name: a, path: x}, {name: a, path: y}]",
            "shared_folders: 2 are named 'a'; give each a name of its own",
        ),
        ("vrde: {ports: x}", "vrde.ports: must be ports such as 3389 or 5000-5050, not 'x'"),
        ("network: [{attachment: bridged}]", "network[0]: the attachment 'bridged' needs bridged_interface"),
        ("network: [{attachment: generic}]", "network[0]: the attachment 'generic' needs generic_driver"),
        ("network: [{attachment: nat-network}]", "network[0]: the attachment 'nat-network' needs nat_network"),
        (
            "network: [{internal_network: a}]",
            "network[0]: internal_network is for the attachment 'internal', and it is 'nat'",
        ),
        (
            "network: [{nat: {network: x}}]",
            "network[0].nat.network: must be an IPv4 network such as 192.168.15.0/24, not 'x'",
        ),
        (
            "network: [{nat: {alias_mode: [x]}}]",
            "network[0].nat.alias_mode[0]: must be log, proxy-only or use-same-ports, not 'x'",
        ),
        (
            "network: [{attachment: host-only, host_only: {ip: x}}]",
            "network[0].host_only.ip: must be an IPv4 address, not 'x'",
        ),
    ],
)
def test_what_cannot_be_is_said_with_its_key_before_a_machine_is_made(
    tmp_path: Path, keys: str, complaint: str
) -> None:
    text = f"hardware:\n  x: {{{keys}}}\n"
    place = "2: hardware.x" if complaint.startswith(":") else "2: hardware.x."
    assert complaints_of(tmp_path, text) == [f"{place}{complaint}"]


@pytest.mark.parametrize(
    ("storage", "place"),
    [
        ("[{}]", ("SATA", 0, (0, 0))),
        ("[{devices: [{type: dvd}]}]", ("SATA", 1, (1, 0))),
        ("[{devices: [{create: 1 GiB}, {}]}]", ("SATA", 1, (1, 0))),
        ("[{bus: floppy}, {bus: ide, devices: [{type: dvd}]}]", ("IDE", 1, (0, 1))),
        ("[{bus: ide, devices: [null, null, {}]}]", ("IDE", 2, (1, 0))),
        ("[{bus: ide, devices: [{type: dvd}, {medium: a.vdi}]}, {devices: [{}]}]", ("SATA", 0, (0, 0))),
    ],
)
def test_where_the_images_disk_goes(tmp_path: Path, storage: str, place: tuple[str, int, tuple[int, int]]) -> None:
    controller, position = hardware(tmp_path, f"storage: {storage}").place_of_base()
    assert (controller.name, position, controller.place(position)) == place


def test_it_goes_where_it_is_told_to(tmp_path: Path) -> None:
    told = hardware(tmp_path, "boot_device: [B, 3], storage: [{}, {bus: ide, name: B}]")
    controller, position = told.place_of_base()
    assert (controller.name, controller.place(position)) == ("B", (1, 1))


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("5", 5), ("10 MB/s", 10_000_000), ("1 MiB/s", 1_048_576), ("100 Mbit/s", 12_500_000), ("1.5 kB/s", 1500)],
)
def test_rates_are_understood_in_bytes_and_bits(tmp_path: Path, limit: str, expected: int) -> None:
    (group,) = hardware(tmp_path, f"bandwidth_groups: [{{name: a, type: disk, limit: {limit}}}]").bandwidth_groups
    assert group.limit == expected


def test_a_size_alone_is_a_new_disk(tmp_path: Path) -> None:
    ((device,),) = (
        controller.devices
        for controller in hardware(tmp_path, "storage: [{bus: scsi, devices: [{create: 2 GB}]}]").storage
    )
    assert device is not None
    assert device.create is not None
    assert (device.create.size, device.create.format) == (1907, "vdi")


def test_a_teleporters_password_is_secret(tmp_path: Path) -> None:
    found = hardware(tmp_path, "teleporter: {password: hush}")
    assert found.teleporter is not None
    assert found.teleporter.password == SecretStr("hush")
    assert "hush" not in repr(found)


def test_ich9_has_36_adapters_and_more_controllers(tmp_path: Path) -> None:
    adapters = ", ".join(["null"] * 35)
    found = hardware(tmp_path, f"chipset: ich9, network: [{adapters}, {{}}], storage: [{{}}, {{name: B}}]")
    assert len(found.network) == 36
    assert len(found.storage) == 2
