"""Exceptions by result code: which class, what they say, and that they travel between processes."""

from __future__ import annotations

import pickle

import pytest

from pytest_vbox.secret import Secret
from pytest_vbox.virtualbox import errors
from pytest_vbox.virtualbox.api import without_secrets
from pytest_vbox.virtualbox.enums import LockType
from pytest_vbox.virtualbox.errors import VirtualBoxError, error_for
from unit.kit.descriptions import VERSIONS, description

CODES = {
    0x80BB0001: errors.ObjectNotFound,
    0x80BB0002: errors.InvalidVmState,
    0x80BB0003: errors.VmError,
    0x80BB0004: errors.FileError,
    0x80BB0005: errors.IprtError,
    0x80BB0006: errors.PdmError,
    0x80BB0007: errors.InvalidObjectState,
    0x80BB0008: errors.HostError,
    0x80BB0009: errors.NotSupported,
    0x80BB000A: errors.XmlError,
    0x80BB000B: errors.InvalidSessionState,
    0x80BB000C: errors.ObjectInUse,
    0x80BB000D: errors.PasswordIncorrect,
    0x80BB000E: errors.MaximumReached,
    0x80BB000F: errors.GuestControlError,
    0x80BB0010: errors.GuestTimeout,
    0x80004005: errors.Failed,
    0x80004004: errors.Aborted,
    0x80070057: errors.InvalidArgument,
    0x80070005: errors.AccessDenied,
    0x8007000E: errors.OutOfMemory,
    0x80004001: errors.NotImplementedByServer,
    0x8000FFFF: errors.Unexpected,
    0x800706BE: errors.CallFailed,
}


@pytest.mark.parametrize(("code", "kind"), CODES.items(), ids=[kind.__name__ for kind in CODES.values()])
def test_each_code_has_its_class(code: int, kind: type[VirtualBoxError]) -> None:
    error = error_for(code, "words")
    assert type(error) is kind
    assert error.code == code


def test_all_classes_with_a_code_are_in_this_table() -> None:
    assert errors.BY_CODE == CODES


def test_the_code_may_be_signed_as_soap_sends_it() -> None:
    error = error_for(-2135228415, "words")
    assert type(error) is errors.ObjectNotFound
    assert error.code == 0x80BB0001


def test_an_unknown_code_keeps_its_number() -> None:
    error = error_for(0x80BB00FF, "words")
    assert type(error) is VirtualBoxError
    assert error.code == 0x80BB00FF
    assert "[0x80BB00FF]" in str(error)


@pytest.mark.parametrize("text", ["", " \n"])
def test_without_words_the_meaning_of_the_code_is_said(text: str) -> None:
    assert "no such machine" in str(error_for(0x80BB0001, text))


def test_text_shows_operation_arguments_words_and_code() -> None:
    error = error_for(0x80BB0007, " is locked ", "IMachine_lockMachine", {"lockType": LockType.WRITE, "n": 3})
    assert str(error) == "IMachine::lockMachine(lockType=<LockType.WRITE: 'Write'>, n=3): is locked [0x80BB0007]"
    assert error.text == "is locked"


def test_text_of_an_error_without_operation_and_code_is_its_words() -> None:
    assert str(VirtualBoxError("words")) == "words"


@pytest.mark.parametrize("kind", [*CODES.values(), *VirtualBoxError.__subclasses__(), VirtualBoxError])
def test_errors_survive_pickling(kind: type[VirtualBoxError]) -> None:
    error = kind("words", code=7, operation="IMachine_getName", arguments={"key": ["a", LockType.VM]})
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert (copy.text, copy.code, copy.operation, copy.arguments) == (
        "words",
        7,
        "IMachine_getName",
        {"key": ["a", LockType.VM]},
    )


def test_a_timeout_is_a_timeout_for_everybody() -> None:
    assert issubclass(errors.OperationTimeout, TimeoutError)


REFERENCE = "a85ddede49422f48-0000000000000009"


def test_passwords_and_references_are_not_shown() -> None:
    given = {
        "_this": "ref-1",
        "refIVirtualBox": "ref-2",
        "username": "me",
        "password": "hush",
        "passwords": ["hush"],
        "teleporterPassword": "hush",
        "NewPasswords": ("hush",),
        "anything": Secret("hush"),
        "session": REFERENCE,
        "listeners": [REFERENCE, "no reference", [REFERENCE.upper()]],
        "text": f"about {REFERENCE}",
    }
    assert without_secrets(given) == {
        "username": "me",
        "password": "…",
        "passwords": "…",
        "teleporterPassword": "…",
        "NewPasswords": "…",
        "anything": "…",
        "session": "…",
        "listeners": ["…", "no reference", ["…"]],
        "text": "about …",
    }


def test_what_is_no_secret_is_shown_as_it_is() -> None:
    given = {
        "passwordId": "one",
        "id": "6cf2c8c4-4c1f-4a55-8e3a-0123456789ab",
        "mac": "0800274e1a2b",
        "name": "cafe-babe",
        "lockType": LockType.VM,
        "count": 7,
        "groups": ["/a", "/b"],
        "none": None,
    }
    shown = without_secrets(given)
    assert shown == given
    assert type(shown["lockType"]) is LockType


@pytest.mark.parametrize("version", VERSIONS)
def test_no_operation_shows_a_password_or_a_reference(version: str) -> None:
    hidden = set()
    for operation, signature in description(version).operations.items():
        arguments: dict[str, object] = {}
        for field in signature.parameters:
            is_password = "password" in field.name.lower() and field.name != "passwordId"
            value = "hush-hush" if is_password else REFERENCE
            arguments[field.name] = [value] if field.many else value
            if is_password:
                hidden.add(f"{operation} {field.name}")
        shown = repr(VirtualBoxError("no", operation=operation, arguments=without_secrets(arguments)).arguments)
        assert "hush-hush" not in shown
        assert REFERENCE not in shown
    assert {"IMachine_setTeleporterPassword teleporterPassword", "IWebsessionManager_logon password"} <= hidden
