"""What the typed classes share: a reference on the server, attributes, and a way back after a lost web session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.errors import InvalidObjectReference, NeverArrived

T = TypeVar("T")


class Interface:
    """An object on the server, known by a reference that is only valid within one web session.

    Args:
        api: The wire it lives behind.
        reference: The managed object reference.
        renew: Gives a new reference to the same object after the web session was lost, for objects that have
            a name of their own (a machine's id, say). Without it the loss is an error.
    """

    interface: ClassVar[str]

    def __init__(self, api: Api, reference: str, renew: Callable[[], str] | None = None) -> None:
        self.api = api
        self.reference = reference
        self._renew = renew

    def __repr__(self) -> str:
        return f"<{self.interface} {self.reference}>"

    def _call(self, method: str, /, **arguments: object) -> Any:
        return self._invoke(f"{self.interface}_{method}", arguments)

    def _invoke(self, operation: str, arguments: dict[str, object]) -> Any:
        try:
            return self.api.call(operation, _this=self.reference, **arguments)
        except (InvalidObjectReference, NeverArrived):
            if self._renew is None:
                raise
        # One more try, and only for these: the object is the same, and its old name is not known any more, or
        # there is nobody any more who could have heard of it.
        self.reference = self._renew()
        return self.api.call(operation, _this=self.reference, **arguments)

    def release(self) -> None:
        """Let the server forget the reference, so that a long run does not fill its tables."""
        try:
            self.api.call("IManagedObjectRef_release", _this=self.reference)
        except InvalidObjectReference:
            return


class ReadOnly(Generic[T]):
    """An attribute of an interface, read from the server each time it is asked for.

    Args:
        name: Its name in the SDK; the operations are ``get`` and ``set`` with the first letter raised.
        kind: What the wire's value is made into, such as ``str``, ``int`` or an enumeration.
    """

    def __init__(self, name: str, kind: Callable[[Any], T]) -> None:
        self.name = name
        self._kind = kind
        self.interface = ""

    def __set_name__(self, owner: type[Interface], _: str) -> None:
        self.interface = owner.interface

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that this attribute calls."""
        return (f"{self.interface}_get{_capital(self.name)}",)

    @overload
    def __get__(self, instance: None, owner: type[Interface]) -> Self: ...
    @overload
    def __get__(self, instance: Interface, owner: type[Interface]) -> T: ...
    def __get__(self, instance: Interface | None, owner: type[Interface]) -> Self | T:
        if instance is None:
            return self
        return self._kind(instance._invoke(self.operations[0], {}))


class Attribute(ReadOnly[T]):
    """An attribute that can be set too."""

    @property
    def operations(self) -> tuple[str, ...]:
        return (*super().operations, f"{self.interface}_set{_capital(self.name)}")

    def __set__(self, instance: Interface, value: T) -> None:
        # In the SDK the parameter of a setter is named as the attribute.
        instance._invoke(self.operations[1], {self.name: value})


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def text(value: object) -> str:
    """A string of the wire: what is absent is the empty string, as in VirtualBox."""
    return "" if value is None else str(value)


def texts(value: object) -> list[str]:
    """A list of strings of the wire."""
    return [str(entry) for entry in value] if isinstance(value, list | tuple) else []
