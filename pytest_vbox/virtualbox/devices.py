"""The devices of a machine that are neither disks nor network adapters, and what limits them."""

from __future__ import annotations

from pytest_vbox.virtualbox.enums import (
    AudioCodecType,
    AudioControllerType,
    AudioDriverType,
    AuthType,
    BandwidthGroupType,
    PortMode,
    UartType,
    USBControllerType,
)
from pytest_vbox.virtualbox.interface import Attribute, Interface, ReadOnly, text


class SerialPort(Interface):
    """ISerialPort."""

    interface = "ISerialPort"
    enabled = Attribute("enabled", bool)
    host_mode = Attribute("hostMode", PortMode)
    path = Attribute("path", text)
    server = Attribute("server", bool)
    irq = Attribute("IRQ", int)
    io_address = Attribute("IOAddress", int)
    uart_type = Attribute("uartType", UartType)


class ParallelPort(Interface):
    """IParallelPort."""

    interface = "IParallelPort"
    enabled = Attribute("enabled", bool)
    path = Attribute("path", text)
    irq = Attribute("IRQ", int)
    io_base = Attribute("IOBase", int)


class AudioAdapter(Interface):
    """IAudioAdapter."""

    interface = "IAudioAdapter"
    enabled = Attribute("enabled", bool)
    enabled_in = Attribute("enabledIn", bool)
    enabled_out = Attribute("enabledOut", bool)
    audio_driver = Attribute("audioDriver", AudioDriverType)
    audio_controller = Attribute("audioController", AudioControllerType)
    audio_codec = Attribute("audioCodec", AudioCodecType)


class AudioSettings(Interface):
    """IAudioSettings (until 6.1 the adapter was the machine's own)."""

    interface = "IAudioSettings"

    @property
    def adapter(self) -> AudioAdapter:
        return AudioAdapter(self.api, str(self._call("getAdapter")))


class VRDEServer(Interface):
    """IVRDEServer: the remote display."""

    interface = "IVRDEServer"
    enabled = Attribute("enabled", bool)
    auth_type = Attribute("authType", AuthType)
    allow_multi_connection = Attribute("allowMultiConnection", bool)

    def get_vrde_property(self, key: str) -> str:
        return text(self._call("getVRDEProperty", key=key))

    def set_vrde_property(self, key: str, value: str) -> None:
        """Such as ``TCP/Ports`` and ``TCP/Address``."""
        self._call("setVRDEProperty", key=key, value=value)


class USBController(Interface):
    """IUSBController."""

    interface = "IUSBController"
    name = ReadOnly("name", text)
    type = ReadOnly("type", USBControllerType)


class SharedFolder(Interface):
    """ISharedFolder."""

    interface = "ISharedFolder"
    name = ReadOnly("name", text)
    host_path = ReadOnly("hostPath", text)
    writable = ReadOnly("writable", bool)
    auto_mount = ReadOnly("autoMount", bool)
    auto_mount_point = ReadOnly("autoMountPoint", text)


class BandwidthGroup(Interface):
    """IBandwidthGroup."""

    interface = "IBandwidthGroup"
    name = ReadOnly("name", text)
    type = ReadOnly("type", BandwidthGroupType)
    max_bytes_per_sec = Attribute("maxBytesPerSec", int)


class BandwidthControl(Interface):
    """IBandwidthControl: the limits that a machine's devices share."""

    interface = "IBandwidthControl"

    def create_bandwidth_group(self, name: str, type_: BandwidthGroupType, max_bytes_per_sec: int) -> None:
        self._call("createBandwidthGroup", name=name, type=type_, maxBytesPerSec=max_bytes_per_sec)

    def get_bandwidth_group(self, name: str) -> BandwidthGroup:
        return BandwidthGroup(self.api, str(self._call("getBandwidthGroup", name=name)))
