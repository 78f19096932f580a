"""Models of machines, from YAML as a user writes it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pytest_vbox.machines.plan import Owner, Plan
from pytest_vbox.models import Catalogue, MachineModel


@cache
def _catalogue() -> Catalogue:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models.yaml").write_text("images:\n  tiny: {disk: /images/tiny.vdi}\n", encoding="utf-8")
        return Catalogue.load([Path(folder)])


def machine_model(hardware: Mapping[str, object] | None = None) -> MachineModel:
    """The model of a machine whose disk is not there; the hardware comes over the profile ``micro``."""
    return _catalogue().machine("tiny", "micro", hardware)


def plan(model: MachineModel) -> Plan:
    """A plan for a machine of a test."""
    return Plan("pytest-one-12345678", model, Owner("run-1", "test_a.py::test_one"), 30, id="id-1")
