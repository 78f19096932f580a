"""What VirtualBox does for a running machine: remote display, teleporting, starting with the host."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from pytest_vbox.models.fields import NOT_BOOLEAN, Ipv4OrEmpty, Model, OptionalPort, Term
from pytest_vbox.models.problems import shown

_PORTS = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", re.ASCII)


class VrdeAuth(Term):
    """How who connects to the remote display is checked."""

    NULL = "null"
    EXTERNAL = "external"
    GUEST = "guest"


class Autostop(Term):
    """What becomes of a machine when the host shuts down."""

    DISABLED = "disabled"
    SAVE_STATE = "save-state"
    POWER_OFF = "power-off"
    ACPI_SHUTDOWN = "acpi-shutdown"


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _ports(value: str) -> str:
    numbers = [int(number) for number in re.findall(r"\d+", value)] if _PORTS.fullmatch(value) else []
    if not numbers or any(number > 65535 for number in numbers):
        raise ValueError(f"must be ports such as 3389 or 5000-5050, not {shown(value)}")
    return value


Ports = Annotated[
    str,
    BeforeValidator(_number_as_text),
    AfterValidator(_ports),
    WithJsonSchema({"type": ["string", "integer"], "x-values": "a port or a range: `3389`, `5000-5050`"}),
]
"""Ports as VirtualBox's remote display has them: numbers and ranges, separated by commas."""


class Vrde(Model):
    """VirtualBox's remote display (which needs an extension pack, to run)."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    ports: Ports = Field(
        default="5000-5999",
        description="The ports, of which the first free one is taken; `0`: VirtualBox's, 3389.",
    )
    address: Ipv4OrEmpty = Field(
        default="127.0.0.1", description="The host's address that listens; empty for all of its addresses."
    )
    auth: VrdeAuth = Field(default=VrdeAuth.NULL, description="How who connects is checked; `null`: not at all.")
    multi_connection: bool = Field(default=False, description="Whether several may watch at the same time.")


class Teleporter(Model):
    """Waiting for a machine that is teleported here, instead of booting."""

    enabled: bool = Field(
        default=True, description="Whether the machine waits for another one when it is started."
    )
    port: OptionalPort = Field(default=0, description="The port that it listens on; 0: VirtualBox picks one.")
    address: Ipv4OrEmpty = Field(
        default="127.0.0.1", description="The host's address that listens; empty for all of its addresses."
    )
    password: SecretStr | None = Field(default=None, description="What the other side has to know; never shown.")


class Autostart(Model):
    """Starting and stopping with the host."""

    enabled: bool = Field(default=True, description="Whether it is started with the host.")
    delay: Annotated[int, Field(ge=0, le=86_400), NOT_BOOLEAN] = Field(
        default=0, description="How long after the host, in seconds."
    )
    stop: Autostop = Field(
        default=Autostop.DISABLED, description="What becomes of the machine when the host shuts down."
    )


class IoCache(Model):
    """VirtualBox's cache for disks that do not use the host's."""

    enabled: bool = Field(default=True, description="Whether there is one.")
    size: Annotated[int, Field(ge=0, le=2_097_152), NOT_BOOLEAN] = Field(
        default=5, description="Its size, in MiB."
    )
