"""IMachine, ISession and ISnapshot."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pytest_vbox.virtualbox import compat
from pytest_vbox.virtualbox.console import Console
from pytest_vbox.virtualbox.devices import (
    AudioAdapter,
    AudioSettings,
    BandwidthControl,
    BandwidthGroup,
    ParallelPort,
    SerialPort,
    SharedFolder,
    USBController,
    VRDEServer,
)
from pytest_vbox.virtualbox.enums import (
    AutostopType,
    CleanupMode,
    ClipboardMode,
    CloneMode,
    CloneOptions,
    DeviceType,
    DnDMode,
    KeyboardHIDType,
    LockType,
    MachineState,
    ParavirtProvider,
    PointingHIDType,
    SessionState,
    StorageBus,
    USBControllerType,
)
from pytest_vbox.virtualbox.errors import VirtualBoxError
from pytest_vbox.virtualbox.interface import Attribute, Interface, ReadOnly, text, texts
from pytest_vbox.virtualbox.media import Medium, MediumAttachment, StorageController, optional_medium
from pytest_vbox.virtualbox.network import NetworkAdapter
from pytest_vbox.virtualbox.platform import (
    FirmwareKind,
    FirmwareSettings,
    GraphicsAdapter,
    Platform,
    TrustedPlatformModule,
)
from pytest_vbox.virtualbox.progress import Progress


class Session(Interface):
    """ISession: this process's hold on a machine while it is locked."""

    interface = "ISession"
    state = ReadOnly("state", SessionState)

    @property
    def machine(self) -> Machine:
        """The machine, as it may be changed through this lock."""
        return Machine(self.api, str(self._call("getMachine")))

    @property
    def console(self) -> Console:
        """The running machine. Only with a shared lock on one that runs."""
        return Console(self.api, str(self._call("getConsole")))

    def unlock_machine(self) -> None:
        """Give the lock back. One that is gone already, since the machine's process has ended, is no error."""
        try:
            self._call("unlockMachine")
        except VirtualBoxError:
            # VBox answers E_UNEXPECTED, "The session is not locked", but also E_FAIL while it is being closed.
            if self.state is not SessionState.UNLOCKED:
                raise


class Snapshot(Interface):
    """ISnapshot."""

    interface = "ISnapshot"
    id = ReadOnly("id", text)
    name = ReadOnly("name", text)

    @property
    def machine(self) -> Machine:
        """The machine as it was when the snapshot was taken; it can be read, and cloned."""
        return Machine(self.api, str(self._call("getMachine")))


class Machine(Interface):
    """IMachine: one virtual machine.

    What :class:`~pytest_vbox.virtualbox.VirtualBox` returns can be read; to change it, lock it and use the
    session's machine, then :meth:`save_settings`.
    """

    interface = "IMachine"
    id = ReadOnly("id", text)
    name = Attribute("name", text)
    description = Attribute("description", text)
    groups = Attribute("groups", texts)
    accessible = ReadOnly("accessible", bool)
    os_type_id = Attribute("OSTypeId", text)
    cpu_count = Attribute("CPUCount", int)
    cpu_hot_plug_enabled = Attribute("CPUHotPlugEnabled", bool)
    cpu_execution_cap = Attribute("CPUExecutionCap", int)
    cpu_profile = Attribute("CPUProfile", text)
    memory_size = Attribute("memorySize", int)
    memory_balloon_size = Attribute("memoryBalloonSize", int)
    page_fusion_enabled = Attribute("pageFusionEnabled", bool)
    hardware_uuid = Attribute("hardwareUUID", text)
    paravirt_provider = Attribute("paravirtProvider", ParavirtProvider)
    pointing_hid_type = Attribute("pointingHIDType", PointingHIDType)
    keyboard_hid_type = Attribute("keyboardHIDType", KeyboardHIDType)
    clipboard_mode = Attribute("clipboardMode", ClipboardMode)
    dnd_mode = Attribute("dnDMode", DnDMode)
    io_cache_enabled = Attribute("IOCacheEnabled", bool)
    io_cache_size = Attribute("IOCacheSize", int)
    teleporter_enabled = Attribute("teleporterEnabled", bool)
    teleporter_port = Attribute("teleporterPort", int)
    teleporter_address = Attribute("teleporterAddress", text)
    teleporter_password = Attribute("teleporterPassword", text)
    autostart_enabled = Attribute("autostartEnabled", bool)
    autostart_delay = Attribute("autostartDelay", int)
    autostop_type = Attribute("autostopType", AutostopType)
    state = ReadOnly("state", MachineState)
    session_state = ReadOnly("sessionState", SessionState)
    session_pid = ReadOnly("sessionPID", int)
    settings_file_path = ReadOnly("settingsFilePath", text)
    log_folder = ReadOnly("logFolder", text)
    snapshot_folder = Attribute("snapshotFolder", text)
    snapshot_count = ReadOnly("snapshotCount", int)

    @property
    def firmware_settings(self) -> FirmwareSettings:
        return FirmwareSettings(self.api, str(self._call("getFirmwareSettings")))

    @property
    def firmware_kind(self) -> FirmwareKind:
        """Where the firmware's type is set: on the settings since 7.1, on the machine before."""
        if compat.firmware_type_is_of_machine(self.api.parameters):
            return FirmwareKind(self.api, self.reference)
        return FirmwareKind(self.api, self.firmware_settings.reference)

    @property
    def platform(self) -> Platform:
        return Platform(self.api, str(self._call("getPlatform")))

    @property
    def graphics_adapter(self) -> GraphicsAdapter:
        return GraphicsAdapter(self.api, str(self._call("getGraphicsAdapter")))

    @property
    def trusted_platform_module(self) -> TrustedPlatformModule:
        return TrustedPlatformModule(self.api, str(self._call("getTrustedPlatformModule")))

    @property
    def audio_adapter(self) -> AudioAdapter:
        return AudioSettings(self.api, str(self._call("getAudioSettings"))).adapter

    @property
    def vrde_server(self) -> VRDEServer:
        return VRDEServer(self.api, str(self._call("getVRDEServer")))

    @property
    def bandwidth_control(self) -> BandwidthControl:
        return BandwidthControl(self.api, str(self._call("getBandwidthControl")))

    @property
    def usb_controllers(self) -> list[USBController]:
        return [USBController(self.api, reference) for reference in texts(self._call("getUSBControllers"))]

    @property
    def shared_folders(self) -> list[SharedFolder]:
        return [SharedFolder(self.api, reference) for reference in texts(self._call("getSharedFolders"))]

    @property
    def storage_controllers(self) -> list[StorageController]:
        return [StorageController(self.api, reference) for reference in texts(self._call("getStorageControllers"))]

    @property
    def medium_attachments(self) -> list[MediumAttachment]:
        return [
            MediumAttachment(
                medium=optional_medium(self.api, entry.medium),
                controller=entry.controller,
                port=int(entry.port),
                device=int(entry.device),
                type=DeviceType(entry.type),
            )
            for entry in self._call("getMediumAttachments") or []
        ]

    # Settings

    def set_boot_order(self, position: int, device: DeviceType) -> None:
        """Set one place of the boot order; positions count from 1."""
        self._call("setBootOrder", position=position, device=device)

    def get_boot_order(self, position: int) -> DeviceType:
        return DeviceType(self._call("getBootOrder", position=position))

    def get_network_adapter(self, slot: int) -> NetworkAdapter:
        return NetworkAdapter(self.api, str(self._call("getNetworkAdapter", slot=slot)))

    def get_serial_port(self, slot: int) -> SerialPort:
        return SerialPort(self.api, str(self._call("getSerialPort", slot=slot)))

    def get_parallel_port(self, slot: int) -> ParallelPort:
        return ParallelPort(self.api, str(self._call("getParallelPort", slot=slot)))

    def add_usb_controller(self, name: str, type_: USBControllerType) -> USBController:
        return USBController(self.api, str(self._call("addUSBController", name=name, type=type_)))

    def create_shared_folder(
        self, name: str, host_path: str, *, writable: bool, automount: bool, auto_mount_point: str
    ) -> None:
        self._call(
            "createSharedFolder",
            name=name,
            hostPath=host_path,
            writable=writable,
            automount=automount,
            autoMountPoint=auto_mount_point,
        )

    def add_storage_controller(self, name: str, connection_type: StorageBus) -> StorageController:
        reference = self._call("addStorageController", name=name, connectionType=connection_type)
        return StorageController(self.api, str(reference))

    def set_storage_controller_bootable(self, name: str, bootable: bool) -> None:
        self._call("setStorageControllerBootable", name=name, bootable=bootable)

    def attach_device(self, name: str, port: int, device: int, kind: DeviceType, medium: Medium | None) -> None:
        """Attach a medium (or an empty drive) to a controller."""
        reference = medium.reference if medium is not None else ""
        self._call("attachDevice", name=name, controllerPort=port, device=device, type=kind, medium=reference)

    def attach_device_without_medium(self, name: str, port: int, device: int, kind: DeviceType) -> None:
        """Attach an empty drive."""
        self._call("attachDeviceWithoutMedium", name=name, controllerPort=port, device=device, type=kind)

    def non_rotational_device(self, name: str, port: int, device: int, non_rotational: bool) -> None:
        self._call(
            "nonRotationalDevice", name=name, controllerPort=port, device=device, nonRotational=non_rotational
        )

    def set_auto_discard_for_device(self, name: str, port: int, device: int, discard: bool) -> None:
        self._call("setAutoDiscardForDevice", name=name, controllerPort=port, device=device, discard=discard)

    def set_hot_pluggable_for_device(self, name: str, port: int, device: int, hot_pluggable: bool) -> None:
        self._call(
            "setHotPluggableForDevice", name=name, controllerPort=port, device=device, hotPluggable=hot_pluggable
        )

    def set_bandwidth_group_for_device(self, name: str, port: int, device: int, group: BandwidthGroup) -> None:
        self._call(
            "setBandwidthGroupForDevice",
            name=name,
            controllerPort=port,
            device=device,
            bandwidthGroup=group.reference,
        )

    def detach_device(self, name: str, port: int, device: int) -> None:
        self._call("detachDevice", name=name, controllerPort=port, device=device)

    def save_settings(self) -> None:
        self._call("saveSettings")

    def get_extra_data(self, key: str) -> str:
        return text(self._call("getExtraData", key=key))

    def set_extra_data(self, key: str, value: str) -> None:
        """Set extra data; takes effect at once. An empty value removes the key."""
        self._call("setExtraData", key=key, value=value)

    # Guest properties

    def get_guest_property_value(self, name: str) -> str:
        """A guest property's value, or the empty string."""
        return text(self._call("getGuestPropertyValue", property=name))

    def set_guest_property(self, name: str, value: str, flags: str = "") -> None:
        self._call("setGuestProperty", property=name, value=value, flags=flags)

    # Life

    def lock_machine(self, session: Session, lock_type: LockType) -> None:
        self._call("lockMachine", session=session.reference, lockType=lock_type)

    def launch_vm_process(
        self, session: Session, name: str = "headless", environment_changes: Sequence[str] = ()
    ) -> Progress:
        """Start a process that runs the machine. Whether it came up is known from the progress alone."""
        reference = self._call(
            "launchVMProcess",
            session=session.reference,
            name=name,
            environmentChanges=list(environment_changes),
        )
        return Progress(self.api, str(reference))

    def save_state(self) -> Progress:
        return Progress(self.api, str(self._call("saveState")))

    def discard_saved_state(self, remove_file: bool = True) -> None:
        self._call("discardSavedState", fRemoveFile=remove_file)

    def take_snapshot(self, name: str, description: str = "", pause: bool = True) -> Progress:
        """Take a snapshot; of a running machine it holds memory too (and pauses the machine meanwhile)."""
        result = self._call("takeSnapshot", name=name, description=description, pause=pause)
        return Progress(self.api, str(result.returnval))

    def find_snapshot(self, name_or_id: str) -> Snapshot:
        return Snapshot(self.api, str(self._call("findSnapshot", nameOrId=name_or_id)))

    def restore_snapshot(self, snapshot: Snapshot) -> Progress:
        return Progress(self.api, str(self._call("restoreSnapshot", snapshot=snapshot.reference)))

    def clone_to(self, target: Machine, mode: CloneMode, options: Sequence[CloneOptions] = ()) -> Progress:
        """Make another machine, which is not registered yet, into a clone of this one.

        Of an online snapshot's machine, the clone has the saved state too. With ``LINK`` its disks
        are differences to this one's.
        """
        reference = self._call("cloneTo", target=target.reference, mode=mode, options=list(options))
        return Progress(self.api, str(reference))

    def unregister(self, cleanup_mode: CleanupMode) -> list[Medium]:
        """Take the machine out of VirtualBox's list.

        Returns:
            The media that are attached to nothing else now. **A user's disk may be among them** when it was
            attached directly, so look at each before passing it to :meth:`delete_config`.
        """
        return [Medium(self.api, entry) for entry in texts(self._call("unregister", cleanupMode=cleanup_mode))]

    def delete_config(self, media: Sequence[Medium]) -> Progress:
        """Delete the settings file, logs and these media of a machine that is not registered (any more)."""
        return Progress(self.api, str(self._call("deleteConfig", media=[medium.reference for medium in media])))

    def query_log_filename(self, index: int = 0) -> str:
        return text(self._call("queryLogFilename", idx=index))

    def read_log(self, index: int, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes (the server may give less) of VBox.log."""
        return base64.b64decode(self._call("readLog", idx=index, offset=offset, size=size) or "")


@contextmanager
def unlocking(session: Session) -> Iterator[Session]:
    """Unlock a session at the end of the block. Failing to do so never hides what failed before.

    Raises:
        VirtualBoxError: Unlocking failed, and nothing else did.
    """
    try:
        yield session
    except BaseException as error:
        try:
            session.unlock_machine()
        except VirtualBoxError as second:
            error.add_note(f"(then unlocking the machine failed too: {second})")
        raise
    session.unlock_machine()
