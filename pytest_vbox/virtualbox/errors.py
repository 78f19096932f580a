"""VirtualBox's errors as Python exceptions: one class per result code of the SDK.

The codes and their meaning are those of the SDK reference, "VirtualBox COM result codes", and of COM itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from pytest_vbox.printable import printable


class VirtualBoxError(Exception):
    """Something VirtualBox, or the way to it, refused.

    Attributes:
        code: VirtualBox's result code as an unsigned number, or None where there is none.
        operation: The operation of the web service, such as ``IMachine_lockMachine``.
        arguments: What it was called with, passwords left out.
        text: VirtualBox's own words, control characters as escapes.
    """

    default_code: ClassVar[int | None] = None

    def __init__(
        self,
        text: str,
        *,
        code: int | None = None,
        operation: str = "",
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        # What a service says may be what a guest, or somebody on its host, made it say.
        text = printable(text)
        super().__init__(text)
        self.text = text
        self.code = self.default_code if code is None else code
        self.operation = operation
        self.arguments = dict(arguments or {})

    def __str__(self) -> str:
        name = self.operation.replace("_", "::", 1)
        called = f"{name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})" if name else ""
        code = f" [0x{self.code:08X}]" if self.code is not None else ""
        return f"{called + ': ' if called else ''}{self.text}{code}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments need this to survive the way from an xdist worker to its controller.
        return (_rebuild, (type(self), self.text, self.code, self.operation, self.arguments))


def _rebuild(
    kind: type[VirtualBoxError], text: str, code: int | None, operation: str, arguments: dict[str, object]
) -> VirtualBoxError:
    return kind(text, code=code, operation=operation, arguments=arguments)


class ServiceUnavailable(VirtualBoxError):
    """The web service does not answer."""


class NeverArrived(ServiceUnavailable):
    """Nobody listens where the web service should be, so it cannot have heard of the call."""


class HungUp(ServiceUnavailable):
    """The web service closed the connection without an answer; nobody knows whether it did what it was asked."""


class NotTrusted(NeverArrived):
    """Somebody else has the place of the web service, and was told nothing."""


class LogonRefused(VirtualBoxError):
    """The web service answers but does not take this user and password."""


class OpenToAnybody(VirtualBoxError):
    """The web service lets anybody in: it does not look at user and password."""


class UnsupportedVersion(VirtualBoxError):
    """The VirtualBox at the other end is older or newer than what pytest-vbox knows."""


class OperationTimeout(VirtualBoxError, TimeoutError):
    """VirtualBox did not finish, or a state was not reached, before the deadline."""


class InvalidObjectReference(VirtualBoxError):
    """The reference is not known to the service: the web session ended, or the service was started anew."""


class ObjectNotFound(VirtualBoxError):
    """VBOX_E_OBJECT_NOT_FOUND: no such machine, medium, snapshot, …"""

    default_code = 0x80BB0001


class InvalidVmState(VirtualBoxError):
    """VBOX_E_INVALID_VM_STATE: the machine is not in a state in which this can be done."""

    default_code = 0x80BB0002


class VmError(VirtualBoxError):
    """VBOX_E_VM_ERROR: the virtual machine itself failed."""

    default_code = 0x80BB0003


class FileError(VirtualBoxError):
    """VBOX_E_FILE_ERROR: a file could not be read, written or understood."""

    default_code = 0x80BB0004


class IprtError(VirtualBoxError):
    """VBOX_E_IPRT_ERROR: VirtualBox's runtime library failed."""

    default_code = 0x80BB0005


class PdmError(VirtualBoxError):
    """VBOX_E_PDM_ERROR: the pluggable device manager failed."""

    default_code = 0x80BB0006


class InvalidObjectState(VirtualBoxError):
    """VBOX_E_INVALID_OBJECT_STATE: the object is busy, locked or otherwise not ready for this."""

    default_code = 0x80BB0007


class HostError(VirtualBoxError):
    """VBOX_E_HOST_ERROR: the host's operating system refused."""

    default_code = 0x80BB0008


class NotSupported(VirtualBoxError):
    """VBOX_E_NOT_SUPPORTED: this VirtualBox cannot do that."""

    default_code = 0x80BB0009


class XmlError(VirtualBoxError):
    """VBOX_E_XML_ERROR: a settings file is damaged."""

    default_code = 0x80BB000A


class InvalidSessionState(VirtualBoxError):
    """VBOX_E_INVALID_SESSION_STATE: the session is not in a state in which this can be done."""

    default_code = 0x80BB000B


class ObjectInUse(VirtualBoxError):
    """VBOX_E_OBJECT_IN_USE: something else still uses the object."""

    default_code = 0x80BB000C


class PasswordIncorrect(VirtualBoxError):
    """VBOX_E_PASSWORD_INCORRECT: the password of an encrypted medium is wrong."""

    default_code = 0x80BB000D


class MaximumReached(VirtualBoxError):
    """VBOX_E_MAXIMUM_REACHED: a limit of VirtualBox was reached."""

    default_code = 0x80BB000E


class GuestControlError(VirtualBoxError):
    """VBOX_E_GSTCTL_GUEST_ERROR: the guest refused."""

    default_code = 0x80BB000F


class GuestTimeout(VirtualBoxError):
    """VBOX_E_TIMEOUT: the operation timed out within VirtualBox."""

    default_code = 0x80BB0010


class Failed(VirtualBoxError):
    """E_FAIL / NS_ERROR_FAILURE: it failed, without a more exact code."""

    default_code = 0x80004005


class Aborted(VirtualBoxError):
    """E_ABORT: the operation was cancelled, or the process that did it died."""

    default_code = 0x80004004


class InvalidArgument(VirtualBoxError):
    """E_INVALIDARG: VirtualBox does not accept a value."""

    default_code = 0x80070057


class AccessDenied(VirtualBoxError):
    """E_ACCESSDENIED: not allowed, for example on an object that is not ready."""

    default_code = 0x80070005


class OutOfMemory(VirtualBoxError):
    """E_OUTOFMEMORY: not enough memory on the host."""

    default_code = 0x8007000E


class NotImplementedByServer(VirtualBoxError):
    """E_NOTIMPL: not there on this platform or in this build."""

    default_code = 0x80004001


class Unexpected(VirtualBoxError):
    """E_UNEXPECTED: a state that VirtualBox did not expect."""

    default_code = 0x8000FFFF


class CallFailed(VirtualBoxError):
    """NS_ERROR_CALL_FAILED / RPC_S_CALL_FAILED: the process at the other end of VirtualBox's own RPC died."""

    default_code = 0x800706BE


BY_CODE: Final[Mapping[int, type[VirtualBoxError]]] = {
    kind.default_code: kind for kind in VirtualBoxError.__subclasses__() if kind.default_code is not None
}


def error_for(
    code: int, text: str, operation: str = "", arguments: Mapping[str, object] | None = None
) -> VirtualBoxError:
    """The exception for a result code; an unknown code is kept with its number in the base class.

    Args:
        code: Signed (as SOAP gives it) or unsigned.
        text: VirtualBox's words, or an empty string.
    """
    unsigned = code & 0xFFFFFFFF
    kind = BY_CODE.get(unsigned, VirtualBoxError)
    words = text.strip() or (kind.__doc__ or "").partition("\n")[0]
    return kind(words, code=unsigned, operation=operation, arguments=arguments)
