"""Storage controllers and what is attached to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from pytest_vbox.models.fields import (
    NOT_BOOLEAN,
    VIRTUALBOX_S,
    DiskSize,
    Line,
    LocalPath,
    Model,
    Name,
    OrText,
    Term,
)
from pytest_vbox.models.problems import shown
from pytest_vbox.models.processor import Chipset


class Bus(Term):
    """How disks are connected to a controller."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    SAS = "sas"
    USB = "usb"
    FLOPPY = "floppy"
    VIRTIO = "virtio"
    NVME = "nvme"


class ControllerType(Term):
    """The chip that the guest sees, in VirtualBox's spelling."""

    PIIX3 = "PIIX3"
    PIIX4 = "PIIX4"
    ICH6 = "ICH6"
    INTEL_AHCI = "IntelAhci"
    LSI_LOGIC = "LsiLogic"
    BUS_LOGIC = "BusLogic"
    LSI_LOGIC_SAS = "LsiLogicSas"
    VIRTIO_SCSI = "VirtioSCSI"
    NVME = "NVMe"
    USB = "USB"
    I82078 = "I82078"


class DeviceKind(Term):
    """What is attached to a place of a controller."""

    HARD_DISK = "hard-disk"
    DVD = "dvd"
    FLOPPY = "floppy"


class DiskVariant(Term):
    """How a new disk's file is laid out."""

    STANDARD = "standard"
    FIXED = "fixed"
    SPLIT_2G = "split-2g"
    STREAM_OPTIMIZED = "stream-optimized"
    ESX = "esx"


class NewDiskFormat(Term):
    """The format of a new disk."""

    VDI = "vdi"
    VMDK = "vmdk"
    VHD = "vhd"


class DiskAttach(Term):
    """What becomes of a machine's changes to a disk that is there already."""

    MULTIATTACH = "multiattach"
    IMMUTABLE = "immutable"


class _Rules(NamedTuple):
    """What VirtualBox allows on a bus; the first type is the default."""

    types: tuple[ControllerType, ...]
    fewest: int
    most: int
    ports: int
    devices_per_port: int = 1
    kinds: tuple[DeviceKind, ...] = (DeviceKind.HARD_DISK, DeviceKind.DVD)
    most_on_ich9: int = 8


# IPlatformProperties: getMinPortCountForStorageBus, getMaxPortCountForStorageBus,
# getMaxDevicesPerPortForStorageBus, getDeviceTypesForStorageBus, getMaxInstancesOfStorageBus (PIIX3: one).
# By default, SATA and virtio have room for the base and one device more: guests probe every port while they boot,
# which costs them time.
_RULES: Mapping[Bus, _Rules] = {
    Bus.IDE: _Rules(
        (ControllerType.PIIX4, ControllerType.PIIX3, ControllerType.ICH6),
        2,
        2,
        2,
        devices_per_port=2,
        most_on_ich9=1,
    ),
    Bus.SATA: _Rules((ControllerType.INTEL_AHCI,), 1, 30, 2),
    Bus.SCSI: _Rules((ControllerType.LSI_LOGIC, ControllerType.BUS_LOGIC), 16, 16, 16),
    Bus.SAS: _Rules((ControllerType.LSI_LOGIC_SAS,), 1, 255, 8),
    Bus.USB: _Rules((ControllerType.USB,), 8, 8, 8, most_on_ich9=1),
    Bus.FLOPPY: _Rules(
        (ControllerType.I82078,), 1, 1, 1, devices_per_port=2, kinds=(DeviceKind.FLOPPY,), most_on_ich9=1
    ),
    Bus.VIRTIO: _Rules((ControllerType.VIRTIO_SCSI,), 1, 256, 2),
    Bus.NVME: _Rules((ControllerType.NVME,), 1, 255, 1, kinds=(DeviceKind.HARD_DISK,)),
}


def _rules(data: Mapping[str, Any]) -> _Rules:
    # A bus that was refused isn't in the data; the defaults made then are dropped with the model.
    return _RULES[data.get("bus", Bus.SATA)]


def _variants(value: object) -> object:
    """One variant alone is short for a list of it."""
    return [value] if isinstance(value, str) else value


class NewDisk(Model):
    """A disk that is made with each machine, and goes with it."""

    size: DiskSize = Field(description="What the guest sees as its size, in MiB.")
    format: NewDiskFormat = Field(default=NewDiskFormat.VDI, description="Its format.")
    variant: Annotated[tuple[DiskVariant, ...], BeforeValidator(_variants)] = Field(
        default=(DiskVariant.STANDARD,),
        description="`standard` grows when it is written to, `fixed` takes all its room at once.",
    )

    @field_validator("variant")
    @classmethod
    def _fits_the_format(cls, variants: tuple[DiskVariant, ...], info: ValidationInfo) -> tuple[DiskVariant, ...]:
        wanted = info.data.get("format")
        for variant in variants:
            if variant not in {DiskVariant.STANDARD, DiskVariant.FIXED} and wanted is not NewDiskFormat.VMDK:
                raise ValueError(f"'{variant}' is for the format 'vmdk', and it is '{wanted}'")
        if DiskVariant.STREAM_OPTIMIZED in variants:
            raise ValueError("'stream-optimized' cannot be written to; it is for files that are sent elsewhere")
        return variants


def _size_alone(value: object) -> object:
    """A size is short for a disk of that size."""
    return {"size": value} if isinstance(value, str | int) and not isinstance(value, bool) else value


class StorageDevice(Model):
    """What is attached to one place of a controller."""

    type: DeviceKind = Field(
        default=DeviceKind.HARD_DISK,
        description="What it is. A DVD or floppy drive without `medium` is empty; a hard disk without `medium` "
        "and `create` is where the image's disk goes.",
    )
    medium: LocalPath | None = Field(
        default=None,
        description="A file: a disk that is there already, an ISO image, or a floppy image, of which each machine "
        "gets a copy. It is never written to.",
    )
    attach: DiskAttach = Field(
        default=DiskAttach.MULTIATTACH,
        description="What becomes of a machine's changes to a disk that is there already: kept over a restart of "
        "the machine, or dropped at every power-up. The file itself stays as it is in both cases.",
    )
    create: Annotated[NewDisk | None, BeforeValidator(_size_alone), OrText()] = Field(
        default=None, description="A new disk, made with each machine; a size alone will do."
    )
    hot_pluggable: bool | None = Field(
        default=None,
        description="Whether the guest may be told of it while it runs.",
        json_schema_extra=VIRTUALBOX_S,
    )
    non_rotational: bool | None = Field(
        default=None,
        description="Whether the guest takes it for a solid-state disk.",
        json_schema_extra=VIRTUALBOX_S,
    )
    discard: bool | None = Field(
        default=None,
        description="Whether what the guest discards shrinks the file (VDI).",
        json_schema_extra=VIRTUALBOX_S,
    )
    bandwidth_group: Name | None = Field(
        default=None, description="The limit that it shares, one of `bandwidth_groups` of the type `disk`."
    )

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> StorageDevice:
        if self.medium is not None and self.create is not None:
            raise ValueError("take medium (a file that is there) or create (a new disk), not both")
        if self.type is not DeviceKind.HARD_DISK:
            for key in ("create", "attach", "non_rotational", "discard", "bandwidth_group"):
                if key in self.model_fields_set:
                    raise ValueError(f"{key} is for the type 'hard-disk', and it is '{self.type}'")
        if "attach" in self.model_fields_set and self.medium is None:
            raise ValueError("attach is for a disk that is there already, and there is no medium")
        return self

    @property
    def is_for_the_base(self) -> bool:
        """Whether it only says where the image's disk goes."""
        return self.type is DeviceKind.HARD_DISK and self.medium is None and self.create is None


class StorageController(Model):
    """A storage controller, and what is attached to it."""

    bus: Bus = Field(default=Bus.SATA, description="How disks are connected.")
    name: Line = Field(
        default_factory=lambda data: str(data.get("bus", "")).upper(),
        max_length=64,
        description="The controller's name in VirtualBox.",
        json_schema_extra={"x-default": "the bus in upper case"},
    )
    type: ControllerType = Field(
        default_factory=lambda data: _rules(data).types[0],
        description="The chip that the guest sees. IDE: PIIX4, PIIX3 or ICH6; SCSI: LsiLogic or BusLogic; "
        "the other buses have one each.",
        json_schema_extra={"x-default": "the bus's first"},
    )
    ports: Annotated[int, NOT_BOOLEAN] = Field(
        default_factory=lambda data: _rules(data).ports,
        description="Number of ports. SATA: 1 to 30, SAS: 1 to 255, virtio: 1 to 256, NVMe: 1 to 255; "
        "SCSI always has 16, IDE always 2 (with two devices each).",
        json_schema_extra={"x-default": "SATA and virtio 2, SAS 8, NVMe 1"},
    )
    host_io_cache: bool | None = Field(
        default=None,
        description="Whether the host's cache is used for the disks.",
        json_schema_extra={"x-default": "VirtualBox's, which depends on the bus"},
    )
    bootable: bool = Field(default=True, description="Whether the firmware may boot from its disks.")
    devices: tuple[StorageDevice | None, ...] = Field(
        default=(),
        description="What is attached, by position; `null` leaves a position free. IDE has the positions primary "
        "master, primary slave, secondary master, secondary slave; the others count ports.",
    )

    @field_validator("type")
    @classmethod
    def _type_fits(cls, value: ControllerType, info: ValidationInfo) -> ControllerType:
        allowed = _rules(info.data).types
        if "bus" in info.data and value not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)} on the bus '{info.data['bus']}', not '{value}'")
        return value

    @field_validator("ports")
    @classmethod
    def _ports_fit(cls, value: int, info: ValidationInfo) -> int:
        rules = _rules(info.data)
        if "bus" not in info.data or rules.fewest <= value <= rules.most:
            return value
        if rules.fewest == rules.most:
            raise ValueError(
                f"must be {rules.most}: the bus '{info.data['bus']}' always has that many, not {value}"
            )
        raise ValueError(f"must be {rules.fewest} to {rules.most} on the bus '{info.data['bus']}', not {value}")

    @field_validator("devices")
    @classmethod
    def _devices_fit(
        cls, devices: tuple[StorageDevice | None, ...], info: ValidationInfo
    ) -> tuple[StorageDevice | None, ...]:
        rules = _rules(info.data)
        if "bus" not in info.data or "ports" not in info.data:
            return devices
        places = info.data["ports"] * rules.devices_per_port
        if len(devices) > places:
            hint = "; more ports make more" if rules.most > info.data["ports"] else ""
            raise ValueError(f"has {len(devices)} entries, and the controller has {places} places{hint}")
        for position, device in enumerate(devices):
            if device is not None and device.type not in rules.kinds:
                kinds = " and ".join(f"'{kind}'" for kind in rules.kinds)
                raise ValueError(
                    f"[{position}] is of the type '{device.type}', and the bus '{info.data['bus']}' takes {kinds}"
                )
        return devices

    @property
    def places(self) -> int:
        """How many devices there may be."""
        return self.ports * _RULES[self.bus].devices_per_port

    @property
    def takes_hard_disks(self) -> bool:
        """Whether a hard disk can be attached."""
        return DeviceKind.HARD_DISK in _RULES[self.bus].kinds

    def place(self, position: int) -> tuple[int, int]:
        """Port and device of a position."""
        return divmod(position, _RULES[self.bus].devices_per_port)

    def device(self, position: int) -> StorageDevice | None:
        """What is attached to a position."""
        return self.devices[position] if position < len(self.devices) else None


def most_controllers(bus: Bus, chipset: Chipset) -> int:
    """How many controllers of a bus a machine may have."""
    return _RULES[bus].most_on_ich9 if chipset is Chipset.ICH9 else 1


def place_of_base(
    controllers: Sequence[StorageController], wanted: tuple[str, int] | None
) -> tuple[StorageController, int]:
    """The controller and the position there that an image's disk goes to.

    Args:
        controllers: A machine's controllers.
        wanted: A controller's name and a position, or None for the first hard disk that is for it, else the first
            position that is free.

    Raises:
        ValueError: There is none.
    """
    if wanted is not None:
        return _asked_for(controllers, *wanted)
    for fits in (_is_for_the_base, _is_free):
        for controller in controllers:
            for position in range(controller.places if controller.takes_hard_disks else 0):
                if fits(controller, position):
                    return controller, position
    raise ValueError("storage has no place for the image's disk: every position of every controller is taken")


def _asked_for(
    controllers: Sequence[StorageController], name: str, position: int
) -> tuple[StorageController, int]:
    controller = next((entry for entry in controllers if entry.name == name), None)
    if controller is None:
        names = ", ".join(entry.name for entry in controllers)
        raise ValueError(f"boot_device names the controller {shown(name)}; there are: {names}")
    if not controller.takes_hard_disks:
        raise ValueError(f"boot_device names {shown(name)}, whose bus '{controller.bus}' takes no hard disks")
    if position >= controller.places:
        raise ValueError(
            f"boot_device: {shown(name)} has the positions 0 to {controller.places - 1}, not {position}"
        )
    if not (_is_free(controller, position) or _is_for_the_base(controller, position)):
        raise ValueError(f"boot_device: at position {position} of {shown(name)} is something else already")
    return controller, position


def _is_free(controller: StorageController, position: int) -> bool:
    return controller.device(position) is None


def _is_for_the_base(controller: StorageController, position: int) -> bool:
    device = controller.device(position)
    return device is not None and device.is_for_the_base
