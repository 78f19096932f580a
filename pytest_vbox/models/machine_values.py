"""Values that only VirtualBox's own settings have: OS types, groups, UUIDs, extra data."""

from __future__ import annotations

import re
import uuid
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pytest_vbox.models.fields import NOT_BOOLEAN, mebibytes
from pytest_vbox.models.problems import shown

_GROUP = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9 ._-]{0,63})+")


def _extra_data_text(value: object) -> object:
    """A value as VirtualBox's extra data has it: always text, a boolean as 1 or 0."""
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


ExtraDataText = Annotated[
    str,
    BeforeValidator(_extra_data_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
"""A value of extra data."""

OsType = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]
"""The id that VirtualBox has for a guest operating system (``VBoxManage list ostypes``)."""


def _group(value: str) -> str:
    if not _GROUP.fullmatch(value):
        raise ValueError(f"must be a machine group such as /databases/old, not {shown(value)}")
    return value


def _uuid(value: object) -> object:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError(f"must be a UUID, not {shown(value)}") from None


Group = Annotated[
    str, AfterValidator(_group), WithJsonSchema({"type": "string", "x-values": "group, such as `/databases`"})
]
"""A machine group of VirtualBox."""

Uuid = Annotated[str, BeforeValidator(_uuid), WithJsonSchema({"type": "string", "x-values": "UUID"})]
"""A UUID."""

Percent = Annotated[int, Field(ge=1, le=100), NOT_BOOLEAN]
"""A share of a hundred, and not nothing."""

Balloon = Annotated[
    int,
    Field(ge=0, le=2_097_152),
    BeforeValidator(mebibytes),
    WithJsonSchema({"type": ["integer", "string"], "x-values": "MiB; or with a unit: `256 MiB`"}),
]
"""Memory in MiB that a guest gives back."""
