"""Random hardware models, and what VirtualBox's API says of the machines that are made of them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from pytest_vbox.models import Hardware
from pytest_vbox.models.ports import UsbController
from pytest_vbox.virtualbox import Machine, NetworkAdapter, StorageController
from pytest_vbox.virtualbox.devices import ParallelPort, SerialPort
from pytest_vbox.virtualbox.enums import CPUPropertyTypeX86, GraphicsFeature, HWVirtExPropertyType

Model = dict[str, Any]

NAMES: Final = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
LINES: Final = st.text(string.ascii_letters + string.digits + " äß漢-_.:", min_size=1, max_size=20).filter(
    lambda text: text.strip() == text
)
BOOLEANS: Final = st.booleans()
PORTS: Final = st.integers(1024, 65535)
#: Buses whose controllers have as many ports as they are told.
OPEN_PORTS: Final = frozenset({"sata", "sas", "virtio"})
DIRECTIONS: Final = st.sampled_from(["disabled", "host-to-guest", "guest-to-host", "bidirectional"])


def some(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Model]:
    """A mapping with any of these keys."""
    return st.fixed_dictionaries({}, optional=strategies)


def _nat_rules(numbers: list[int]) -> list[Model]:
    return [{"host_port": number, "guest_port": number % 1000 + 1, "name": f"rule-{number}"} for number in numbers]


def adapters() -> st.SearchStrategy[Model]:
    """Network adapters of all attachments that need nothing of the host."""
    common: Mapping[str, st.SearchStrategy[Any]] = {
        "enabled": BOOLEANS,
        "adapter_type": st.sampled_from(["Am79C970A", "Am79C973", "I82540EM", "I82543GC", "I82545EM", "Virtio"]),
        "cable_connected": BOOLEANS,
        "mac_address": st.integers(0, 2**24 - 1).map(lambda number: f"080027{number:06X}"),
        "line_speed": st.sampled_from([10_000, 100_000, 1_000_000]),
        "promiscuous_mode": st.sampled_from(["deny", "allow-network", "allow-all"]),
        "boot_priority": st.integers(0, 4),
    }
    nat = some(
        network=st.integers(1, 254).map(lambda number: f"10.{number}.0.0/24"),
        dns_pass_domain=BOOLEANS,
        dns_proxy=BOOLEANS,
        dns_use_host_resolver=BOOLEANS,
        localhost_reachable=BOOLEANS,
        alias_mode=st.sets(st.sampled_from(["log", "proxy-only", "use-same-ports"])).map(sorted),
        tftp_prefix=NAMES,
        tftp_boot_file=NAMES,
        tftp_next_server=st.just("10.0.2.9"),
    )
    rules = st.lists(PORTS, unique=True, max_size=3).map(_nat_rules)
    return st.one_of(
        some(**common, nat=nat, nat_rules=rules),
        some(**common, internal_network=NAMES).map(lambda model: {**model, "attachment": "internal"}),
        some(**common, generic_properties=st.dictionaries(NAMES, NAMES, max_size=2)).map(
            lambda model: {**model, "attachment": "generic", "generic_driver": "UDPTunnel"}
        ),
        some(**common).map(lambda model: {**model, "attachment": "null"}),
    )


def devices(bus: str) -> st.SearchStrategy[Model | None]:
    """What may be attached to a bus; new disks and empty drives."""
    common: Mapping[str, st.SearchStrategy[Any]] = {"hot_pluggable": BOOLEANS} if bus in {"sata", "usb"} else {}
    disk = some(**common, non_rotational=BOOLEANS, discard=BOOLEANS).flatmap(
        lambda model: st.builds(
            lambda size, variant: {**model, "create": {"size": size, "variant": variant}},
            st.integers(1, 2000),
            # A disk whose room is taken at once cannot be shrunk.
            st.sampled_from([["standard"]] if model.get("discard") else [["standard"], ["fixed"]]),
        )
    )
    disk = disk.map(lambda m: {**m, "create": {**m["create"], "size": 1 + m["create"]["size"] % 3}})
    drive = some(**common).map(lambda model: {**model, "type": "dvd"})
    floppy = st.just({"type": "floppy"})
    return st.none() | {"floppy": floppy, "nvme": disk}.get(bus, disk | drive)


def controllers() -> st.SearchStrategy[list[Model]]:
    """Storage: one controller of each of some buses, the first with room for the base."""

    def controller(bus: str, places: int) -> st.SearchStrategy[Model]:
        keys: dict[str, st.SearchStrategy[Any]] = {
            "bootable": BOOLEANS,
            "devices": st.lists(devices(bus), max_size=places),
        }
        if bus in {"ide", "sata", "scsi", "sas"}:
            keys["host_io_cache"] = BOOLEANS
        if bus == "ide":
            keys["type"] = st.sampled_from(["PIIX3", "PIIX4", "ICH6"])
        if bus == "scsi":
            keys["type"] = st.sampled_from(["LsiLogic", "BusLogic"])
        return some(**keys).map(
            lambda model: {
                **model,
                "bus": bus,
                **({"ports": places + 1} if bus in {"sata", "sas", "virtio"} else {}),
            }
        )

    buses = {"ide": 3, "sata": 3, "scsi": 3, "sas": 2, "virtio": 2, "usb": 2, "floppy": 2}
    several = st.sets(st.sampled_from(sorted(buses)), min_size=1).flatmap(
        lambda chosen: st.tuples(*(controller(bus, buses[bus]) for bus in sorted(chosen)))
    )
    return several.map(list).filter(lambda found: any(entry["bus"] != "floppy" for entry in found))


def serial_ports() -> st.SearchStrategy[Model]:
    """Serial ports of all modes."""
    chip = {"uart": st.sampled_from(["U16450", "U16550A", "U16750"]), "enabled": BOOLEANS}
    return st.one_of(
        some(**chip),
        some(**chip, server=BOOLEANS).map(lambda model: {**model, "mode": "pipe", "path": "/tmp/pipe"}),
        some(**chip).map(lambda model: {**model, "mode": "tcp", "port": 4000}),
        some(**chip).map(
            lambda model: {**model, "mode": "tcp", "server": False, "address": "127.0.0.1", "port": 4001}
        ),
        some(**chip).map(lambda model: {**model, "mode": "device", "path": "/dev/ttyS9"}),
        some(**chip).map(lambda model: {**model, "mode": "disconnected"}),
    )


def hardware(shared: Path) -> st.SearchStrategy[Model]:
    """Models with any keys of the hardware that a VirtualBox without a kernel module can take.

    Args:
        shared: A folder to share.
    """
    folder = some(writable=BOOLEANS, auto_mount=st.just(True), mount_point=st.just("/mnt/x")).map(
        lambda model: (
            {**model, "name": "share", "path": str(shared)}
            if "auto_mount" in model or "mount_point" not in model
            else {"name": "share", "path": str(shared)}
        )
    )
    everything = some(
        description=LINES,
        os_type=st.sampled_from(["Linux26_64", "Windows11_64", "FreeBSD_64", "Other"]),
        groups=st.sets(NAMES, max_size=2).map(lambda names: [f"/{name}" for name in sorted(names)]),
        hardware_uuid=st.uuids().map(str),
        memory=st.integers(4, 4096),
        cpus=st.integers(1, 2),
        cpu_hot_plug=BOOLEANS,
        cpu_execution_cap=st.integers(1, 100),
        cpu_profile=st.just("host"),
        **dict.fromkeys(["pae", "long_mode", "triple_fault_reset", "nested_virtualization"], BOOLEANS),
        **dict.fromkeys(["hardware_virtualization", "nested_paging", "large_pages", "vpid"], BOOLEANS),
        paravirt_provider=st.sampled_from(["none", "default", "legacy", "minimal", "hyperv", "kvm"]),
        chipset=st.sampled_from(["PIIX3", "ICH9"]),
        iommu=st.sampled_from(["none", "automatic"]),
        tpm=st.sampled_from(["none", "1.2", "2.0"]),
        firmware=st.sampled_from(["bios", "efi", "efi32", "efi64", "efidual"]),
        boot_order=st.lists(st.sampled_from(["hard-disk", "dvd", "floppy", "network"]), unique=True),
        boot_menu=st.sampled_from(["disabled", "menu-only", "message-and-menu"]),
        boot_logo=some(fade_in=BOOLEANS, fade_out=BOOLEANS, display_time=st.integers(1, 9999)),
        **dict.fromkeys(["acpi", "io_apic", "hpet", "rtc_utc", "accelerate_3d"], BOOLEANS),
        apic_mode=st.sampled_from(["disabled", "apic", "x2apic"]),
        vram=st.integers(2, 128),
        monitors=st.integers(1, 8),
        graphics_controller=st.sampled_from(["vboxvga", "vmsvga", "vboxsvga", "none"]),
        pointing_hid=st.sampled_from(["ps2-mouse", "usb-tablet", "usb-multi-touch"]),
        keyboard_hid=st.sampled_from(["ps2-keyboard", "usb-keyboard"]),
        clipboard_mode=DIRECTIONS,
        drag_and_drop=DIRECTIONS,
        vrde=some(
            enabled=BOOLEANS,
            ports=st.sampled_from(["3389", "5000-5050,6000"]),
            address=st.sampled_from(["127.0.0.1", ""]),
            auth=st.sampled_from(["null", "external", "guest"]),
            multi_connection=BOOLEANS,
        ),
        audio=some(
            enabled=BOOLEANS,
            driver=st.sampled_from(["default", "null", "alsa", "oss", "pulse"]),
            controller=st.sampled_from(["ac97", "sb16", "hda"]),
            input=BOOLEANS,
            output=BOOLEANS,
        ),
        network=st.lists(st.none() | adapters(), max_size=8),
        storage=controllers(),
        bandwidth_groups=st.sampled_from(
            [
                [
                    {"name": "slow", "type": "disk", "limit": "10 MB/s"},
                    {"name": "net", "type": "network", "limit": 0},
                ]
            ]
        ),
        io_cache=some(enabled=BOOLEANS, size=st.integers(1, 64)),
        shared_folders=folder.map(lambda model: [model]),
        serial_ports=st.lists(st.none() | serial_ports(), max_size=4),
        record_serial=BOOLEANS,
        parallel_ports=st.lists(st.none() | some(path=st.just("/dev/parport0"), enabled=BOOLEANS), max_size=2),
        teleporter=some(
            enabled=BOOLEANS, port=PORTS, address=st.sampled_from(["127.0.0.1", ""]), password=st.just("secret")
        ),
        autostart=some(delay=st.integers(0, 60)).map(lambda model: {**model, "enabled": False}),
        guest_properties=st.dictionaries(NAMES.map(lambda name: f"/test/{name}"), LINES, max_size=2),
        extra_data=st.dictionaries(NAMES.map(lambda name: f"Test/{name}"), LINES, max_size=2),
    )
    return everything.map(_fitting)


def _fitting(model: Model) -> Model:
    """A model without what its other keys don't go with."""
    if any(entry["bus"] == "usb" for entry in model.get("storage", ())):
        model = {**model, "usb_controllers": [kind.value for kind in UsbController]}
    if model.get("pointing_hid", "ps2").startswith("usb") or model.get("keyboard_hid", "ps2").startswith("usb"):
        model = {**model, "usb_controllers": [kind.value for kind in UsbController]}
    # No card has no memory, and only these two have 3D.
    without = {"vram"} if model.get("graphics_controller") == "none" else set()
    without |= {"accelerate_3d"} if model.get("graphics_controller") not in {"vmsvga", "vboxsvga"} else set()
    return {key: value for key, value in model.items() if key not in without}


def read_back(machine: Machine, model: Hardware) -> Model:
    """The keys that a model sets, as the API has them now; those that the model leaves open are left out."""
    return {key: value for key, value in _read(machine, model).items() if getattr(model, key) is not None}


def expected(model: Hardware) -> Model:
    """The same keys, as the model has them."""
    dumped = model.model_dump(mode="json")
    found = {key: value for key, value in dumped.items() if value is not None}
    for key in ("name", "os_type", "boot_device", "snapshot_folder", "record_serial", "network", "storage"):
        found.pop(key, None)
    found["groups"] = ["/pytest-vbox", *found["groups"]]
    if model.teleporter is not None:
        found["teleporter"].pop("password")
    if model.audio is not None:
        found["audio"] = {key: value for key, value in found["audio"].items() if value is not None}
    found["boot_logo"].pop("image")
    return found


def _word(value: str) -> str:
    return value.lower()


def _read(machine: Machine, model: Hardware) -> Model:
    platform, graphics, firmware = machine.platform, machine.graphics_adapter, machine.firmware_settings
    x86, vrde, audio = platform.x86, machine.vrde_server, machine.audio_adapter
    boot = [str(machine.get_boot_order(position)) for position in range(1, 5)]
    return {
        "description": machine.description,
        "groups": machine.groups,
        "hardware_uuid": machine.hardware_uuid,
        "memory": machine.memory_size,
        "memory_balloon": machine.memory_balloon_size,
        "page_fusion": machine.page_fusion_enabled,
        "cpus": machine.cpu_count,
        "cpu_hot_plug": machine.cpu_hot_plug_enabled,
        "cpu_execution_cap": machine.cpu_execution_cap,
        "cpu_profile": machine.cpu_profile,
        "pae": x86.get_cpu_property(CPUPropertyTypeX86.PAE),
        "long_mode": x86.get_cpu_property(CPUPropertyTypeX86.LONG_MODE),
        "triple_fault_reset": x86.get_cpu_property(CPUPropertyTypeX86.TRIPLE_FAULT_RESET),
        "nested_virtualization": x86.get_cpu_property(CPUPropertyTypeX86.HW_VIRT),
        "hardware_virtualization": x86.get_hw_virt_ex_property(HWVirtExPropertyType.ENABLED),
        "nested_paging": x86.get_hw_virt_ex_property(HWVirtExPropertyType.NESTED_PAGING),
        "large_pages": x86.get_hw_virt_ex_property(HWVirtExPropertyType.LARGE_PAGES),
        "vpid": x86.get_hw_virt_ex_property(HWVirtExPropertyType.VPID),
        "paravirt_provider": _word(machine.paravirt_provider),
        "chipset": str(platform.chipset_type),
        "iommu": _word(platform.iommu_type),
        "tpm": {"None": "none", "v1_2": "1.2", "v2_0": "2.0"}[machine.trusted_platform_module.type],
        "firmware": _word(machine.firmware_kind.firmware_type),
        "boot_order": [_DEVICES[device] for device in boot if device != "Null"],
        "boot_menu": _hyphened(firmware.boot_menu_mode),
        "boot_logo": {
            "fade_in": firmware.logo_fade_in,
            "fade_out": firmware.logo_fade_out,
            "display_time": firmware.logo_display_time,
        },
        "acpi": firmware.acpi_enabled,
        "io_apic": firmware.io_apic_enabled,
        "apic_mode": _word(firmware.apic_mode),
        "hpet": x86.hpet_enabled,
        "rtc_utc": platform.rtc_use_utc,
        "vram": graphics.vram_size,
        "monitors": graphics.monitor_count,
        "graphics_controller": _word(graphics.graphics_controller_type).replace("null", "none"),
        "accelerate_3d": graphics.is_feature_enabled(GraphicsFeature.ACCELERATION_3D),
        "pointing_hid": _HIDS[machine.pointing_hid_type],
        "keyboard_hid": _HIDS[machine.keyboard_hid_type],
        "clipboard_mode": _hyphened(machine.clipboard_mode),
        "drag_and_drop": _hyphened(machine.dnd_mode),
        "vrde": {
            "enabled": vrde.enabled,
            "ports": vrde.get_vrde_property("TCP/Ports"),
            "address": vrde.get_vrde_property("TCP/Address"),
            "auth": _word(vrde.auth_type),
            "multi_connection": vrde.allow_multi_connection,
        },
        "audio": {
            "enabled": audio.enabled,
            "driver": _word(audio.audio_driver),
            "input": audio.enabled_in,
            "output": audio.enabled_out,
            **(
                {"controller": _word(audio.audio_controller)}
                if model.audio is not None and model.audio.controller is not None
                else {}
            ),
        },
        "usb_controllers": [_word(controller.type) for controller in machine.usb_controllers],
        "bandwidth_groups": [
            {"name": group.name, "type": _word(group.type), "limit": group.max_bytes_per_sec}
            for group in (
                machine.bandwidth_control.get_bandwidth_group(wanted.name) for wanted in model.bandwidth_groups
            )
        ],
        "io_cache": {"enabled": machine.io_cache_enabled, "size": machine.io_cache_size},
        "shared_folders": [
            {
                "name": folder.name,
                "path": folder.host_path,
                "writable": folder.writable,
                "auto_mount": folder.auto_mount,
                "mount_point": folder.auto_mount_point or None,
            }
            for folder in machine.shared_folders
        ],
        "serial_ports": [
            _serial(machine.get_serial_port(slot), slot, port.model_dump(mode="json"))
            if port is not None
            else None
            for slot, port in enumerate(model.serial_ports)
        ],
        "parallel_ports": [
            port and _parallel(machine.get_parallel_port(slot), port.model_dump(mode="json"))
            for slot, port in enumerate(model.parallel_ports)
        ],
        "teleporter": {
            "enabled": machine.teleporter_enabled,
            "port": machine.teleporter_port,
            "address": machine.teleporter_address,
        },
        "autostart": {
            "enabled": machine.autostart_enabled,
            "delay": machine.autostart_delay,
            "stop": _hyphened(machine.autostop_type),
        },
        "guest_properties": {name: machine.get_guest_property_value(name) for name in model.guest_properties},
        "extra_data": {name: machine.get_extra_data(name) for name in model.extra_data},
    }


_DEVICES: Final = {"HardDisk": "hard-disk", "DVD": "dvd", "Floppy": "floppy", "Network": "network"}
_HIDS: Final = {
    "PS2Mouse": "ps2-mouse",
    "USBTablet": "usb-tablet",
    "USBMultiTouch": "usb-multi-touch",
    "PS2Keyboard": "ps2-keyboard",
    "USBKeyboard": "usb-keyboard",
}
_MODES: Final = {
    "RawFile": "file",
    "HostPipe": "pipe",
    "TCP": "tcp",
    "HostDevice": "device",
    "Disconnected": "disconnected",
}


def _hyphened(value: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in value).lstrip("-")


def _serial(port: SerialPort, slot: int, model: Model) -> Model:
    found: Model = {**model, "enabled": port.enabled, "mode": _MODES[port.host_mode], "server": port.server}
    path = port.path
    if found["mode"] == "file" and model["path"] is None:
        assert path.endswith(f"/serial-{slot}.log")
    elif found["mode"] == "tcp":
        address, _, number = path.rpartition(":")
        found |= {"port": int(number), "address": address or None}
    else:
        found["path"] = path or None
    if model["uart"] is not None:
        found["uart"] = str(port.uart_type)
    return found


def _parallel(port: ParallelPort, model: Model) -> Model:
    return {**model, "enabled": port.enabled, "path": port.path or None}


def adapter_read_back(adapter: NetworkAdapter, model: Model) -> Model:
    """The keys of an adapter that a model sets, as the API has them now."""
    engine = adapter.nat_engine
    found: Model = {
        "enabled": adapter.enabled,
        "attachment": {"NAT": "nat", "Internal": "internal", "Generic": "generic", "Null": "null"}[
            adapter.attachment_type
        ],
        "adapter_type": str(adapter.adapter_type),
        "cable_connected": adapter.cable_connected,
        "mac_address": adapter.mac_address,
        "line_speed": adapter.line_speed,
        "promiscuous_mode": _hyphened(adapter.promisc_mode_policy),
        "boot_priority": adapter.boot_priority,
        "internal_network": adapter.internal_network,
        "generic_driver": adapter.generic_driver,
        "generic_properties": {name: adapter.get_property(name) for name in model.get("generic_properties", {})},
        "nat": {
            "network": engine.network,
            "dns_pass_domain": engine.dns_pass_domain,
            "dns_proxy": engine.dns_proxy,
            "dns_use_host_resolver": engine.dns_use_host_resolver,
            "localhost_reachable": engine.localhost_reachable,
            "alias_mode": sorted(
                name
                for name, bit in (("log", 1), ("proxy-only", 2), ("use-same-ports", 4))
                if engine.alias_mode & bit
            ),
            "tftp_prefix": engine.tftp_prefix,
            "tftp_boot_file": engine.tftp_boot_file,
            "tftp_next_server": engine.tftp_next_server,
        },
        "nat_rules": [
            {"name": rule.name, "host_port": rule.host_port, "guest_port": rule.guest_port}
            for rule in sorted(engine.redirects, key=lambda rule: rule.name)
            if rule.name not in {"ssh", "wake"}
        ],
    }
    found["nat"] = {key: value for key, value in found["nat"].items() if key in model.get("nat", {})}
    return {key: value for key, value in found.items() if key in model}


def controller_read_back(controller: StorageController, model: Model) -> Model:
    """The keys of a controller that a model sets, but its devices, as the API has them now."""
    found: Model = {
        "bus": {"PCIe": "nvme", "VirtioSCSI": "virtio"}.get(controller.bus, _word(controller.bus)),
        "type": str(controller.controller_type),
        "ports": controller.port_count,
        "host_io_cache": controller.use_host_io_cache,
        "bootable": controller.bootable,
    }
    return {key: value for key, value in found.items() if key in model}
