"""The kinds of value that models are made of: sizes, names, ports, addresses, paths, and words of a fixed list."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema

from pytest_vbox.models.problems import shown
from pytest_vbox.models.tree import FileText
from pytest_vbox.printable import printable

_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,15})?)(?:\s*(?P<unit>[KMGT]i?B))?", re.ASCII | re.IGNORECASE)
_UNITS = {
    name: base**power
    for power, letter in enumerate("kmgt", start=1)
    for name, base in ((f"{letter}b", 1000), (f"{letter}ib", 1024))
}
_MIB = 1024**2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Model(BaseModel):
    """What all models share: they don't change once made, refuse keys they don't know, and keep inputs secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )


class Term(StrEnum):
    """A word of a fixed list, read without regard to case, hyphens and underscores."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        return next((term for term in cls if _folded(term) == _folded(value)), None)


class OrText:
    """Tells the JSON Schema that text is taken too, as the short form of a model."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


def mebibytes(value: object) -> object:
    """A size in MiB: a number is taken as MiB, text may have a unit; rounded down to whole MiB.

    Args:
        value: Such as ``2048``, ``"2 GiB"`` (2048) or ``"512 MB"`` (decimal, so 488).

    Raises:
        ValueError: Not a size.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be a number of MiB, or text such as '2 GiB' or '512 MB', not {shown(value)}")
    if match["unit"] is None:
        if "." in match["number"]:
            raise ValueError(f"must be a whole number of MiB, or have a unit, not {shown(value)}")
        return int(match["number"])
    # Not a float: 4.1 GiB has to be the same number of MiB everywhere.
    return int(Fraction(match["number"]) * _UNITS[match["unit"].lower()] / _MIB)


def checked_name(name: str) -> str:
    """A name as it is, if it is one.

    Raises:
        ValueError: Not a name.
    """
    if not _NAME.fullmatch(name):
        wanted = "1 to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        raise ValueError(f"{shown(name)} is not a name: {wanted}")
    return name


def _folded(text: str) -> str:
    return text.casefold().replace("-", "").replace("_", "")


def _not_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {shown(value)}")
    return value


def _ipv4_or_empty(value: str) -> str:
    return _ipv4(value) if value else value


def _ipv4(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError(f"must be an IPv4 address, not {shown(value)}") from None


def _ipv4_network(value: str) -> str:
    try:
        return str(ipaddress.IPv4Network(value, strict=False))
    except ValueError:
        raise ValueError(f"must be an IPv4 network such as 192.168.15.0/24, not {shown(value)}") from None


def local_path(value: object) -> object:
    """A path on this computer, made absolute; see ``LocalPath``.

    Raises:
        ValueError: It cannot be a path.
    """
    if not isinstance(value, str | Path):
        return value
    if not str(value).strip() or not str(value).isprintable():
        raise ValueError(f"must be the path of a file, not {shown(str(value))}")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"there is no such home folder: {shown(str(value))}") from None
    folder = value.folder if isinstance(value, FileText) else Path.cwd()
    return folder / path


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def _readable(value: str) -> str:
    if printable(value) != value:
        raise ValueError("must be printable text")
    return value


NOT_BOOLEAN = BeforeValidator(_not_boolean)
"""For every number: pydantic takes true for 1, which no one who writes ``cpus: true`` means."""

VIRTUALBOX_S: JsonDict = {"x-default": "VirtualBox's"}
"""For keys that are left as VirtualBox has them where they are not given."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), NOT_BOOLEAN]
"""A time in seconds."""

Port = Annotated[int, Field(ge=1, le=65535), NOT_BOOLEAN]
"""A TCP or UDP port."""

OptionalPort = Annotated[int, Field(ge=0, le=65535), NOT_BOOLEAN]
"""A TCP or UDP port, where 0 leaves the choice open."""

Line = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
"""One line of text."""

Description = Annotated[str, AfterValidator(_readable)]
"""Text for people, of any number of lines."""

Name = Annotated[str, AfterValidator(checked_name)]
"""A name that a user gives."""

Ipv4OrEmpty = Annotated[
    str,
    AfterValidator(_ipv4_or_empty),
    WithJsonSchema({"type": "string", "x-values": "IPv4 address, or empty"}),
]
"""An IPv4 address, or empty."""

Ipv4 = Annotated[str, AfterValidator(_ipv4), WithJsonSchema({"type": "string", "x-values": "IPv4 address"})]
"""An IPv4 address."""

Ipv4Network = Annotated[
    str,
    AfterValidator(_ipv4_network),
    WithJsonSchema({"type": "string", "x-values": "IPv4 network, such as `192.168.15.0/24`"}),
]
"""An IPv4 network with its prefix length."""

LocalPath = Annotated[Path, BeforeValidator(local_path)]
"""A path on this computer, made absolute: ``~`` is the home folder, a relative path starts at the YAML file's
folder (given in Python: at the current one). Whether there is such a file isn't asked here."""

_SIZE_SCHEMA = {
    "anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^[0-9.]+ *([KMGTkmgt][Ii]?[Bb])?$"}]
}

# Bounds are VirtualBox's own (MM_RAM_MIN_IN_MB, MM_RAM_MAX_IN_MB, VGA_VRAM_MAX; include/VBox/param.h).
Memory = Annotated[
    int,
    Field(ge=4, le=2_097_152),
    BeforeValidator(mebibytes),
    WithJsonSchema({**_SIZE_SCHEMA, "x-values": "4 to 2097152 MiB; or with a unit: `2 GiB`, `512 MB`"}),
]
"""Main memory in MiB."""

VideoMemory = Annotated[
    int,
    Field(ge=0, le=256),
    BeforeValidator(mebibytes),
    WithJsonSchema({**_SIZE_SCHEMA, "x-values": "0 to 256 MiB; or with a unit: `16 MiB`"}),
]
"""Graphics memory in MiB."""

DiskSize = Annotated[
    int,
    Field(ge=1, le=2_097_152),
    BeforeValidator(mebibytes),
    WithJsonSchema({**_SIZE_SCHEMA, "x-values": "1 to 2097152 MiB; or with a unit: `20 GiB`"}),
]
"""Size of a disk in MiB."""
