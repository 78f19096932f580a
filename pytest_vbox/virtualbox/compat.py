"""The one place that knows how VirtualBox's API changed from version to version.

The typed classes of this room call every operation as VirtualBox 7.2 has it. Where the description of the
server at hand shows that it is older, the call is translated by the tables below; they are held against the
descriptions of 5.2, 6.0, 6.1, 7.0, 7.1 and 7.2 by ``tests/unit/virtualbox``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pytest_vbox.virtualbox.errors import NotSupported, UnsupportedVersion

OLDEST: Final = (5, 2)
#: The newest API that was tried. A newer one of the same generation is let in: its description tells.
NEWEST: Final = (7, 2)

# 7.1 moved what is particular to a processor's world out of IMachine and renamed the firmware's settings; 7.0 did
# so with audio, 6.1 with graphics. Older names, the newest first.
_RENAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "IMachine_getFirmwareSettings": ("IMachine_getBIOSSettings",),
    "IFirmwareSettings_getFirmwareType": ("IMachine_getFirmwareType",),
    "IFirmwareSettings_setFirmwareType": ("IMachine_setFirmwareType",),
    "IAudioSettings_getAdapter": ("IMachine_getAudioAdapter",),
    "ISerialPort_getIOAddress": ("ISerialPort_getIOBase",),
    "ISerialPort_setIOAddress": ("ISerialPort_setIOBase",),
    # Of the features there was only 3D, which had an attribute of its own.
    "IGraphicsAdapter_isFeatureEnabled": (
        "IGraphicsAdapter_getAccelerate3DEnabled",
        "IMachine_getAccelerate3DEnabled",
    ),
    "IGraphicsAdapter_setFeature": ("IGraphicsAdapter_setAccelerate3DEnabled", "IMachine_setAccelerate3DEnabled"),
}
_RENAMED_INTERFACES: Final[Mapping[str, str]] = {
    "IFirmwareSettings": "IBIOSSettings",
    "IPlatform": "IMachine",
    "IPlatformX86": "IMachine",
    "IGraphicsAdapter": "IMachine",
    "IHostX86": "IHost",
}

# Objects that did not exist: what they hold was the machine's (or the properties') own, so the object that was
# asked stands for them.
_SAME_OBJECT: Final = frozenset(
    {
        "IMachine_getPlatform",
        "IMachine_getGraphicsAdapter",
        "IMachine_getAudioSettings",
        "IPlatform_getX86",
        "IHost_getX86",
    }
)

# Parameters that older versions do not have and can do without, since there was only one choice.
_DROPPABLE: Final[Mapping[str, frozenset[str]]] = {
    "IVirtualBox_createMachine": frozenset({"platform", "cipher", "passwordId", "password"}),
    "IMachine_createSharedFolder": frozenset({"autoMountPoint"}),
    "IGraphicsAdapter_isFeatureEnabled": frozenset({"feature"}),
    "IGraphicsAdapter_setFeature": frozenset({"feature"}),
}

# Parameters that have another name under an operation's older name.
_RENAMED_PARAMETERS: Final[Mapping[str, Mapping[str, str]]] = {
    "IGraphicsAdapter_setAccelerate3DEnabled": {"enabled": "accelerate3DEnabled"},
    "IMachine_setAccelerate3DEnabled": {"enabled": "accelerate3DEnabled"},
    "ISerialPort_setIOBase": {"IOAddress": "IOBase"},
}


@dataclass(frozen=True)
class Translation:
    """How one operation is called on the server at hand."""

    operation: str
    dropped: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    joined: str | None = None
    same_object: bool = False

    def arguments(self, given: Mapping[str, object]) -> dict[str, object]:
        """The arguments as the server wants them."""
        sent = {self.renamed.get(name, name): value for name, value in given.items() if name not in self.dropped}
        if self.joined is not None:
            value = sent[self.joined]
            sent[self.joined] = "\n".join(value) if isinstance(value, list | tuple) else value
        return sent


def translate(operation: str, parameters: Callable[[str], Iterable[str] | None]) -> Translation:
    """Find how an operation of the newest version is called on a server.

    Args:
        operation: Its name in the newest supported version.
        parameters: Gives the parameters of an operation on the server, or None if it has no such operation.

    Raises:
        NotSupported: The server has nothing that does this.
    """
    available = parameters(operation)
    if available is not None:
        return _with_parameters(operation, operation, frozenset(available))
    if operation in _SAME_OBJECT:
        return Translation(operation, same_object=True)
    for older in older_names(operation):
        available = parameters(older)
        if available is not None:
            return _with_parameters(operation, older, frozenset(available))
    raise NotSupported(f"this VirtualBox has no {operation.replace('_', '::', 1)}", operation=operation)


def older_names(operation: str) -> tuple[str, ...]:
    """What an operation may be called on an older server."""
    if operation in _RENAMED:
        return _RENAMED[operation]
    interface, _, method = operation.partition("_")
    return (f"{_RENAMED_INTERFACES[interface]}_{method}",) if interface in _RENAMED_INTERFACES else ()


def firmware_type_is_of_machine(parameters: Callable[[str], Iterable[str] | None]) -> bool:
    """Whether the firmware's type is the machine's own (until 7.0), and not its firmware settings'."""
    return parameters("IFirmwareSettings_getFirmwareType") is None


def _with_parameters(newest: str, operation: str, available: frozenset[str]) -> Translation:
    if operation == "IMachine_launchVMProcess" and "environment" in available:
        # Until 6.0 the variables were one string, a line each.
        return Translation(operation, renamed={"environmentChanges": "environment"}, joined="environment")
    dropped = _DROPPABLE.get(newest, frozenset()) - available
    return Translation(operation, dropped, MappingProxyType(_RENAMED_PARAMETERS.get(operation, {})))


def check_version(version: str, api_version: str) -> tuple[int, int]:
    """Refuse a server whose API is not supported.

    Args:
        version: VirtualBox's version for people, such as ``7.2.22``.
        api_version: Its API version, such as ``7_2``.

    Returns:
        The API version as numbers.

    Raises:
        UnsupportedVersion: It is too old, or of a generation that is not known yet.
    """
    try:
        major, minor = (int(part) for part in api_version.split("_")[:2])
    except ValueError:
        raise UnsupportedVersion(f"the server calls its API version {api_version!r}, which is unknown") from None
    if (major, minor) < OLDEST or major > NEWEST[0]:
        supported = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        raise UnsupportedVersion(
            f"VirtualBox {version} (API {major}.{minor}) is not supported; this pytest-vbox works with {supported}"
        )
    return major, minor
