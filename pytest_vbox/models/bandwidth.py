"""Limits of bandwidth, which disks and network adapters may share."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from pytest_vbox.models.fields import Model, Name, Term
from pytest_vbox.models.problems import shown

_RATE = re.compile(
    r"(?P<number>\d{1,15}(?:\.\d{1,15})?)\s*(?P<unit>[KMG]i?(?:B|bit)/s|B/s)?", re.ASCII | re.IGNORECASE
)


class BandwidthKind(Term):
    """What a limit is for."""

    DISK = "disk"
    NETWORK = "network"


def _bytes_per_second(value: object) -> object:
    """A rate in bytes per second; text may have a unit, in bytes or bits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or (match["unit"] is None and "." in match["number"]):
        raise ValueError(
            f"must be a number of bytes per second, or text such as '10 MB/s' or '100 Mbit/s', not {shown(value)}"
        )
    unit = (match["unit"] or "B/s").lower()
    scale = "bkmg".index(unit[0])
    factor = Fraction(1024 if unit[1:2] == "i" else 1000) ** scale
    return int(Fraction(match["number"]) * factor / (8 if unit.endswith("bit/s") else 1))


Rate = Annotated[
    int,
    Field(ge=0, le=2**63 - 1),
    BeforeValidator(_bytes_per_second),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-values": "bytes per second; or with a unit: `10 MB/s`, `100 Mbit/s`",
        }
    ),
]
"""Bytes per second."""


class BandwidthGroup(Model):
    """A limit, by whose name disks and network adapters share it."""

    name: Name = Field(description="Its name.")
    type: BandwidthKind = Field(description="What it limits.")
    limit: Rate = Field(description="How much all its members together may transfer; 0: without a limit.")
