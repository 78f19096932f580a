"""What is done to a guest before a test gets it: cloud-init's seed, and commands that are run once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pytest_vbox.models.fields import Line, LocalPath, Model, OrText, Seconds
from pytest_vbox.models.user_data import check_network_config, parse_user_data

HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")]
"""The name of a computer, without its domain (RFC 1123)."""

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""


class CloudInit(Model):
    """What a stock cloud image is told on its first boot, by a NoCloud seed."""

    hostname: HostName | None = Field(
        default=None,
        description="The guest's host name.",
        json_schema_extra={"x-default": "the machine's name"},
    )
    packages: tuple[Line, ...] = Field(default=(), description="Packages to install on the first boot.")
    user_data: str | None = Field(
        default=None,
        description="Cloud-config (merged with pytest-vbox's own: lists are joined, keys of yours win), a "
        "script that begins with `#!`, or another kind that cloud-init knows, as a text block.",
    )
    user_data_file: LocalPath | None = Field(default=None, description="The same, from a file of its own.")
    network_config: str | None = Field(
        default=None,
        description="Network configuration, version 1 or 2, as a text block.",
        json_schema_extra={"x-default": "cloud-init's: DHCP on the first adapter"},
    )

    @field_validator("user_data")
    @classmethod
    def _is_user_data(cls, text: str | None) -> str | None:
        if text is not None:
            parse_user_data(text)
        return text

    @field_validator("network_config")
    @classmethod
    def _is_network_config(cls, text: str | None) -> str | None:
        if text is not None:
            check_network_config(text)
        return text

    @model_validator(mode="after")
    def _one_user_data(self) -> CloudInit:
        if self.user_data is not None and self.user_data_file is not None:
            raise ValueError("take user_data or user_data_file, not both")
        return self


def _step(value: object) -> object:
    """A command alone is short for a step."""
    return {"run": value} if isinstance(value, str) else value


class ProvisionStep(Model):
    """One step of an image's provisioning: a command, or a script from this computer."""

    run: str | None = Field(default=None, min_length=1, description="A command for the guest's shell.")
    script: LocalPath | None = Field(
        default=None, description="A file that is brought into the guest and run; its first line says by what."
    )
    sudo: bool = Field(default=True, description="Whether it is run as root.")
    env: Mapping[VariableName, str] = Field(
        default={},
        description="Environment variables.",
        json_schema_extra={"x-values": "mapping of names to text"},
    )
    timeout: Seconds = Field(default=600, description="How long it may take, in seconds.")

    @model_validator(mode="after")
    def _one_of_both(self) -> ProvisionStep:
        if (self.run is None) == (self.script is None):
            raise ValueError("must have either run or script")
        return self


Step = Annotated[ProvisionStep, BeforeValidator(_step), OrText()]
"""A step; text alone is a command."""
