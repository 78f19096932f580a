"""Every call that the typed classes make, held against the descriptions of all supported versions."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import pytest_vbox.virtualbox
from pytest_vbox.virtualbox import compat, enums
from pytest_vbox.virtualbox.errors import NotSupported
from pytest_vbox.virtualbox.interface import Attribute, Interface, ReadOnly
from unit.kit.descriptions import NEWEST, VERSIONS, Description, Field, Signature, description

ROOM: Final = Path(pytest_vbox.virtualbox.__file__).parent
TOOL: Final = ROOM.parent.parent / "tools" / "signatures.py"

# What older versions call the type of a parameter or result.
OLDER_TYPES: Final = {
    "FirmwareBootMenuMode": "BIOSBootMenuMode",
    "CPUPropertyTypeX86": "CPUPropertyType",
}

# Values that older versions do not have, by the version that brought them.
NEWER_VALUES: Final = {
    ("MachineState", "AbortedSaved"): "7.0",  # only read
    ("StorageBus", "VirtioSCSI"): "6.1",  # the user asked for it; VirtualBox's answer names the value
    ("StorageControllerType", "VirtioSCSI"): "6.1",  # as above
    ("GraphicsControllerType", "VBoxSVGA"): "6.0",  # as above
    ("NetworkAttachmentType", "HostOnlyNetwork"): "7.0",  # as above
    ("NetworkAdapterType", "I82583V"): "7.2",  # as above
    ("NetworkAdapterType", "UsbNet"): "7.2",  # as above
    ("PointingHIDType", "USBMultiTouchScreenPlusPad"): "7.0",  # as above
    ("AudioDriverType", "Default"): "7.0",  # as above
    ("AudioDriverType", "WAS"): "7.0",  # as above
    ("CPUPropertyTypeX86", "HWVirt"): "6.0",  # as above
    ("CloneOptions", "KeepHwUUIDs"): "6.0",  # machines are booted there, and the reason is told
}
# Operations that older versions do not have: the user asked for it, and is told so.
NEWER_OPERATIONS: Final = {
    "IMachine_getTrustedPlatformModule": "7.0",
    "ITrustedPlatformModule_getType": "7.0",
    "ITrustedPlatformModule_setType": "7.0",
    "IPlatform_getIommuType": "7.0",
    "IPlatform_setIommuType": "7.0",
    "INetworkAdapter_getHostOnlyNetwork": "7.0",
    "INetworkAdapter_setHostOnlyNetwork": "7.0",
    "INATEngine_getLocalhostReachable": "7.0",
    "INATEngine_setLocalhostReachable": "7.0",
    "IVirtualBox_getHostOnlyNetworks": "7.0",
    "IVirtualBox_createHostOnlyNetwork": "7.0",
    "IHostOnlyNetwork_getNetworkName": "7.0",
    "IHostOnlyNetwork_getEnabled": "7.0",
    "IHostOnlyNetwork_setEnabled": "7.0",
    "IHostOnlyNetwork_getNetworkMask": "7.0",
    "IHostOnlyNetwork_setNetworkMask": "7.0",
    "IHostOnlyNetwork_getLowerIP": "7.0",
    "IHostOnlyNetwork_setLowerIP": "7.0",
    "IHostOnlyNetwork_getUpperIP": "7.0",
    "IHostOnlyNetwork_setUpperIP": "7.0",
    "ISerialPort_getUartType": "6.0",
    "ISerialPort_setUartType": "6.0",
    "ISharedFolder_getName": "6.0",
    "ISharedFolder_getHostPath": "6.0",
    "ISharedFolder_getWritable": "6.0",
    "ISharedFolder_getAutoMount": "6.0",
    "ISharedFolder_getAutoMountPoint": "6.0",
}
# Enumerations that older versions do not have at all.
NEWER_ENUMERATIONS: Final = {
    "IommuType": "7.0",  # the user asked for it; the error says that this VirtualBox has none
    "TpmType": "7.0",  # as above
    "UartType": "6.0",  # as above
    "CPUPropertyTypeX86": "7.1",  # the same values were called CPUPropertyType
    "GraphicsFeature": "7.1",  # its parameter is left out before
    "PlatformArchitecture": "7.1",  # its parameter is left out before
    "FirmwareBootMenuMode": "7.1",  # the same values were called BIOSBootMenuMode
}
# What older versions send whole, and newer ones as a reference; only tests ask for it.
SENT_WHOLE: Final = {"5.2": {"IMachine_getSharedFolders"}}
# Enumerations that are read from objects which are not ours, so that every value has to be known.
READ_FROM_ANYTHING: Final = ("MachineState", "SessionState", "MediumState", "MediumType")
# Names for ranges of states, which no machine is ever in; and a feature that 6.1 dropped, never left at rest.
NO_STATES: Final = {"FirstOnline", "LastOnline", "FirstTransient", "LastTransient", "FaultTolerantSyncing"}


def _called_operations() -> list[str]:
    """What the tool finds that writes `signatures.json`."""
    spec = importlib.util.spec_from_file_location("signatures_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    called: Callable[[], set[str]] = module.called_operations
    return sorted(called())


OPERATIONS: Final = _called_operations()


class Call(NamedTuple):
    """A call as it stands in the source."""

    operation: str
    keywords: frozenset[str]
    place: str


def _calls() -> Iterator[Call]:
    """Each `self._call("x", a=…)` of the classes, and each `….call("IX_y", a=…)`."""
    for path in sorted(ROOM.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        interfaces = {
            node: str(ast.literal_eval(entry.value))
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for entry in node.body
            if isinstance(entry, ast.Assign) and ast.unparse(entry.targets[0]) == "interface"
        }
        for owner, prefix in (*((node, f"{name}_") for node, name in interfaces.items()), (tree, "")):
            wanted = "_call" if prefix else "call"
            for node in ast.walk(owner):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                first = node.args[0] if node.args else None
                name = first.value if isinstance(first, ast.Constant) else None
                if node.func.attr != wanted or not isinstance(name, str):
                    continue
                keywords = frozenset(str(keyword.arg) for keyword in node.keywords)
                this = {"_this"} if prefix else set()
                yield Call(f"{prefix}{name}", keywords | this, f"{path.name}:{node.lineno}")


CALLS: Final = tuple(_calls())


def _attributes() -> Iterator[ReadOnly[object]]:
    pending = list(Interface.__subclasses__())
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        yield from (value for value in vars(kind).values() if isinstance(value, ReadOnly))


def _enumerations() -> list[type[StrEnum]]:
    return [
        kind
        for kind in vars(enums).values()
        if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
    ]


def test_every_operation_that_is_called_is_written_down() -> None:
    assert len(OPERATIONS) > 100
    assert set(OPERATIONS) <= description().operations.keys()


def test_every_call_in_the_source_is_found_by_the_tool() -> None:
    assert {call.operation for call in CALLS} <= set(OPERATIONS)


def test_keywords_are_the_parameters_of_the_newest_version() -> None:
    operations = description().operations
    wrong = [call for call in CALLS if call.keywords != set(operations[call.operation].names)]
    assert wrong == []


def test_setters_take_a_parameter_named_as_the_attribute() -> None:
    operations = description().operations
    attributes = list(_attributes())
    assert len(attributes) > 50
    for attribute in attributes:
        getter, *setters = attribute.operations
        assert operations[getter].names == ("_this",)
        assert len(setters) == (1 if isinstance(attribute, Attribute) else 0)
        assert all(operations[setter].names == ("_this", attribute.name) for setter in setters)


def _older(field: Field) -> Field:
    return Field(field.name, OLDER_TYPES.get(field.kind, field.kind), field.many)


def _received(operation: str, there: Description) -> tuple[Signature | None, Signature]:
    """What arrives at a version when an operation is called, and what that version expects."""
    newest = description().operations[operation]
    translation = compat.translate(operation, there.parameters)
    if translation.same_object:
        # Nothing is sent at all: the reference that was asked stands for what it would have given.
        assert operation not in there.operations
        return None, newest
    sent = translation.arguments({field.name: field for field in newest.parameters})
    fields = []
    for name, value in sent.items():
        assert isinstance(value, Field)
        many = value.many and name != translation.joined
        fields.append(Field(name, value.kind, many))
    actual = there.operations[translation.operation]
    fields.sort(key=lambda field: actual.names.index(field.name) if field.name in actual.names else -1)
    return Signature(tuple(fields), newest.results), actual


def _operations_of(version: str) -> list[str]:
    """Those that a version has in some way."""
    return [
        operation
        for operation in OPERATIONS
        if VERSIONS.index(version) >= VERSIONS.index(NEWER_OPERATIONS.get(operation, VERSIONS[0]))
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_older_version_has_not_is_refused_by_name(version: str) -> None:
    for operation in set(OPERATIONS) - set(_operations_of(version)):
        with pytest.raises(NotSupported, match=operation.replace("_", "::", 1)):
            compat.translate(operation, description(version).parameters)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gets_exactly_the_parameters_it_has(version: str) -> None:
    there = description(version)
    for operation in set(_operations_of(version)) - SENT_WHOLE.get(version, set()):
        received, expected = _received(operation, there)
        if received is None:
            assert [(field.kind, field.many) for field in expected.results] == [("string", False)]
            continue
        older = Signature(
            tuple(map(_older, received.parameters)),
            tuple(map(_older, received.results)),
        )
        assert expected in (received, older), operation


@pytest.mark.parametrize("version", VERSIONS)
def test_older_names_are_used_only_where_the_new_one_is_missing(version: str) -> None:
    there = description(version)
    for operation in _operations_of(version):
        translation = compat.translate(operation, there.parameters)
        assert (translation.operation == operation) == (operation in there.operations or translation.same_object)


def test_what_no_version_has_is_refused_by_name() -> None:
    with pytest.raises(NotSupported, match=r"no IMachine::teleport") as caught:
        compat.translate("IMachine_teleport", description().parameters)
    assert caught.value.operation == "IMachine_teleport"


@pytest.mark.parametrize("kind", _enumerations(), ids=lambda kind: kind.__name__)
def test_every_value_of_an_enumeration_exists(kind: type[StrEnum]) -> None:
    name = kind.__name__
    for version in VERSIONS:
        there = description(version).enumerations.get(name)
        if there is None:
            assert VERSIONS.index(version) < VERSIONS.index(NEWER_ENUMERATIONS[name])
            there = description(version).enumerations.get(OLDER_TYPES.get(name, ""), list(kind))
        missing = set(kind) - set(there)
        excused = {
            value
            for (owner, value), since in NEWER_VALUES.items()
            if owner == name and VERSIONS.index(version) < VERSIONS.index(since)
        }
        assert missing == excused


def test_excuses_are_for_values_that_are_used() -> None:
    values = {(kind.__name__, value) for kind in _enumerations() for value in map(str, kind)}
    assert NEWER_VALUES.keys() <= values
    assert NEWER_ENUMERATIONS.keys() <= {kind.__name__ for kind in _enumerations()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", READ_FROM_ANYTHING)
def test_every_state_that_anything_may_be_in_is_known(name: str, version: str) -> None:
    kind: type[StrEnum] = getattr(enums, name)
    assert set(description(version).enumerations[name]) - NO_STATES <= set(kind)


def test_online_states_are_those_with_a_process() -> None:
    # The SDK orders the values: FirstOnline is Running, LastOnline is OnlineSnapshotting.
    states = [value for value in description(NEWEST).enumerations["MachineState"] if value not in NO_STATES]
    online = states[states.index("Running") : states.index("OnlineSnapshotting") + 1]
    assert {state for state in enums.MachineState if state.is_online} == set(online)
