"""The reference page and the JSON Schema say what the models do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_vbox.models import Catalogue, Hardware, Image, json_schema
from pytest_vbox.models.reference import main, updated

from .models_kit import write

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "models.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_page_loads_and_makes_machines(tmp_path: Path, example: str) -> None:
    write(tmp_path, example)
    catalogue = Catalogue.load([tmp_path])
    for image in catalogue.images:
        for profile in catalogue.profiles:
            assert catalogue.machine(image, profile).hardware.os_type


def test_what_the_page_says_of_its_merging_example(tmp_path: Path) -> None:
    (example,) = [text for text in EXAMPLES if "derived" in text]
    write(tmp_path, example)
    catalogue = Catalogue.load([tmp_path])
    assert catalogue.profiles["derived"].memory == 1024
    assert catalogue.profiles["derived"].extra_data == {"a": "1", "c": "3"}
    assert catalogue.machine("example", "derived").hardware.extra_data == {"a": "1", "c": "3", "d": "4"}


def test_the_tables_are_those_of_the_models(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert updated(page) == page, "run: python -m pytest_vbox.models.reference docs/reference/models.md"
    copy = tmp_path / "page.md"
    copy.write_text(page.replace("| `cpus` |", "| `cups` |"), encoding="utf-8")
    main([str(copy)])
    assert copy.read_text(encoding="utf-8") == page


@pytest.mark.parametrize("model", [Hardware, Image])
def test_every_key_has_a_row(model: type[Hardware | Image]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        assert f"| `{name}` | {field.description} |" in page


def test_the_schema_of_a_file() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {"hardware", "images"}
    assert schema["additionalProperties"] is False
    entry = schema["$defs"]["_ImageEntry"]
    assert {*Image.model_fields, "extends"} == set(entry["properties"])
    assert entry["anyOf"] == [{"required": [key]} for key in ("disk", "url", "vagrant", "extends")]
    assert all("description" in key for key in entry["properties"].values())
    assert schema["$defs"]["Hardware"]["properties"]["memory"]["anyOf"][0] == {"type": "integer"}
