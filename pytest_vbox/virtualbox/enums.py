"""The enumerations of the SDK that are used here, in its own spelling.

The service does not let a wrong value pass, but says so with "Validation constraint violation" only; so they
are types here. A unit test holds each value against the descriptions of all supported versions.
"""

from __future__ import annotations

from enum import StrEnum


class PlatformArchitecture(StrEnum):
    X86 = "x86"
    ARM = "ARM"


class MachineState(StrEnum):
    NULL = "Null"
    POWERED_OFF = "PoweredOff"
    SAVED = "Saved"
    TELEPORTED = "Teleported"
    ABORTED = "Aborted"
    ABORTED_SAVED = "AbortedSaved"
    RUNNING = "Running"
    PAUSED = "Paused"
    STUCK = "Stuck"
    TELEPORTING = "Teleporting"
    LIVE_SNAPSHOTTING = "LiveSnapshotting"
    STARTING = "Starting"
    STOPPING = "Stopping"
    SAVING = "Saving"
    RESTORING = "Restoring"
    TELEPORTING_PAUSED_VM = "TeleportingPausedVM"
    TELEPORTING_IN = "TeleportingIn"
    DELETING_SNAPSHOT_ONLINE = "DeletingSnapshotOnline"
    DELETING_SNAPSHOT_PAUSED = "DeletingSnapshotPaused"
    ONLINE_SNAPSHOTTING = "OnlineSnapshotting"
    RESTORING_SNAPSHOT = "RestoringSnapshot"
    DELETING_SNAPSHOT = "DeletingSnapshot"
    SETTING_UP = "SettingUp"
    SNAPSHOTTING = "Snapshotting"

    @property
    def is_online(self) -> bool:
        """Whether a virtual machine process exists (SDK: between FirstOnline and LastOnline)."""
        return self in _ONLINE


_ONLINE = frozenset(
    {
        MachineState.RUNNING,
        MachineState.PAUSED,
        MachineState.STUCK,
        MachineState.TELEPORTING,
        MachineState.LIVE_SNAPSHOTTING,
        MachineState.STARTING,
        MachineState.STOPPING,
        MachineState.SAVING,
        MachineState.RESTORING,
        MachineState.TELEPORTING_PAUSED_VM,
        MachineState.TELEPORTING_IN,
        MachineState.DELETING_SNAPSHOT_ONLINE,
        MachineState.DELETING_SNAPSHOT_PAUSED,
        MachineState.ONLINE_SNAPSHOTTING,
    }
)


class SessionState(StrEnum):
    NULL = "Null"
    UNLOCKED = "Unlocked"
    LOCKED = "Locked"
    SPAWNING = "Spawning"
    UNLOCKING = "Unlocking"


class LockType(StrEnum):
    SHARED = "Shared"
    WRITE = "Write"
    VM = "VM"


class DeviceType(StrEnum):
    NULL = "Null"
    FLOPPY = "Floppy"
    DVD = "DVD"
    HARD_DISK = "HardDisk"
    NETWORK = "Network"


class AccessMode(StrEnum):
    READ_ONLY = "ReadOnly"
    READ_WRITE = "ReadWrite"


class MediumType(StrEnum):
    NORMAL = "Normal"
    IMMUTABLE = "Immutable"
    WRITETHROUGH = "Writethrough"
    SHAREABLE = "Shareable"
    READONLY = "Readonly"
    MULTI_ATTACH = "MultiAttach"


class MediumState(StrEnum):
    NOT_CREATED = "NotCreated"
    CREATED = "Created"
    LOCKED_READ = "LockedRead"
    LOCKED_WRITE = "LockedWrite"
    INACCESSIBLE = "Inaccessible"
    CREATING = "Creating"
    DELETING = "Deleting"


class StorageBus(StrEnum):
    IDE = "IDE"
    SATA = "SATA"
    SCSI = "SCSI"
    FLOPPY = "Floppy"
    SAS = "SAS"
    USB = "USB"
    PCIE = "PCIe"
    VIRTIO_SCSI = "VirtioSCSI"


class StorageControllerType(StrEnum):
    LSI_LOGIC = "LsiLogic"
    BUS_LOGIC = "BusLogic"
    INTEL_AHCI = "IntelAhci"
    PIIX3 = "PIIX3"
    PIIX4 = "PIIX4"
    ICH6 = "ICH6"
    I82078 = "I82078"
    LSI_LOGIC_SAS = "LsiLogicSas"
    USB = "USB"
    NVME = "NVMe"
    VIRTIO_SCSI = "VirtioSCSI"


class MediumVariant(StrEnum):
    STANDARD = "Standard"
    VMDK_SPLIT_2G = "VmdkSplit2G"
    VMDK_STREAM_OPTIMIZED = "VmdkStreamOptimized"
    VMDK_ESX = "VmdkESX"
    FIXED = "Fixed"


class NetworkAttachmentType(StrEnum):
    NULL = "Null"
    NAT = "NAT"
    BRIDGED = "Bridged"
    INTERNAL = "Internal"
    HOST_ONLY = "HostOnly"
    GENERIC = "Generic"
    NAT_NETWORK = "NATNetwork"
    HOST_ONLY_NETWORK = "HostOnlyNetwork"


class NetworkAdapterType(StrEnum):
    NULL = "Null"
    AM79C970A = "Am79C970A"
    AM79C973 = "Am79C973"
    I82540EM = "I82540EM"
    I82543GC = "I82543GC"
    I82545EM = "I82545EM"
    I82583V = "I82583V"
    VIRTIO = "Virtio"
    USB_NET = "UsbNet"


class NetworkAdapterPromiscModePolicy(StrEnum):
    DENY = "Deny"
    ALLOW_NETWORK = "AllowNetwork"
    ALLOW_ALL = "AllowAll"


class HostNetworkInterfaceType(StrEnum):
    BRIDGED = "Bridged"
    HOST_ONLY = "HostOnly"


class NATProtocol(StrEnum):
    UDP = "UDP"
    TCP = "TCP"


class FirmwareType(StrEnum):
    BIOS = "BIOS"
    EFI = "EFI"
    EFI32 = "EFI32"
    EFI64 = "EFI64"
    EFIDUAL = "EFIDUAL"


class FirmwareBootMenuMode(StrEnum):
    DISABLED = "Disabled"
    MENU_ONLY = "MenuOnly"
    MESSAGE_AND_MENU = "MessageAndMenu"


class GraphicsControllerType(StrEnum):
    NULL = "Null"
    VBOX_VGA = "VBoxVGA"
    VMSVGA = "VMSVGA"
    VBOX_SVGA = "VBoxSVGA"


class PortMode(StrEnum):
    DISCONNECTED = "Disconnected"
    HOST_PIPE = "HostPipe"
    HOST_DEVICE = "HostDevice"
    RAW_FILE = "RawFile"
    TCP = "TCP"


class BitmapFormat(StrEnum):
    PNG = "PNG"


class CleanupMode(StrEnum):
    UNREGISTER_ONLY = "UnregisterOnly"
    DETACH_ALL_RETURN_NONE = "DetachAllReturnNone"
    DETACH_ALL_RETURN_HARD_DISKS_ONLY = "DetachAllReturnHardDisksOnly"
    FULL = "Full"


class VBoxEventType(StrEnum):
    ON_MACHINE_STATE_CHANGED = "OnMachineStateChanged"
    ON_MACHINE_REGISTERED = "OnMachineRegistered"
    ON_SESSION_STATE_CHANGED = "OnSessionStateChanged"
    ON_GUEST_PROPERTY_CHANGED = "OnGuestPropertyChanged"


class ChipsetType(StrEnum):
    PIIX3 = "PIIX3"
    ICH9 = "ICH9"


class IommuType(StrEnum):
    NONE = "None"
    AUTOMATIC = "Automatic"
    AMD = "AMD"


class TpmType(StrEnum):
    NONE = "None"
    V1_2 = "v1_2"
    V2_0 = "v2_0"
    HOST = "Host"
    SWTPM = "Swtpm"


class APICMode(StrEnum):
    DISABLED = "Disabled"
    APIC = "APIC"
    X2APIC = "X2APIC"


class CPUPropertyTypeX86(StrEnum):
    PAE = "PAE"
    LONG_MODE = "LongMode"
    TRIPLE_FAULT_RESET = "TripleFaultReset"
    HW_VIRT = "HWVirt"


class HWVirtExPropertyType(StrEnum):
    ENABLED = "Enabled"
    VPID = "VPID"
    NESTED_PAGING = "NestedPaging"
    LARGE_PAGES = "LargePages"


class GraphicsFeature(StrEnum):
    ACCELERATION_3D = "Acceleration3D"


class ParavirtProvider(StrEnum):
    NONE = "None"
    DEFAULT = "Default"
    LEGACY = "Legacy"
    MINIMAL = "Minimal"
    HYPER_V = "HyperV"
    KVM = "KVM"


class PointingHIDType(StrEnum):
    NONE = "None"
    PS2_MOUSE = "PS2Mouse"
    USB_MOUSE = "USBMouse"
    USB_TABLET = "USBTablet"
    COMBO_MOUSE = "ComboMouse"
    USB_MULTI_TOUCH = "USBMultiTouch"
    USB_MULTI_TOUCH_SCREEN_PLUS_PAD = "USBMultiTouchScreenPlusPad"


class KeyboardHIDType(StrEnum):
    NONE = "None"
    PS2_KEYBOARD = "PS2Keyboard"
    USB_KEYBOARD = "USBKeyboard"
    COMBO_KEYBOARD = "ComboKeyboard"


class ClipboardMode(StrEnum):
    DISABLED = "Disabled"
    HOST_TO_GUEST = "HostToGuest"
    GUEST_TO_HOST = "GuestToHost"
    BIDIRECTIONAL = "Bidirectional"


class DnDMode(StrEnum):
    DISABLED = "Disabled"
    HOST_TO_GUEST = "HostToGuest"
    GUEST_TO_HOST = "GuestToHost"
    BIDIRECTIONAL = "Bidirectional"


class AudioDriverType(StrEnum):
    DEFAULT = "Default"
    NULL = "Null"
    OSS = "OSS"
    ALSA = "ALSA"
    PULSE = "Pulse"
    WIN_MM = "WinMM"
    DIRECT_SOUND = "DirectSound"
    WAS = "WAS"
    CORE_AUDIO = "CoreAudio"


class AudioControllerType(StrEnum):
    AC97 = "AC97"
    SB16 = "SB16"
    HDA = "HDA"


class AudioCodecType(StrEnum):
    SB16 = "SB16"
    STAC9700 = "STAC9700"
    AD1980 = "AD1980"
    STAC9221 = "STAC9221"


class AuthType(StrEnum):
    NULL = "Null"
    EXTERNAL = "External"
    GUEST = "Guest"


class AutostopType(StrEnum):
    DISABLED = "Disabled"
    SAVE_STATE = "SaveState"
    POWER_OFF = "PowerOff"
    ACPI_SHUTDOWN = "AcpiShutdown"


class USBControllerType(StrEnum):
    OHCI = "OHCI"
    EHCI = "EHCI"
    XHCI = "XHCI"


class BandwidthGroupType(StrEnum):
    DISK = "Disk"
    NETWORK = "Network"


class UartType(StrEnum):
    U16450 = "U16450"
    U16550A = "U16550A"
    U16750 = "U16750"


class CloneMode(StrEnum):
    MACHINE_STATE = "MachineState"
    MACHINE_AND_CHILD_STATES = "MachineAndChildStates"
    ALL_STATES = "AllStates"


class CloneOptions(StrEnum):
    LINK = "Link"
    KEEP_ALL_MACS = "KeepAllMACs"
    KEEP_HW_UUIDS = "KeepHwUUIDs"


class ImportOptions(StrEnum):
    IMPORT_TO_VDI = "ImportToVDI"
