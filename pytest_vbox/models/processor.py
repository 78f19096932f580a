"""The parts of the hardware around processor, memory, firmware and screen."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pytest_vbox.models.fields import NOT_BOOLEAN, LocalPath, Model, Term


class Firmware(Term):
    """What runs before the boot loader."""

    BIOS = "bios"
    EFI = "efi"
    EFI32 = "efi32"
    EFI64 = "efi64"
    EFIDUAL = "efidual"


class BootDevice(Term):
    """What the firmware may boot from."""

    HARD_DISK = "hard-disk"
    DVD = "dvd"
    FLOPPY = "floppy"
    NETWORK = "network"


class BootMenu(Term):
    """Whether the firmware offers a choice of what to boot from."""

    DISABLED = "disabled"
    MENU_ONLY = "menu-only"
    MESSAGE_AND_MENU = "message-and-menu"


class ApicMode(Term):
    """The interrupt controller that the firmware tells the guest of."""

    DISABLED = "disabled"
    APIC = "apic"
    X2APIC = "x2apic"


class Chipset(Term):
    """The chipset that the guest sees, in VirtualBox's spelling."""

    PIIX3 = "PIIX3"
    ICH9 = "ICH9"


class Iommu(Term):
    """The IOMMU that the guest sees; VirtualBox has none but AMD's."""

    NONE = "none"
    AUTOMATIC = "automatic"
    AMD = "amd"


class Tpm(Term):
    """The trusted platform module that the guest sees."""

    NONE = "none"
    V1_2 = "1.2"
    V2_0 = "2.0"
    HOST = "host"
    SWTPM = "swtpm"


class ParavirtProvider(Term):
    """The interface by which the guest knows that it is a guest."""

    NONE = "none"
    DEFAULT = "default"
    LEGACY = "legacy"
    MINIMAL = "minimal"
    HYPERV = "hyperv"
    KVM = "kvm"


class GraphicsController(Term):
    """The graphics card that the guest sees."""

    VBOXVGA = "vboxvga"
    VMSVGA = "vmsvga"
    VBOXSVGA = "vboxsvga"
    NONE = "none"


class PointingHid(Term):
    """The pointing device that the guest sees."""

    NONE = "none"
    PS2_MOUSE = "ps2-mouse"
    USB_MOUSE = "usb-mouse"
    USB_TABLET = "usb-tablet"
    COMBO_MOUSE = "combo-mouse"
    USB_MULTI_TOUCH = "usb-multi-touch"
    USB_MULTI_TOUCH_SCREEN_PLUS_PAD = "usb-multi-touch-screen-plus-pad"


class KeyboardHid(Term):
    """The keyboard that the guest sees."""

    NONE = "none"
    PS2_KEYBOARD = "ps2-keyboard"
    USB_KEYBOARD = "usb-keyboard"
    COMBO_KEYBOARD = "combo-keyboard"


class Direction(Term):
    """Which way something is shared between host and guest."""

    DISABLED = "disabled"
    HOST_TO_GUEST = "host-to-guest"
    GUEST_TO_HOST = "guest-to-host"
    BIDIRECTIONAL = "bidirectional"


class BootLogo(Model):
    """The firmware's logo. All of it costs time at every boot, so there is none unless it is asked for."""

    fade_in: bool = Field(default=False, description="Whether it fades in.")
    fade_out: bool = Field(default=False, description="Whether it fades out.")
    display_time: Annotated[int, Field(ge=0, le=60_000), NOT_BOOLEAN] = Field(
        default=0, description="How long it stays, in milliseconds."
    )
    image: LocalPath | None = Field(
        default=None,
        description="A picture of your own (BMP, 640x480), on the computer that VirtualBox runs on.",
        json_schema_extra={"x-default": "VirtualBox's"},
    )
