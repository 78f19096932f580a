"""The hardware of a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic.config import JsonDict

from pytest_vbox.models.bandwidth import BandwidthGroup, BandwidthKind
from pytest_vbox.models.fields import (
    NOT_BOOLEAN,
    VIRTUALBOX_S,
    Description,
    Line,
    LocalPath,
    Memory,
    Model,
    Name,
    Term,
    VideoMemory,
)
from pytest_vbox.models.machine_values import Balloon, ExtraDataText, Group, OsType, Percent, Uuid
from pytest_vbox.models.network import NetworkAdapter
from pytest_vbox.models.ports import Audio, ParallelPort, SerialPort, SharedFolder, UsbController
from pytest_vbox.models.problems import shown
from pytest_vbox.models.processor import (
    ApicMode,
    BootDevice,
    BootLogo,
    BootMenu,
    Chipset,
    Direction,
    Firmware,
    GraphicsController,
    Iommu,
    KeyboardHid,
    ParavirtProvider,
    PointingHid,
    Tpm,
)
from pytest_vbox.models.services import Autostart, IoCache, Teleporter, Vrde
from pytest_vbox.models.storage import StorageController, StorageDevice, most_controllers, place_of_base

MOST_ADAPTERS: Mapping[Chipset, int] = {Chipset.PIIX3: 8, Chipset.ICH9: 36}
"""How many network adapters a chipset has (IPlatformProperties::getMaxNetworkAdapters)."""


OF_OS_TYPE: JsonDict = {"x-default": "VirtualBox's for the `os_type`"}


class Hardware(Model):
    """What a machine is made of.

    A profile in YAML is one of these, an image's ``hardware`` and the overrides of a test are parts of one.
    """

    # What it is

    name: Name | None = Field(
        default=None,
        description="A wish for the machine's name, which is made unique; the test's own comes over it.",
        json_schema_extra={"x-default": "the test's name"},
    )
    description: Description | None = Field(default=None, description="For people; VirtualBox shows it too.")
    os_type: OsType | None = Field(
        default=None,
        description="VirtualBox's id for the guest's operating system (`VBoxManage list ostypes`). "
        "Comes over the image's own `os_type`.",
        json_schema_extra={"x-default": "the image's `os_type`"},
    )
    groups: tuple[Group, ...] = Field(
        default=(), description="VirtualBox's machine groups that it is in, besides `/pytest-vbox`."
    )
    hardware_uuid: Uuid | None = Field(
        default=None,
        description="The UUID that the guest sees (DMI). Every machine made from the model gets the same one.",
        json_schema_extra={"x-default": "the machine's own"},
    )

    # Processor and memory

    memory: Memory = Field(default=1024, description="Main memory, in MiB.")
    memory_balloon: Balloon | None = Field(
        default=None,
        description="Memory that the Guest Additions give back to the host, in MiB.",
        json_schema_extra={"x-default": "0"},
    )
    page_fusion: bool | None = Field(
        default=None, description="Whether equal pages of machines are kept once.", json_schema_extra=VIRTUALBOX_S
    )
    cpus: Annotated[int, Field(ge=1, le=64), NOT_BOOLEAN] = Field(
        default=1, description="Number of virtual CPUs; more than the host has are refused."
    )
    cpu_hot_plug: bool | None = Field(
        default=None, description="Whether CPUs can be plugged while it runs.", json_schema_extra=VIRTUALBOX_S
    )
    cpu_execution_cap: Percent | None = Field(
        default=None,
        description="How much of a host's core each CPU may use, in percent.",
        json_schema_extra=VIRTUALBOX_S,
    )
    cpu_profile: Line | None = Field(
        default=None,
        description="The processor that the guest sees, such as `host`.",
        json_schema_extra=VIRTUALBOX_S,
    )
    pae: bool | None = Field(
        default=None,
        description="Physical address extension for guests of 32 bits.",
        json_schema_extra=VIRTUALBOX_S,
    )
    long_mode: bool | None = Field(
        default=None, description="Whether guests of 64 bits can run.", json_schema_extra=VIRTUALBOX_S
    )
    triple_fault_reset: bool | None = Field(
        default=None, description="Whether a triple fault resets the machine.", json_schema_extra=VIRTUALBOX_S
    )
    hardware_virtualization: bool | None = Field(
        default=None, description="Whether VT-x or AMD-V is used.", json_schema_extra=VIRTUALBOX_S
    )
    nested_paging: bool | None = Field(
        default=None, description="Whether the processor's nested paging is used.", json_schema_extra=VIRTUALBOX_S
    )
    nested_virtualization: bool | None = Field(
        default=None, description="Whether the guest can run machines itself.", json_schema_extra=VIRTUALBOX_S
    )
    large_pages: bool | None = Field(
        default=None,
        description="Whether large pages are used for the guest's memory.",
        json_schema_extra=VIRTUALBOX_S,
    )
    vpid: bool | None = Field(
        default=None, description="Whether VT-x's VPID is used.", json_schema_extra=VIRTUALBOX_S
    )
    paravirt_provider: ParavirtProvider | None = Field(
        default=None,
        description="The interface by which the guest knows that it is one.",
        json_schema_extra=VIRTUALBOX_S,
    )

    # Chipset and firmware

    chipset: Chipset | None = Field(
        default=None,
        description="The chipset that the guest sees. PIIX3 has 8 network adapters, ICH9 36.",
        json_schema_extra=OF_OS_TYPE,
    )
    iommu: Iommu | None = Field(
        default=None,
        description="The IOMMU; needs the chipset ICH9 (VirtualBox 7.0).",
        json_schema_extra=VIRTUALBOX_S,
    )
    tpm: Tpm | None = Field(
        default=None, description="The trusted platform module (VirtualBox 7.0).", json_schema_extra=VIRTUALBOX_S
    )
    firmware: Firmware | None = Field(
        default=None,
        description="What runs before the boot loader; `efi` takes the width from `os_type`.",
        json_schema_extra=OF_OS_TYPE,
    )
    boot_order: tuple[BootDevice, ...] = Field(
        default=(BootDevice.HARD_DISK,),
        max_length=4,
        description="What the firmware tries to boot from, in this order.",
    )
    boot_menu: BootMenu = Field(
        default=BootMenu.DISABLED, description="Whether the firmware waits for a key at each boot. It costs time."
    )
    boot_logo: BootLogo = Field(
        default_factory=BootLogo,
        description="The firmware's logo.",
        json_schema_extra={"x-default": "none, at once"},
    )
    acpi: bool | None = Field(default=None, description="Whether there is ACPI.", json_schema_extra=VIRTUALBOX_S)
    io_apic: bool | None = Field(
        default=None,
        description="Whether there is an I/O APIC.",
        json_schema_extra={"x-default": "VirtualBox's; with more than one CPU on"},
    )
    apic_mode: ApicMode | None = Field(
        default=None,
        description="The interrupt controller that the firmware tells of.",
        json_schema_extra=VIRTUALBOX_S,
    )
    hpet: bool | None = Field(
        default=None, description="Whether there is a high precision event timer.", json_schema_extra=VIRTUALBOX_S
    )
    rtc_utc: bool | None = Field(
        default=None,
        description="Whether the hardware clock runs in UTC instead of the host's local time.",
        json_schema_extra=OF_OS_TYPE,
    )

    # Screen, keyboard, mouse, sound

    vram: VideoMemory | None = Field(
        default=None, description="Graphics memory, in MiB.", json_schema_extra=VIRTUALBOX_S
    )
    monitors: Annotated[int, Field(ge=1, le=64), NOT_BOOLEAN] | None = Field(
        default=None, description="Number of screens.", json_schema_extra={"x-default": "1"}
    )
    graphics_controller: GraphicsController | None = Field(
        default=None, description="The graphics card that the guest sees.", json_schema_extra=VIRTUALBOX_S
    )
    accelerate_3d: bool | None = Field(
        default=None, description="Whether the guest can use the host's 3D.", json_schema_extra=VIRTUALBOX_S
    )
    pointing_hid: PointingHid | None = Field(
        default=None, description="The pointing device that the guest sees.", json_schema_extra=VIRTUALBOX_S
    )
    keyboard_hid: KeyboardHid | None = Field(
        default=None, description="The keyboard that the guest sees.", json_schema_extra=VIRTUALBOX_S
    )
    clipboard_mode: Direction | None = Field(
        default=None, description="Which way the clipboard is shared.", json_schema_extra=VIRTUALBOX_S
    )
    drag_and_drop: Direction | None = Field(
        default=None, description="Which way things can be dragged.", json_schema_extra=VIRTUALBOX_S
    )
    vrde: Vrde | None = Field(
        default=None, description="The remote display.", json_schema_extra={"x-default": "none"}
    )
    audio: Audio | None = Field(
        default=None, description="The sound card.", json_schema_extra={"x-default": "none"}
    )
    usb_controllers: tuple[UsbController, ...] = Field(
        default=(), max_length=3, description="USB controllers; a device on USB needs one."
    )

    # Network, disks, ports

    network: tuple[NetworkAdapter | None, ...] = Field(
        default=(NetworkAdapter(),),
        max_length=max(MOST_ADAPTERS.values()),
        description="Network adapters by slot; `null` leaves a slot unused.",
        json_schema_extra={"x-default": "one NAT adapter"},
    )
    storage: tuple[StorageController, ...] = Field(
        default=(StorageController(),),
        min_length=1,
        max_length=32,
        description="Storage controllers.",
        json_schema_extra={"x-default": "one SATA controller"},
    )
    boot_device: tuple[Line, Annotated[int, Field(ge=0), NOT_BOOLEAN]] | None = Field(
        default=None,
        description="Where the image's disk goes: a controller's name and a position there, such as `[SATA, 0]`.",
        json_schema_extra={
            "x-default": "the first hard disk with neither `medium` nor `create`, else the first free position",
            "x-values": "list: a controller's name, a position",
        },
    )
    bandwidth_groups: tuple[BandwidthGroup, ...] = Field(
        default=(), description="Limits that disks and network adapters share."
    )
    io_cache: IoCache | None = Field(
        default=None,
        description="VirtualBox's cache for disks that do not use the host's.",
        json_schema_extra=VIRTUALBOX_S,
    )
    shared_folders: tuple[SharedFolder, ...] = Field(default=(), description="Folders of the host.")
    serial_ports: tuple[SerialPort | None, ...] = Field(
        default=(), max_length=4, description="Serial ports by slot; `null` leaves a slot unused."
    )
    record_serial: bool = Field(
        default=True,
        description="Whether what the guest says on its first serial port that is not in `serial_ports` is "
        "recorded, to be shown when something fails.",
    )
    parallel_ports: tuple[ParallelPort | None, ...] = Field(
        default=(), max_length=2, description="Parallel ports by slot; `null` leaves a slot unused."
    )

    # What VirtualBox does for it

    snapshot_folder: LocalPath | None = Field(
        default=None,
        description="Where snapshots and differencing disks go, on the computer that VirtualBox runs on; each "
        "machine gets a folder of its own in it.",
        json_schema_extra={"x-default": "the machine's folder"},
    )
    teleporter: Teleporter | None = Field(
        default=None,
        description="Waiting for a machine that is teleported here.",
        json_schema_extra={"x-default": "none"},
    )
    autostart: Autostart | None = Field(
        default=None, description="Starting and stopping with the host.", json_schema_extra={"x-default": "none"}
    )
    guest_properties: Mapping[Line, ExtraDataText] = Field(
        default={},
        description="Guest properties that are there from the start, for the Guest Additions to read.",
    )
    extra_data: Mapping[Line, ExtraDataText] = Field(
        default={},
        description="Extra data of the machine, `VBoxInternal/…` keys too. Numbers become text, `true` and "
        "`false` become `1` and `0`.",
    )

    @field_validator("boot_order", "usb_controllers")
    @classmethod
    def _each_once(cls, devices: tuple[Term, ...]) -> tuple[Term, ...]:
        for position, device in enumerate(devices):
            if device in devices[:position]:
                raise ValueError(f"'{device}' is there twice; each may be there once")
        return devices

    @field_validator("network")
    @classmethod
    def _slots_of_the_chipset(
        cls, adapters: tuple[NetworkAdapter | None, ...], info: ValidationInfo
    ) -> tuple[NetworkAdapter | None, ...]:
        chipset = _chipset(info.data)
        if len(adapters) > MOST_ADAPTERS[chipset]:
            hint = "; ICH9 has 36" if chipset is Chipset.PIIX3 else ""
            raise ValueError(
                f"has {len(adapters)} slots, and the chipset {chipset} has {MOST_ADAPTERS[chipset]}{hint}"
            )
        return adapters

    @field_validator("storage")
    @classmethod
    def _controllers_fit(
        cls, controllers: tuple[StorageController, ...], info: ValidationInfo
    ) -> tuple[StorageController, ...]:
        _refuse_twice("controllers are named", (controller.name for controller in controllers))
        chipset = _chipset(info.data)
        for bus, number in Counter(controller.bus for controller in controllers).items():
            most = most_controllers(bus, chipset)
            if number > most:
                hint = "; ICH9 has more" if most_controllers(bus, Chipset.ICH9) > most else ""
                raise ValueError(f"has {number} controllers on the bus '{bus}', and {chipset} allows {most}{hint}")
        return controllers

    @field_validator("shared_folders", "bandwidth_groups")
    @classmethod
    def _names_once(cls, named: tuple[Any, ...]) -> tuple[Any, ...]:
        _refuse_twice("are named", (entry.name for entry in named))
        return named

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Hardware:
        if self.memory_balloon is not None and self.memory_balloon >= self.memory:
            raise ValueError(
                f"memory_balloon ({self.memory_balloon} MiB) must be less than memory ({self.memory} MiB)"
            )
        if self.iommu not in {None, Iommu.NONE, Iommu.AUTOMATIC} and self.chipset is not Chipset.ICH9:
            raise ValueError(f"iommu '{self.iommu}' needs the chipset ICH9")
        if any(controller.bus == "usb" for controller in self.storage) and not self.usb_controllers:
            raise ValueError("a storage controller on the bus 'usb' needs usb_controllers, such as [xhci]")
        self._check_bandwidth_groups()
        self.place_of_base()
        return self

    def _check_bandwidth_groups(self) -> None:
        groups = {group.name: group.type for group in self.bandwidth_groups}
        members = [
            (f"storage[{index}].devices[{position}]", device.bandwidth_group, BandwidthKind.DISK)
            for index, controller in enumerate(self.storage)
            for position, device in enumerate(controller.devices)
            if device is not None
        ]
        members += [
            (f"network[{slot}]", adapter.bandwidth_group, BandwidthKind.NETWORK)
            for slot, adapter in enumerate(self.network)
            if adapter is not None
        ]
        for where, group, kind in members:
            if group is not None and groups.get(group) is not kind:
                fitting = ", ".join(name for name, type_ in groups.items() if type_ is kind) or "none"
                raise ValueError(
                    f"{where} shares the limit {shown(group)}, and of the bandwidth_groups of the type '{kind}' "
                    f"there are: {fitting}"
                )

    @property
    def devices(self) -> list[StorageDevice]:
        """What is on the storage controllers, but for the image's disk."""
        return [device for controller in self.storage for device in controller.devices if device is not None]

    @property
    def has_floppy(self) -> bool:
        """Whether there is a floppy, of which each machine has a copy."""
        return any(device.type == "floppy" and device.medium is not None for device in self.devices)

    @property
    def has_media_of_its_own(self) -> bool:
        """Whether there are disks that cannot be emptied like a difference: new ones, and copies of floppies."""
        return self.has_floppy or any(device.create is not None for device in self.devices)

    def place_of_base(self) -> tuple[StorageController, int]:
        """The controller and the position there that the image's disk goes to.

        Raises:
            ValueError: There is none.
        """
        return place_of_base(self.storage, self.boot_device)


def _chipset(data: Mapping[str, Any]) -> Chipset:
    """The chipset that limits hold for; one that was refused isn't in the data, and has been complained of."""
    return data.get("chipset", Chipset.ICH9) or Chipset.PIIX3


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise ValueError(f"{times} {what} {shown(name)}; give each a name of its own")
