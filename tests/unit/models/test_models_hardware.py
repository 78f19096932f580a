"""What a hardware profile may say, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pytest_vbox.models import Catalogue, Hardware, NetworkAdapter, StorageController

from .models_kit import complaints_of, load

NAME = "1 to 64 letters, digits, '.', '_' and '-', a letter or digit first"
ADAPTERS = "Am79C970A, Am79C973, I82540EM, I82543GC, I82545EM, I82583V, Virtio or UsbNet"
BUSES = "ide, sata, scsi, sas, usb, floppy, virtio or nvme"
ATTACHMENTS = "nat, nat-network, bridged, internal, host-only, host-only-network, generic or null"


def hardware(folder: Path, keys: str) -> Hardware:
    return load(folder, f"hardware:\n  x: {{{keys}}}\n").profiles["x"]


def test_the_built_in_profiles() -> None:
    profiles = Catalogue.load([]).profiles
    assert {name: (profile.memory, profile.cpus) for name, profile in profiles.items()} == {
        "micro": (512, 1),
        "small": (1024, 1),
        "medium": (2048, 2),
        "large": (4096, 4),
    }


def test_what_a_profile_is_that_says_nothing(tmp_path: Path) -> None:
    plain = load(tmp_path, "hardware: {x: }").profiles["x"]
    assert plain == Hardware()
    assert (plain.memory, plain.cpus, plain.firmware, plain.rtc_utc) == (1024, 1, None, None)
    assert plain.boot_order == ("hard-disk",)
    assert plain.network == (NetworkAdapter(),)
    assert plain.storage == (StorageController(),)
    assert (plain.os_type, plain.vram, plain.graphics_controller, plain.extra_data) == (None, None, None, {})


def test_a_model_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Hardware().memory = 1


@pytest.mark.parametrize(
    ("written", "mebibytes"),
    [
        ("2048", 2048),
        ("'2048'", 2048),
        ("2 GiB", 2048),
        ("2GiB", 2048),
        ("1.5 GiB", 1536),
        ("0.5 gib", 512),
        ("512 MB", 488),
        ("1 GB", 953),
        ("8192 KiB", 8),
        ("1 TiB", 1048576),
    ],
)
def test_units_of_memory(tmp_path: Path, written: str, mebibytes: int) -> None:
    assert hardware(tmp_path, f"memory: {written}").memory == mebibytes


@pytest.mark.parametrize(
    ("keys", "attribute", "value"),
    [
        ("os_type: Debian_64", "os_type", "Debian_64"),
        ("cpus: 3", "cpus", 3),
        ("vram: 16 MiB", "vram", 16),
        ("vram: 0", "vram", 0),
        ("firmware: EFI64", "firmware", "efi64"),
        ("boot_order: [Network, hard_disk, dvd, floppy]", "boot_order", ("network", "hard-disk", "dvd", "floppy")),
        ("boot_order: []", "boot_order", ()),
        ("rtc_utc: false", "rtc_utc", False),
        ("rtc_utc: no", "rtc_utc", False),
        ("graphics_controller: VBoxSVGA", "graphics_controller", "vboxsvga"),
        ("graphics_controller: none", "graphics_controller", "none"),
        ("network: []", "network", ()),
        ("network: [null, {}]", "network", (None, NetworkAdapter())),
        ("description: 5", "description", "5"),
    ],
)
def test_a_key_and_what_becomes_of_it(tmp_path: Path, keys: str, attribute: str, value: object) -> None:
    assert getattr(hardware(tmp_path, keys), attribute) == value


@pytest.mark.parametrize(
    ("written", "text"),
    [("0", "0"), ("007", "007"), ("0x1F", "0x1F"), ("1.50", "1.50"), ("true", "1"), ("false", "0"), ("on", "on")],
)
def test_extra_data_is_the_text_that_virtualbox_wants(tmp_path: Path, written: str, text: str) -> None:
    key = "VBoxInternal/Devices/e1000/0/Config/LinkUpDelay"
    assert hardware(tmp_path, f"extra_data: {{{key}: {written}}}").extra_data == {key: text}


@pytest.mark.parametrize(("given", "text"), [(5, "5"), (True, "1"), (False, "0"), (1.5, "1.5")])
def test_extra_data_given_in_python(given: object, text: str) -> None:
    assert Hardware.model_validate({"extra_data": {"k": given}}).extra_data == {"k": text}


def test_an_adapter(tmp_path: Path) -> None:
    keys = "enabled: false, attachment: 'null', adapter_type: VIRTIO, cable_connected: false"
    adapter = hardware(tmp_path, f"network: [{{{keys}}}]").network[0]
    assert adapter is not None
    assert (adapter.enabled, adapter.attachment, adapter.cable_connected) == (False, "null", False)
    assert adapter.adapter_type == "Virtio"


def test_an_attachment_of_bare_null_is_virtualbox_null(tmp_path: Path) -> None:
    adapter = hardware(tmp_path, "network: [{attachment: null}]").network[0]
    assert adapter is not None
    assert adapter.attachment == "null"


@pytest.mark.parametrize(
    "written",
    ["08:00:27:12:34:56", "08-00-27-12-34-56", "08.00.27.12.34.56", "080027123456", "'080027123456'"],
)
def test_mac_addresses_are_normalised(tmp_path: Path, written: str) -> None:
    adapter = hardware(tmp_path, f"network: [{{mac_address: {written}}}]").network[0]
    assert adapter is not None
    assert adapter.mac_address == "080027123456"


@pytest.mark.parametrize("digits", ["000000123456", "525400123456", "5e0027123456", "100000000000"])
def test_mac_addresses_that_look_like_numbers_stay_whole(tmp_path: Path, digits: str) -> None:
    adapter = hardware(tmp_path, f"network: [{{mac_address: {digits}}}]").network[0]
    assert adapter is not None
    assert adapter.mac_address == digits.upper()


def test_nat_rules(tmp_path: Path) -> None:
    named = "{name: d, protocol: UDP, guest_port: 53, host_port: 5353, host_ip: ''}"
    keys = f"network: [{{nat_rules: [{{guest_port: 80}}, {named}]}}]"
    adapter = hardware(tmp_path, keys).network[0]
    assert adapter is not None
    first, second = adapter.nat_rules
    assert (first.name, first.protocol, first.host_ip, first.host_port, first.guest_ip, first.guest_port) == (
        "tcp-80",
        "tcp",
        "127.0.0.1",
        0,
        "",
        80,
    )
    assert (second.name, second.protocol, second.host_ip, second.host_port) == ("d", "udp", "", 5353)


@pytest.mark.parametrize(
    ("bus", "name", "kind", "ports"),
    [
        ("ide", "IDE", "PIIX4", 2),
        ("sata", "SATA", "IntelAhci", 2),
        ("scsi", "SCSI", "LsiLogic", 16),
        ("sas", "SAS", "LsiLogicSas", 8),
        ("virtio", "VIRTIO", "VirtioSCSI", 2),
        ("NVMe", "NVME", "NVMe", 1),
    ],
)
def test_a_controller_by_its_bus(tmp_path: Path, bus: str, name: str, kind: str, ports: int) -> None:
    (controller,) = hardware(tmp_path, f"storage: [{{bus: {bus}}}]").storage
    assert (controller.name, controller.type, controller.ports) == (name, kind, ports)
    assert (controller.host_io_cache, controller.bootable) == (None, True)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("memry: 5", "memry: unknown key 'memry'; did you mean 'memory'?"),
        ("extend: y", "extend: unknown key 'extend'; did you mean 'extends'?"),
        ("mac_address: 5", "mac_address: unknown key 'mac_address'; it belongs under 'network:'"),
        ("memory: lots", "memory: must be a number of MiB, or text such as '2 GiB' or '512 MB', not 'lots'"),
        ("memory: 2 G", "memory: must be a number of MiB, or text such as '2 GiB' or '512 MB', not '2 G'"),
        ("memory: true", "memory: must be a number of MiB, or text such as '2 GiB' or '512 MB', not true"),
        ("memory: 1.5", "memory: must be a whole number of MiB, or have a unit, not '1.5'"),
        ("memory: 512 KiB", "memory: must be at least 4, not '512 KiB'"),
        ("memory: 3 TiB", "memory: must be at most 2097152, not '3 TiB'"),
        ("cpus: 0", "cpus: must be at least 1, not '0'"),
        ("cpus: 65", "cpus: must be at most 64, not '65'"),
        ("cpus: 2.5", "cpus: must be a whole number, not '2.5'"),
        ("cpus: true", "cpus: must be a number, not true"),
        ("cpus: [1]", "cpus: must be a whole number, not a list"),
        ("vram: 257", "vram: must be at most 256, not '257'"),
        ("rtc_utc: maybe", "rtc_utc: must be true or false, not 'maybe'"),
        ("os_type: 'Ubuntu 64'", "os_type: 'Ubuntu 64' is not of the right form"),
        (
            "firmware: uefi",
            "firmware: must be bios, efi, efi32, efi64 or efidual, not 'uefi'; did you mean 'efi'?",
        ),
        (
            "boot_order: [usb]",
            "boot_order[0]: must be hard-disk, dvd, floppy or network, not 'usb'",
        ),
        ("boot_order: [dvd, DVD]", "boot_order: 'dvd' is there twice; each may be there once"),
        ("boot_order: dvd", "boot_order: must be a list, not 'dvd'"),
        (
            "network: [{}, {}, {}, {}, {}, {}, {}, {}, {}]",
            "network: has 9 slots, and the chipset PIIX3 has 8; ICH9 has 36",
        ),
        ("network: {}", "network: must be a list, not a mapping"),
        ("network: [nat]", "network[0]: must be a mapping of keys to values, not 'nat'"),
        ("network: [{mac: x}]", "network[0].mac: unknown key 'mac'; did you mean 'mac_address'?"),
        (
            "network: [{mac_address: 01005e000001}]",
            "network[0].mac_address: must not be a multicast address (the second digit is odd): '01005e000001'",
        ),
        (
            "network: [{adapter_type: e1000}]",
            f"network[0].adapter_type: must be {ADAPTERS}, not 'e1000'",
        ),
        (
            "network: [{attachment: brigded}]",
            f"network[0].attachment: must be {ATTACHMENTS}, not 'brigded'; did you mean 'bridged'?",
        ),
        (
            "network: [{attachment: 'null', nat_rules: [{guest_port: 1}]}]",
            "network[0]: nat_rules is for the attachment 'nat', and it is 'null'",
        ),
        ("network: [{nat_rules: [{}]}]", "network[0].nat_rules[0].guest_port: the key is missing"),
        (
            "network: [{nat_rules: [{guest_port: 0}]}]",
            "network[0].nat_rules[0].guest_port: must be at least 1, not '0'",
        ),
        (
            "network: [{nat_rules: [{guest_port: 1, host_port: 65536}]}]",
            "network[0].nat_rules[0].host_port: must be at most 65535, not '65536'",
        ),
        (
            "network: [{nat_rules: [{guest_port: 1, host_ip: localhost}]}]",
            "network[0].nat_rules[0].host_ip: must be an IPv4 address, not 'localhost'",
        ),
        (
            "network: [{nat_rules: [{guest_port: 1, name: SSH}]}]",
            "network[0].nat_rules[0].name: the name 'SSH' is reserved for pytest-vbox; take another one",
        ),
        (
            "network: [{nat_rules: [{guest_port: 1, name: 'a,b'}]}]",
            f"network[0].nat_rules[0].name: 'a,b' is not a name: {NAME}",
        ),
        (
            "network: [{nat_rules: [{guest_port: 1}, {guest_port: 1}]}]",
            "network[0].nat_rules: 2 rules are named 'tcp-1'; give each a name of its own",
        ),
        (
            "network: [{nat_rules: [{guest_port: 1, host_port: 9}, {guest_port: 2, host_port: 9}]}]",
            "network[0].nat_rules: 2 rules use the host's tcp port 9 on '127.0.0.1'",
        ),
        ("storage: []", "storage: has 0 entries, at least 1 needed"),
        ("storage: [{}, {}]", "storage: 2 controllers are named 'SATA'; give each a name of its own"),
        (
            "storage: [{bus: sta}]",
            f"storage[0].bus: must be {BUSES}, not 'sta'; did you mean 'sata'?",
        ),
        (
            "storage: [{bus: ide, type: IntelAhci}]",
            "storage[0].type: must be PIIX4 or PIIX3 or ICH6 on the bus 'ide', not 'IntelAhci'",
        ),
        ("storage: [{ports: 31}]", "storage[0].ports: must be 1 to 30 on the bus 'sata', not 31"),
        ("storage: [{bus: sas, ports: 256}]", "storage[0].ports: must be 1 to 255 on the bus 'sas', not 256"),
        (
            "storage: [{bus: scsi, ports: 8}]",
            "storage[0].ports: must be 16: the bus 'scsi' always has that many, not 8",
        ),
        (
            "storage: [{bus: ide, ports: 5}]",
            "storage[0].ports: must be 2: the bus 'ide' always has that many, not 5",
        ),
        ("storage: [{name: ''}]", "storage[0].name: must not be empty"),
        ("extra_data: [a]", "extra_data: must be a mapping of keys to values, not a list"),
        ("extra_data: {a: [1]}", "extra_data.a: must be text"),
        ("extra_data: {'': 1}", "extra_data.'': must not be empty"),
        ("description: [a]", "description: must be text"),
        ("description: true", "description: must be text; put it in quotes"),
    ],
)
def test_what_is_wrong_is_said_with_line_key_and_way_out(tmp_path: Path, keys: str, complaint: str) -> None:
    assert complaints_of(tmp_path, f"hardware:\n  x: {{{keys}}}\n") == [f"2: hardware.x.{complaint}"]


@pytest.mark.parametrize(
    "written", ["0800.2712.3456", "08:0027123456", "08:00:27:12:34", "08002712345g", "08-00:27-12:34-56", "5"]
)
def test_mac_addresses_that_are_none(tmp_path: Path, written: str) -> None:
    (complaint,) = complaints_of(tmp_path, f"hardware: {{x: {{network: [{{mac_address: '{written}'}}]}}}}")
    assert complaint == (
        "1: hardware.x.network[0].mac_address: "
        f"must be 12 hexadecimal digits, such as 08:00:27:12:34:56, not '{written}'"
    )


def test_an_unknown_key_near_to_nothing_lists_the_keys(tmp_path: Path) -> None:
    (complaint,) = complaints_of(tmp_path, "hardware: {x: {network: [{nat_rules: [{zzz: 1, guest_port: 1}]}]}}")
    assert complaint == (
        "1: hardware.x.network[0].nat_rules[0].zzz: unknown key 'zzz'; the keys here are: "
        "protocol, host_ip, host_port, guest_ip, guest_port, name"
    )
