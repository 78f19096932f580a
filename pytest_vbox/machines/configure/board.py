"""Processor, memory, firmware, screen, and what VirtualBox does for a machine."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pytest_vbox.machines.configure.refusal import Keys
from pytest_vbox.machines.configure.terms import api_term
from pytest_vbox.models import Hardware
from pytest_vbox.secret import Secret
from pytest_vbox.virtualbox import Machine
from pytest_vbox.virtualbox.enums import (
    APICMode,
    AudioCodecType,
    AudioControllerType,
    AudioDriverType,
    AuthType,
    AutostopType,
    ChipsetType,
    ClipboardMode,
    CPUPropertyTypeX86,
    DeviceType,
    DnDMode,
    FirmwareBootMenuMode,
    FirmwareType,
    GraphicsControllerType,
    GraphicsFeature,
    HWVirtExPropertyType,
    IommuType,
    KeyboardHIDType,
    ParavirtProvider,
    PointingHIDType,
    TpmType,
)

_BOOT_POSITIONS: Final = 4

# Keys that are an attribute of IMachine, and its enumeration if it has one.
_ATTRIBUTES: Final[Mapping[str, tuple[str, type[StrEnum] | None]]] = {
    "description": ("description", None),
    "hardware_uuid": ("hardware_uuid", None),
    "memory_balloon": ("memory_balloon_size", None),
    "page_fusion": ("page_fusion_enabled", None),
    "cpu_hot_plug": ("cpu_hot_plug_enabled", None),
    "cpu_execution_cap": ("cpu_execution_cap", None),
    "cpu_profile": ("cpu_profile", None),
    "paravirt_provider": ("paravirt_provider", ParavirtProvider),
    "pointing_hid": ("pointing_hid_type", PointingHIDType),
    "keyboard_hid": ("keyboard_hid_type", KeyboardHIDType),
    "clipboard_mode": ("clipboard_mode", ClipboardMode),
    "drag_and_drop": ("dnd_mode", DnDMode),
}
_PLATFORM: Final[Mapping[str, tuple[str, type[StrEnum] | None]]] = {
    "rtc_utc": ("rtc_use_utc", None),
    "chipset": ("chipset_type", ChipsetType),
    "iommu": ("iommu_type", IommuType),
}
_FIRMWARE: Final[Mapping[str, tuple[str, type[StrEnum] | None]]] = {
    "acpi": ("acpi_enabled", None),
    "apic_mode": ("apic_mode", APICMode),
}
_GRAPHICS: Final[Mapping[str, tuple[str, type[StrEnum] | None]]] = {
    "graphics_controller": ("graphics_controller_type", GraphicsControllerType),
    "vram": ("vram_size", None),
    "monitors": ("monitor_count", None),
}
_CPU_PROPERTIES: Final[Mapping[str, CPUPropertyTypeX86]] = {
    "pae": CPUPropertyTypeX86.PAE,
    "long_mode": CPUPropertyTypeX86.LONG_MODE,
    "triple_fault_reset": CPUPropertyTypeX86.TRIPLE_FAULT_RESET,
    "nested_virtualization": CPUPropertyTypeX86.HW_VIRT,
}
_HW_VIRT_EX: Final[Mapping[str, HWVirtExPropertyType]] = {
    "hardware_virtualization": HWVirtExPropertyType.ENABLED,
    "nested_paging": HWVirtExPropertyType.NESTED_PAGING,
    "large_pages": HWVirtExPropertyType.LARGE_PAGES,
    "vpid": HWVirtExPropertyType.VPID,
}
_AUDIO: Final[Mapping[str, tuple[str, type[StrEnum] | None]]] = {
    "controller": ("audio_controller", AudioControllerType),
    "codec": ("audio_codec", AudioCodecType),
    "driver": ("audio_driver", AudioDriverType),
    "input": ("enabled_in", None),
    "output": ("enabled_out", None),
    "enabled": ("enabled", None),
}


def configure(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    """Set what a machine has but once."""
    with keys.of("cpus"):
        machine.cpu_count = hardware.cpus
    with keys.of("memory"):
        machine.memory_size = hardware.memory
    _set(machine, hardware, _ATTRIBUTES, keys)
    _configure_platform(machine, hardware, keys)
    _configure_firmware(machine, hardware, keys)
    _configure_boot(machine, hardware, keys)
    if any(getattr(hardware, key) is not None for key in _GRAPHICS):
        _set(machine.graphics_adapter, hardware, _GRAPHICS, keys)
    if hardware.accelerate_3d is not None:
        with keys.of("accelerate_3d"):
            machine.graphics_adapter.set_feature(GraphicsFeature.ACCELERATION_3D, hardware.accelerate_3d)
    _configure_services(machine, hardware, keys)
    _configure_remote_display(machine, hardware, keys)
    if hardware.audio is not None:
        _set(machine.audio_adapter, hardware.audio, _AUDIO, keys, "audio")
    if hardware.snapshot_folder is not None:
        with keys.of("snapshot_folder"):
            machine.snapshot_folder = str(hardware.snapshot_folder / machine.name)


def _set(
    target: object,
    model: object,
    attributes: Mapping[str, tuple[str, type[StrEnum] | None]],
    keys: Keys,
    *above: str,
) -> None:
    """Set the attributes whose keys are given."""
    for key, (attribute, kind) in attributes.items():
        value = getattr(model, key)
        if value is not None:
            with keys.of(*above, key):
                setattr(target, attribute, api_term(kind, value) if kind is not None else value)


def _configure_platform(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    if any(getattr(hardware, key) is not None for key in _PLATFORM):
        _set(machine.platform, hardware, _PLATFORM, keys)
    if hardware.hpet is not None:
        with keys.of("hpet"):
            machine.platform.x86.hpet_enabled = hardware.hpet
    for key, cpu_property in _CPU_PROPERTIES.items():
        if (value := getattr(hardware, key)) is not None:
            with keys.of(key):
                machine.platform.x86.set_cpu_property(cpu_property, value)
    for key, hw_virt_ex in _HW_VIRT_EX.items():
        if (value := getattr(hardware, key)) is not None:
            with keys.of(key):
                machine.platform.x86.set_hw_virt_ex_property(hw_virt_ex, value)
    if hardware.tpm is not None:
        with keys.of("tpm"):
            machine.trusted_platform_module.type = api_term(TpmType, hardware.tpm)


def _configure_firmware(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    if hardware.firmware is not None:
        with keys.of("firmware"):
            machine.firmware_kind.firmware_type = api_term(FirmwareType, hardware.firmware)
    settings = machine.firmware_settings
    _set(settings, hardware, _FIRMWARE, keys)
    # Without it, all but one CPU stay asleep.
    io_apic = hardware.io_apic if hardware.io_apic is not None else (True if hardware.cpus > 1 else None)
    if io_apic is not None:
        with keys.of("io_apic"):
            settings.io_apic_enabled = io_apic
    # Logo and boot menu cost every boot about 2.5 s. (How long the logo stays is 0 unless it is set.)
    logo = hardware.boot_logo
    with keys.of("boot_logo"):
        settings.logo_fade_in = logo.fade_in
        settings.logo_fade_out = logo.fade_out
        if logo.display_time:
            settings.logo_display_time = logo.display_time
        if logo.image is not None:
            settings.logo_image_path = str(logo.image)
    with keys.of("boot_menu"):
        settings.boot_menu_mode = api_term(FirmwareBootMenuMode, hardware.boot_menu)


def _configure_boot(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    order = hardware.boot_order
    for position in range(1, _BOOT_POSITIONS + 1):
        device = api_term(DeviceType, order[position - 1]) if position <= len(order) else DeviceType.NULL
        with keys.of("boot_order"):
            machine.set_boot_order(position, device)


def _configure_services(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    if (cache := hardware.io_cache) is not None:
        with keys.of("io_cache"):
            machine.io_cache_enabled = cache.enabled
            machine.io_cache_size = cache.size
    if (teleporter := hardware.teleporter) is not None:
        with keys.of("teleporter"):
            machine.teleporter_enabled = teleporter.enabled
            machine.teleporter_port = teleporter.port
            machine.teleporter_address = teleporter.address
            if teleporter.password is not None:
                machine.teleporter_password = Secret(teleporter.password.get_secret_value())
    if (autostart := hardware.autostart) is not None:
        with keys.of("autostart"):
            machine.autostart_delay = autostart.delay
            # Both need VirtualBox's autostart database, which few hosts have.
            if autostart.stop != "disabled":
                machine.autostop_type = api_term(AutostopType, autostart.stop)
            if autostart.enabled:
                machine.autostart_enabled = True


def _configure_remote_display(machine: Machine, hardware: Hardware, keys: Keys) -> None:
    vrde = hardware.vrde
    if vrde is None:
        return
    with keys.of("vrde"):
        server = machine.vrde_server
        server.set_vrde_property("TCP/Ports", vrde.ports)
        server.set_vrde_property("TCP/Address", vrde.address)
        server.auth_type = api_term(AuthType, vrde.auth)
        server.allow_multi_connection = vrde.multi_connection
        server.enabled = vrde.enabled
