"""Storage controllers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationInfo, field_validator

from pytest_vbox.models.fields import NOT_BOOLEAN, Line, Model, Term


class Bus(Term):
    """How disks are connected to a controller."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    SAS = "sas"
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


class _Rules(NamedTuple):
    """What VirtualBox allows on a bus; the first type is the default."""

    types: tuple[ControllerType, ...]
    fewest: int
    most: int
    ports: int


# ISystemProperties.getMinPortCountForStorageBus and getMaxPortCountForStorageBus. By default, SATA and virtio have
# room for the base and one device more: guests probe every port while they boot, which costs them time.
_RULES: Mapping[Bus, _Rules] = {
    Bus.IDE: _Rules((ControllerType.PIIX4, ControllerType.PIIX3, ControllerType.ICH6), 2, 2, 2),
    Bus.SATA: _Rules((ControllerType.INTEL_AHCI,), 1, 30, 2),
    Bus.SCSI: _Rules((ControllerType.LSI_LOGIC, ControllerType.BUS_LOGIC), 16, 16, 16),
    Bus.SAS: _Rules((ControllerType.LSI_LOGIC_SAS,), 1, 255, 8),
    Bus.VIRTIO: _Rules((ControllerType.VIRTIO_SCSI,), 1, 256, 2),
    Bus.NVME: _Rules((ControllerType.NVME,), 1, 255, 1),
}


def _rules(data: Mapping[str, Any]) -> _Rules:
    # A bus that was refused isn't in the data; the defaults made then are dropped with the model.
    return _RULES[data.get("bus", Bus.SATA)]


class StorageController(Model):
    """The storage controller that the image's disk is attached to."""

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
