"""Models of machines, from YAML as a user writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_vbox.machines.plan import Owner, Plan
from pytest_vbox.models import Catalogue, MachineModel


def machine_model(
    folder: Path, hardware: Mapping[str, object] | None = None, image: str = "{disk: tiny.vdi}"
) -> MachineModel:
    """The model of a machine.

    Args:
        folder: Where the YAML is written, and where the disk would be.
        hardware: What comes over the profile ``micro``.
        image: The image, in YAML.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.yaml").write_text(f"images:\n  tiny: {image}\n", encoding="utf-8")
    return Catalogue.load([folder]).machine("tiny", "micro", hardware)


def plan(model: MachineModel) -> Plan:
    """A plan for a machine of a test."""
    return Plan("pytest-one-12345678", model, Owner("run-1", "test_a.py::test_one"), 30, id="id-1")
