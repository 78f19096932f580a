"""The hardware of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from pytest_vbox.models.fields import NOT_BOOLEAN, Line, Memory, Model, Term, VideoMemory
from pytest_vbox.models.network import NetworkAdapter
from pytest_vbox.models.storage import StorageController


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


class GraphicsController(Term):
    """The graphics card that the guest sees."""

    VBOXVGA = "vboxvga"
    VMSVGA = "vmsvga"
    VBOXSVGA = "vboxsvga"
    NONE = "none"


def _extra_data_text(value: object) -> object:
    """A value as VirtualBox's extra data has it: always text, a boolean as 1 or 0."""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


ExtraDataText = Annotated[
    str,
    BeforeValidator(_extra_data_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
"""A value of extra data."""

OsType = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]
"""The id that VirtualBox has for a guest operating system (``VBoxManage list ostypes``)."""


class Hardware(Model):
    """What a machine is made of.

    A profile in YAML is one of these, an image's ``hardware`` and the overrides of a test are parts of one.
    """

    description: str | None = Field(default=None, description="For people; it changes nothing.")
    os_type: OsType | None = Field(
        default=None,
        description="VirtualBox's id for the guest's operating system (`VBoxManage list ostypes`). "
        "Comes over the image's own `os_type`.",
        json_schema_extra={"x-default": "the image's `os_type`"},
    )
    memory: Memory = Field(default=1024, description="Main memory, in MiB.")
    cpus: Annotated[int, Field(ge=1, le=64), NOT_BOOLEAN] = Field(default=1, description="Number of virtual CPUs.")
    vram: VideoMemory | None = Field(
        default=None,
        description="Graphics memory, in MiB.",
        json_schema_extra={"x-default": "VirtualBox's"},
    )
    firmware: Firmware = Field(
        default=Firmware.BIOS,
        description="What runs before the boot loader; `efi` takes the width from `os_type`.",
    )
    boot_order: tuple[BootDevice, ...] = Field(
        default=(BootDevice.HARD_DISK,),
        max_length=4,
        description="What the firmware tries to boot from, in this order.",
    )
    rtc_utc: bool = Field(
        default=True, description="Whether the hardware clock runs in UTC instead of the host's local time."
    )
    graphics_controller: GraphicsController | None = Field(
        default=None,
        description="The graphics card that the guest sees.",
        json_schema_extra={"x-default": "VirtualBox's"},
    )
    network: tuple[NetworkAdapter | None, ...] = Field(
        default=(NetworkAdapter(),),
        # The number of adapters of the PIIX3 chipset, the only one for now.
        max_length=8,
        description="Network adapters by slot; `null` leaves a slot unused.",
        json_schema_extra={"x-default": "one NAT adapter"},
    )
    storage: tuple[StorageController, ...] = Field(
        default=(StorageController(),),
        min_length=1,
        max_length=1,
        description="Storage controllers; for now exactly one, for the image's disk.",
        json_schema_extra={"x-default": "one SATA controller"},
    )
    extra_data: Mapping[Line, ExtraDataText] = Field(
        default={},
        description="Extra data of the machine, `VBoxInternal/…` keys too. Numbers become text, `true` and "
        "`false` become `1` and `0`.",
    )

    @field_validator("boot_order")
    @classmethod
    def _each_device_once(cls, devices: tuple[BootDevice, ...]) -> tuple[BootDevice, ...]:
        for position, device in enumerate(devices):
            if device in devices[:position]:
                raise ValueError(f"'{device}' is there twice; each device may be there once")
        return devices
