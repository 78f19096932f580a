"""What the tests of the models share."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from pytest_vbox.models import Catalogue, ModelError


def write(folder: Path, text: str, name: str = "models.yaml") -> Path:
    """Writes a YAML file into a folder, which is made if need be; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def load(folder: Path, text: str) -> Catalogue:
    """The catalogue of one file with this text."""
    write(folder, text)
    return Catalogue.load([folder])


def complaints(*folders: Path) -> list[str]:
    """The problems that loading the folders tells of, as text."""
    with pytest.raises(ModelError) as caught:
        Catalogue.load(folders)
    return [str(problem) for problem in caught.value.problems]


def failure(folder: Path) -> ModelError | None:
    """The error that loading a folder raises, if any."""
    try:
        Catalogue.load([folder])
    except ModelError as error:
        return error
    return None


def complaints_of(folder: Path, text: str) -> list[str]:
    """The problems of one file with this text; the file's path is cut off, so they begin with the line."""
    file = write(folder, text)
    return [complaint.removeprefix(f"{file}:") for complaint in complaints(folder)]
