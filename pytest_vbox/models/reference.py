"""The tables of the reference page, made from the models.

``python -m pytest_vbox.models.reference PAGE`` writes them anew between the marks of a Markdown page; a unit test
compares them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pytest_vbox.models.bandwidth import BandwidthGroup
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import Image
from pytest_vbox.models.network import HostOnlyOptions, NatRule, NatSettings, NetworkAdapter
from pytest_vbox.models.ports import Audio, ParallelPort, SerialPort, SharedFolder
from pytest_vbox.models.preparation import CloudInit, ProvisionStep
from pytest_vbox.models.processor import BootLogo
from pytest_vbox.models.services import Autostart, IoCache, Teleporter, Vrde
from pytest_vbox.models.storage import NewDisk, StorageController, StorageDevice

_MODELS: tuple[type[BaseModel], ...] = (
    Hardware,
    NetworkAdapter,
    NatRule,
    NatSettings,
    HostOnlyOptions,
    StorageController,
    StorageDevice,
    NewDisk,
    BandwidthGroup,
    SharedFolder,
    SerialPort,
    ParallelPort,
    BootLogo,
    Audio,
    Vrde,
    IoCache,
    Teleporter,
    Autostart,
    Image,
    CloudInit,
    ProvisionStep,
)
_MARKED = re.compile(r"(<!-- keys of (?P<model>\w+), generated -->\n).*?(<!-- end -->)", re.DOTALL)
_TYPES = {
    "string": "text",
    "boolean": "`true`, `false`",
    "number": "number",
    "object": "mapping of keys to text",
}


def table(model: type[BaseModel]) -> str:
    """A Markdown table with a row for each key of a model: meaning, allowed values with unit, and default."""
    schema = model.model_json_schema()
    rows = ["| key | meaning | values | default |", "|---|---|---|---|"]
    for name, prop in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else _default(prop)
        values = _values(prop, schema.get("$defs", {}))
        rows.append(f"| `{name}` | {prop['description']} | {values} | {default} |")
    return "\n".join(rows)


def updated(page: str) -> str:
    """A Markdown page with the tables between its marks made anew.

    Args:
        page: The text, with ``<!-- keys of Hardware, generated -->`` and ``<!-- end -->`` around each table.

    Raises:
        KeyError: A mark names no model.
    """
    models = {model.__name__: model for model in _MODELS}
    return _MARKED.sub(lambda match: f"{match[1]}{table(models[match['model']])}\n{match[3]}", page)


def _default(prop: Mapping[str, Any]) -> str:
    if "x-default" in prop:
        return str(prop["x-default"])
    value = prop.get("default")
    if isinstance(value, list):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if value is None or value == {}:
        return "none"
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(prop: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    """The allowed values of a property of a JSON Schema, with the unit."""
    if "x-values" in prop:
        return str(prop["x-values"])
    if "$ref" in prop:
        return _referred(str(prop["$ref"]).rpartition("/")[2], defs)
    if "anyOf" in prop:
        return " or ".join(_values(option, defs) for option in prop["anyOf"] if option.get("type") != "null")
    if "enum" in prop:
        return _terms(prop["enum"])
    if prop["type"] == "array":
        most = f", at most {prop['maxItems']}" if "maxItems" in prop else ""
        return f"list{most}: {_values(prop['items'], defs)}"
    if prop["type"] == "integer":
        return f"{prop['minimum']} to {prop['maximum']}" if "minimum" in prop else "whole number"
    if prop.get("format") == "path":
        return "path of a file"
    return _TYPES[prop["type"]]


def _referred(name: str, defs: Mapping[str, Any]) -> str:
    terms = defs[name].get("enum")
    return _terms(terms) if terms else f"[keys of {name}](#{name.lower()})"


def _terms(terms: Sequence[str]) -> str:
    return ", ".join(f"`{term}`" for term in terms)


def main(pages: list[str]) -> None:
    """Updates pages in place.

    Args:
        pages: Paths of Markdown files.
    """
    for page in map(Path, pages):
        page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
