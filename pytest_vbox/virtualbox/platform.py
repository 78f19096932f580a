"""IPlatform, IPlatformX86, IFirmwareSettings, IGraphicsAdapter: the board of a machine."""

from __future__ import annotations

from pytest_vbox.virtualbox.enums import (
    APICMode,
    ChipsetType,
    CPUPropertyTypeX86,
    FirmwareBootMenuMode,
    FirmwareType,
    GraphicsControllerType,
    GraphicsFeature,
    HWVirtExPropertyType,
    IommuType,
    TpmType,
)
from pytest_vbox.virtualbox.interface import Attribute, Interface, text


class FirmwareSettings(Interface):
    """IFirmwareSettings (IBIOSSettings up to 7.0)."""

    interface = "IFirmwareSettings"
    logo_fade_in = Attribute("logoFadeIn", bool)
    logo_fade_out = Attribute("logoFadeOut", bool)
    logo_display_time = Attribute("logoDisplayTime", int)
    logo_image_path = Attribute("logoImagePath", text)
    boot_menu_mode = Attribute("bootMenuMode", FirmwareBootMenuMode)
    acpi_enabled = Attribute("ACPIEnabled", bool)
    io_apic_enabled = Attribute("IOAPICEnabled", bool)
    apic_mode = Attribute("APICMode", APICMode)


class FirmwareKind(Interface):
    """The part of IFirmwareSettings that was IMachine's own up to 7.0."""

    interface = "IFirmwareSettings"
    firmware_type = Attribute("firmwareType", FirmwareType)


class PlatformX86(Interface):
    """IPlatformX86 (IMachine itself up to 7.0)."""

    interface = "IPlatformX86"
    hpet_enabled = Attribute("HPETEnabled", bool)

    def get_cpu_property(self, property_: CPUPropertyTypeX86) -> bool:
        return bool(self._call("getCPUProperty", property=property_))

    def set_cpu_property(self, property_: CPUPropertyTypeX86, value: bool) -> None:
        self._call("setCPUProperty", property=property_, value=value)

    def get_hw_virt_ex_property(self, property_: HWVirtExPropertyType) -> bool:
        return bool(self._call("getHWVirtExProperty", property=property_))

    def set_hw_virt_ex_property(self, property_: HWVirtExPropertyType, value: bool) -> None:
        self._call("setHWVirtExProperty", property=property_, value=value)


class Platform(Interface):
    """IPlatform (IMachine itself up to 7.0)."""

    interface = "IPlatform"
    rtc_use_utc = Attribute("RTCUseUTC", bool)
    chipset_type = Attribute("chipsetType", ChipsetType)
    iommu_type = Attribute("iommuType", IommuType)

    @property
    def x86(self) -> PlatformX86:
        return PlatformX86(self.api, str(self._call("getX86")))


class TrustedPlatformModule(Interface):
    """ITrustedPlatformModule (since 7.0)."""

    interface = "ITrustedPlatformModule"
    type = Attribute("type", TpmType)


class GraphicsAdapter(Interface):
    """IGraphicsAdapter (IMachine itself up to 6.0)."""

    interface = "IGraphicsAdapter"
    vram_size = Attribute("VRAMSize", int)
    monitor_count = Attribute("monitorCount", int)
    graphics_controller_type = Attribute("graphicsControllerType", GraphicsControllerType)

    def is_feature_enabled(self, feature: GraphicsFeature) -> bool:
        return bool(self._call("isFeatureEnabled", feature=feature))

    def set_feature(self, feature: GraphicsFeature, enabled: bool) -> None:
        self._call("setFeature", feature=feature, enabled=enabled)
