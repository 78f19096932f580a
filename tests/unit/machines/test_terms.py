"""Every term of the models is one of VirtualBox's API."""

from __future__ import annotations

from enum import StrEnum

import pytest

from pytest_vbox.machines.configure.terms import api_term
from pytest_vbox.models import bandwidth, network, ports, processor, services, storage
from pytest_vbox.virtualbox import enums

PAIRS: tuple[tuple[type[StrEnum], type[StrEnum]], ...] = (
    (bandwidth.BandwidthKind, enums.BandwidthGroupType),
    (network.AdapterType, enums.NetworkAdapterType),
    (network.Attachment, enums.NetworkAttachmentType),
    (network.PromiscuousMode, enums.NetworkAdapterPromiscModePolicy),
    (ports.AudioCodec, enums.AudioCodecType),
    (ports.AudioController, enums.AudioControllerType),
    (ports.AudioDriver, enums.AudioDriverType),
    (ports.Uart, enums.UartType),
    (ports.UsbController, enums.USBControllerType),
    (processor.ApicMode, enums.APICMode),
    (processor.BootDevice, enums.DeviceType),
    (processor.BootMenu, enums.FirmwareBootMenuMode),
    (processor.Chipset, enums.ChipsetType),
    (processor.Direction, enums.ClipboardMode),
    (processor.Direction, enums.DnDMode),
    (processor.Firmware, enums.FirmwareType),
    (processor.GraphicsController, enums.GraphicsControllerType),
    (processor.Iommu, enums.IommuType),
    (processor.KeyboardHid, enums.KeyboardHIDType),
    (processor.ParavirtProvider, enums.ParavirtProvider),
    (processor.PointingHid, enums.PointingHIDType),
    (processor.Tpm, enums.TpmType),
    (services.Autostop, enums.AutostopType),
    (services.VrdeAuth, enums.AuthType),
    (storage.Bus, enums.StorageBus),
    (storage.ControllerType, enums.StorageControllerType),
    (storage.DeviceKind, enums.DeviceType),
    (storage.DiskVariant, enums.MediumVariant),
)


@pytest.mark.parametrize(("model", "api"), PAIRS, ids=lambda kind: kind.__name__)
def test_each_term_has_its_own_value_in_the_api(model: type[StrEnum], api: type[StrEnum]) -> None:
    values = [api_term(api, term) for term in model]
    assert all(isinstance(value, api) for value in values)
    assert len(set(values)) == len(list(model))
