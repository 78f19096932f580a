"""The JSON Schema of a file with models, for editors."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from pytest_vbox.models.fields import Model, Name
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import SOURCES, Image

_EXTENDS = "The entry whose keys this one inherits; its own come over them."


def _source_may_be_inherited(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [{"required": [key]} for key in (*SOURCES, "extends")]


class _HardwareEntry(Hardware):
    """A hardware profile."""

    extends: Name | None = Field(default=None, description=_EXTENDS)


class _ImageEntry(Image):
    """An image."""

    model_config = ConfigDict(json_schema_extra=_source_may_be_inherited)
    extends: Name | None = Field(default=None, description=_EXTENDS)


class _File(Model):
    """Hardware profiles and images of pytest-vbox."""

    hardware: dict[Name, _HardwareEntry] | None = Field(default=None, description="Hardware profiles by name.")
    images: dict[Name, _ImageEntry] | None = Field(default=None, description="Images by name.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a whole YAML file."""
    schema = _File.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pytest-vbox models"}
