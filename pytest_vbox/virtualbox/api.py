"""The wire: one operation of the web service after another, by its SDK name.

Only this module and ``websession`` touch zeep. What leaves here are strings, numbers, booleans, lists and
zeep's structs, which the typed classes of this room turn into their own.
"""

from __future__ import annotations

import gc
import io
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import requests
import zeep
import zeep.exceptions
from lxml import etree
from zeep.transports import Transport

from pytest_vbox.printable import harmless
from pytest_vbox.secret import Secret, Unseen
from pytest_vbox.virtualbox import compat
from pytest_vbox.virtualbox.errors import (
    InvalidObjectReference,
    LogonRefused,
    ServiceUnavailable,
    VirtualBoxError,
    error_for,
)
from pytest_vbox.virtualbox.wire import Wire, unavailable
from pytest_vbox.virtualbox.wsdl import VBOX, WsdlError

logger = logging.getLogger(__name__)

LOGON: Final = "IWebsessionManager_logon"
_SECRET_ARGUMENTS: Final = ("password", "passwords")
# A managed object reference: the web session, and the object in it. Who knows one can do with the session, as long
# as it lasts, what its owner can.
_REFERENCE: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{16}-[0-9a-f]{16}(?![0-9a-f])", re.IGNORECASE)
_NO_SOAP: Final = (
    zeep.exceptions.TransportError,
    zeep.exceptions.XMLSyntaxError,
    zeep.exceptions.DTDForbidden,
    zeep.exceptions.EntitiesForbidden,
    zeep.exceptions.ExternalReferenceForbidden,
)
_MAX_ERROR_INFOS: Final = 5
# What the web service puts around VirtualBox's words; the code is in the exception anyway.
_BEFORE: Final = re.compile(r"apirc=0x[0-9a-f]{1,16}\s*", re.IGNORECASE)
_BEHIND: Final = re.compile(r"\(0x[0-9a-f]{1,16}\)", re.IGNORECASE)
# Characters of a text of VirtualBox's; some have a few lines, none a page.
_LONGEST_TEXT: Final = 10_000


class _WireTransport(Transport):
    """zeep's transport over a :class:`Wire`; it never fetches a document itself."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(session=requests.Session())  # type: ignore[no-untyped-call]
        self._wire = wire

    def post(self, address: str, message: bytes, headers: Mapping[str, str]) -> requests.Response:  # noqa: ARG002
        # Not to the address, which a description could have brought.
        reply = self._wire.post(message, headers)
        if reply.headers.get("Content-Type", "").lower().startswith("multipart/"):
            raise _Forbidden("an answer in several parts")
        return reply

    def load(self, url: object) -> bytes:
        # What a description includes could be any address, or any file of this computer.
        raise WsdlError(f"not on its own: it includes {ascii(url)[:200]}")


class _Forbidden(Exception):
    """What VirtualBox never sends, and what could be meant to do harm."""


def _strict() -> zeep.Settings:
    # No document type, so no entities that become gigabytes; no document from elsewhere.
    return zeep.Settings(forbid_dtd=True, forbid_external=True)


class Api:
    """One description bound to one wire: calls operations, and translates what goes wrong.

    Raises:
        ServiceUnavailable: The description cannot be used.
    """

    def __init__(self, wire: Wire, description: bytes) -> None:
        self.wire = wire
        try:
            with _no_collection():
                client = zeep.Client(io.BytesIO(description), transport=_WireTransport(wire), settings=_strict())
            self._service = client.create_service(f"{{{VBOX}}}vboxBinding", wire.url)
            self._binding = client.wsdl.bindings[f"{{{VBOX}}}vboxBinding"]
        except Exception as error:  # noqa: BLE001
            # Whatever zeep trips over: it was not made for descriptions that mean harm.
            raise ServiceUnavailable(
                f"what {wire.url}?wsdl serves cannot be used: {_briefly(error)}"
            ) from harmless(error)
        self._translations: dict[str, compat.Translation] = {}
        #: Called with the name, the arguments and the seconds of every call that succeeded.
        self.on_call: Callable[[str, Mapping[str, object], float], None] | None = None

    def parameters(self, operation: str) -> tuple[str, ...] | None:
        """The parameters of an operation in this version of VirtualBox, or None if it has no such operation."""
        try:
            found = self._binding.get(operation)
            return tuple(name for name, _ in found.input.body.type.elements)
        except (ValueError, KeyError, AttributeError, TypeError):  # not there, or without a message to send
            return None

    def call(self, operation: str, /, **arguments: object) -> Any:
        """Call an operation by the name and with the parameters it has in the newest supported version.

        What nobody shall see of it is given as a `Secret`.

        Raises:
            VirtualBoxError: The class that belongs to VirtualBox's result code.
            ServiceUnavailable: The service does not answer.
            InvalidObjectReference: The web session is over, or the object gone.
        """
        translation = self._translations.get(operation)
        if translation is None:
            translation = compat.translate(operation, self.parameters)
            self._translations[operation] = translation
        if translation.same_object:
            return arguments["_this"]
        sent = translation.arguments(arguments)
        started = time.monotonic()
        secret = any(isinstance(value, Secret) for value in arguments.values())
        try:
            with Unseen() if secret else nullcontext():
                result = self._service[translation.operation](**sent)
        # OSError are requests' own errors, and a CA file that is not there.
        except (zeep.exceptions.Error, OSError, _Forbidden) as error:
            raise self._translate(error, operation, arguments) from harmless(error)
        except VirtualBoxError:
            raise  # of the wire
        except Exception as error:  # noqa: BLE001 - the same
            raise VirtualBoxError(
                f"the call, or what {self.wire.url} answered, does not fit this VirtualBox: {_briefly(error)}",
                operation=operation,
                arguments=without_secrets(arguments),
            ) from harmless(error)
        seconds = time.monotonic() - started
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s(%s) %.1f ms", operation, without_secrets(arguments), seconds * 1000)
        if self.on_call is not None:
            self.on_call(operation, without_secrets(arguments), seconds)
        return result

    def _translate(self, error: Exception, operation: str, arguments: Mapping[str, object]) -> VirtualBoxError:
        shown = without_secrets(arguments)
        if isinstance(error, OSError):
            return unavailable(self.wire.url, error, operation, shown)
        if _is_no_soap(error):
            return ServiceUnavailable(
                f"what answers at {self.wire.url} is not VirtualBox's web service",
                operation=operation,
                arguments=shown,
            )
        if not isinstance(error, zeep.exceptions.Fault):
            return VirtualBoxError(
                f"the call does not fit this VirtualBox: {error}", operation=operation, arguments=shown
            )
        return self._translate_fault(error, operation, shown)

    def _translate_fault(
        self, fault: zeep.exceptions.Fault, operation: str, arguments: Mapping[str, object]
    ) -> VirtualBoxError:
        detail = fault.detail if isinstance(fault.detail, etree._Element) else None
        message = _REFERENCE.sub("…", str(fault.message or "").strip())
        # It is shown as the reason of what is raised.
        fault.message, fault.args = message, (message,)
        runtime = _child(detail, "RuntimeFault")
        if runtime is not None:
            code = _number(runtime.findtext("resultCode"))
            text = self.error_texts(runtime.findtext("returnval")) or _own_words(message)
            return error_for(code, text, operation, arguments)
        if _child(detail, "InvalidObjectFault") is not None or "Invalid managed object reference" in message:
            return InvalidObjectReference(message or "unknown object", operation=operation, arguments=arguments)
        if operation == LOGON:
            # A refused logon is a fault without any message.
            return LogonRefused(
                message or "user or password not accepted", operation=operation, arguments=arguments
            )
        return VirtualBoxError(
            message or "a SOAP fault without a message", operation=operation, arguments=arguments
        )

    def error_texts(self, reference: str | None) -> str:
        """The texts of an IVirtualBoxErrorInfo and of those it was caused by, which often name the real reason.

        Never fails: what cannot be read is left out.
        """
        texts: list[str] = []
        try:
            while reference and len(texts) < _MAX_ERROR_INFOS:
                text = str(self._service["IVirtualBoxErrorInfo_getText"](_this=reference) or "").strip()
                if text and text not in texts:
                    texts.append(text)
                reference = self._service["IVirtualBoxErrorInfo_getNext"](_this=reference)
        except (zeep.exceptions.Error, OSError):
            # The first error is what the user has to see; one about fetching its text would hide it.
            logger.debug("could not read the texts of an error", exc_info=True)
        return "\n".join(texts)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection meanwhile: of the 100 000 objects that a description becomes none is garbage.

    Looking for some took as long as all the rest of connecting, 100 ms, in every other process.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _number(text: str | None) -> int:
    """A result code; 0 for what is none."""
    try:
        return int(text or 0)
    except ValueError:
        return 0


def _briefly(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.300}"


def without_secrets(arguments: Mapping[str, object]) -> dict[str, object]:
    """Arguments as they may be shown: no passwords, and no references, which are as good as one."""
    return {
        key: "…" if key.lower().endswith(_SECRET_ARGUMENTS) else _without_references(value)
        for key, value in arguments.items()
        if key not in {"_this", "refIVirtualBox"}
    }


def _without_references(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_references(entry) for entry in value]
    if isinstance(value, Secret):
        return "…"
    # An enumeration's value, which is text too, stays what it is.
    return _REFERENCE.sub("…", value) if type(value) is str else value


def _child(detail: etree._Element | None, name: str) -> etree._Element | None:
    if detail is None:
        return None
    if etree.QName(detail).localname == name:
        return detail
    return next((child for child in detail.iter() if etree.QName(child).localname == name), None)


def _own_words(message: str) -> str:
    """VirtualBox's text without the wrapping of the web service: ``VirtualBox error: apirc=0x… TEXT (0x…)``."""
    words = message.removeprefix("VirtualBox error:").strip()
    if len(words) > _LONGEST_TEXT:
        # It was no VirtualBox that said it; searching it for more would be work that it chose.
        return f"{words[:_LONGEST_TEXT]}…"
    before = _BEFORE.match(words)
    words = words[before.end() :] if before else words
    start = words.rfind("(")
    return words[:start].rstrip() if start >= 0 and _BEHIND.fullmatch(words, start) else words


def _is_no_soap(error: Exception) -> bool:
    """Whether zeep says that the answer was something else: a page of another web server, say."""
    if isinstance(error, zeep.exceptions.Fault):
        # A fault that was made up by zeep has the whole document as its detail.
        return isinstance(error.detail, bytes)
    return isinstance(error, (*_NO_SOAP, _Forbidden))
