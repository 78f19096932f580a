"""What is kept for later runs: anchors are in it only where their base is gone."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from pytest_vbox.images import BaselessAnchor, Bases
from pytest_vbox.machines.cache import Cache
from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.machines.provision import Provisioned


class _Nothing:
    """Stands for what has nothing."""

    def all(self) -> list[object]:
        return []


class _Bases:
    """Stands for bases of which one was deleted."""

    def __init__(self, settings: Path) -> None:
        self.left = [BaselessAnchor("pytest-vbox base tiny", "/tiny.vdi", settings)]
        self.stood_on = False

    def baseless(self) -> list[BaselessAnchor]:
        return list(self.left)

    def is_stood_on(self, _: BaselessAnchor) -> bool:
        return self.stood_on

    def remove_baseless(self, anchor: BaselessAnchor, _: object) -> bool:
        if not self.stood_on:
            self.left.remove(anchor)
        return not self.stood_on


@pytest.fixture
def bases(tmp_path: Path) -> _Bases:
    return _Bases(tmp_path / "anchor.vbox")


@pytest.fixture
def cache(bases: _Bases) -> Cache:
    nothing = _Nothing()
    return Cache(cast("GoldenMachines", nothing), cast("Provisioned", nothing), cast("Bases", bases))


def test_an_anchor_whose_base_is_gone_is_shown_and_pruned(cache: Cache, bases: _Bases) -> None:
    (kept,) = cache.kept()
    assert (kept.name, kept.kind, kept.outdated) == ("pytest-vbox base tiny", "anchor", "/tiny.vdi is gone")
    assert (kept.bytes, kept.in_use) == (0, False)
    # It takes no room, so no limit on that takes it away.
    assert cache.trim(0) == []
    assert cache.prune() == [kept]
    assert bases.left == []


def test_an_anchor_that_machines_stand_on_stays(cache: Cache, bases: _Bases) -> None:
    bases.stood_on = True
    (kept,) = cache.kept()
    assert kept.in_use
    assert cache.prune() == []
    assert bases.left != []
