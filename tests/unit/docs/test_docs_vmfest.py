"""The names on the page for VMFest's users are those of the models."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest
from pydantic import BaseModel

from pytest_vbox.models import Catalogue
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import Image
from pytest_vbox.models.network import NatRule, NetworkAdapter
from pytest_vbox.models.ports import SharedFolder
from pytest_vbox.models.services import IoCache, Teleporter
from pytest_vbox.models.storage import NewDisk, StorageController, StorageDevice

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "come-from-vmfest.md").read_text(encoding="utf-8")
SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "## Images: `.meta` files": (Image, Hardware),
    "## Hardware": (Hardware, IoCache, Teleporter),
    "### Network": (NetworkAdapter, NatRule),
    "### Storage": (Hardware, StorageController, StorageDevice, NewDisk, SharedFolder),
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_new_name_is_a_key_of_the_models(heading: str) -> None:
    section = re.split(r"^##+ ", PAGE.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith(("| `:", "| a "))]
    named = [
        name
        for cell in rows
        for code in re.findall(r"`([^`]+)`", cell)
        for name in re.findall(r"(?:^|[{ ,\[])([a-z][a-z0-9_]+)(?=[:,}\]]|$)", re.sub(r": [a-zA-Z-]+$", "", code))
    ]
    keys = set(chain.from_iterable(model.model_fields for model in SECTIONS[heading]))
    values = {"hard-disk", "dvd", "nat", "bridged", "internal", "host", "only", "hard", "disk"}
    assert len(named) > 3
    assert set(named) - values <= keys


def test_its_examples_are_models(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "models.yaml").write_text(example, encoding="utf-8")
        Catalogue.load([folder])
    assert examples
