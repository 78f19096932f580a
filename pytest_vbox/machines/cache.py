"""What is kept for later runs: golden machines and provisioned disks; listed, limited in size, taken away.

Also anchors, but only those whose base is gone: the others take no room, and are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Bases
from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.machines.provision import Provisioned

# Seconds for VirtualBox to delete an anchor's settings.
_PATIENCE: Final = 10.0


@dataclass(frozen=True)
class Kept:
    """One thing that is kept.

    Attributes:
        name: The machine's name in VirtualBox, or the disk's file name.
        kind: ``golden machine``, ``provisioned disk`` or ``anchor``.
        image: The name of its image; an anchor may be that of several, and names none.
        profile: The name of its hardware profile; only golden machines have one.
        bytes: What it takes, or None if that cannot be told from here.
        last_used: When a machine was last made of it; of an anchor, when its settings were written.
        in_use: Whether machines stand on it now.
        outdated: Why no machine will be made of it any more, or None.
    """

    name: str
    kind: str
    image: str
    profile: str
    bytes: int | None
    last_used: datetime
    in_use: bool
    outdated: str | None
    _remove: Callable[[], bool] = field(repr=False, compare=False)

    def remove(self) -> bool:
        """Take it away, unless machines stand on it. Returns whether it is gone."""
        return self._remove()


class Cache:
    """What one VirtualBox has for later runs.

    Args:
        golden: The golden machines.
        provisioned: The provisioned disks.
        bases: The bases and their anchors.
    """

    def __init__(self, golden: GoldenMachines, provisioned: Provisioned, bases: Bases) -> None:
        self._golden = golden
        self._provisioned = provisioned
        self._bases = bases

    def kept(self) -> list[Kept]:
        """All of it, what was used least recently first; then the anchors whose base is gone."""
        # A golden machine stands on its disk, so it has to go first.
        kept = sorted([*self._machines(), *self._disks()], key=lambda kept: kept.last_used)
        return [*kept, *self._anchors()]

    def trim(self, limit: int) -> list[Kept]:
        """Take away what was used least recently, until all together takes no more than some bytes."""
        kept = self.kept()
        total, removed = sum(entry.bytes or 0 for entry in kept), []
        for entry in kept:
            if total <= limit:
                break
            if entry.bytes and entry.remove():
                total -= entry.bytes
                removed.append(entry)
        return removed

    def prune(self) -> list[Kept]:
        """Take away what no machine will be made of any more."""
        return [entry for entry in self.kept() if entry.outdated is not None and entry.remove()]

    def _machines(self) -> Iterator[Kept]:
        for golden in self._golden.all():
            yield Kept(
                golden.name,
                "golden machine",
                golden.image,
                golden.profile,
                self._golden.size(golden),
                self._golden.last_used(golden),
                self._golden.in_use(golden),
                self._golden.why_outdated(golden),
                lambda golden=golden: self._golden.remove(golden),  # type: ignore[misc]
            )

    def _disks(self) -> Iterator[Kept]:
        for disk in self._provisioned.all():
            yield Kept(
                disk.path.name,
                "provisioned disk",
                disk.image,
                "",
                disk.size,
                disk.last_used,
                self._provisioned.in_use(disk),
                None,
                lambda disk=disk: self._provisioned.remove(disk),  # type: ignore[misc]
            )

    def _anchors(self) -> Iterator[Kept]:
        for anchor in self._bases.baseless():
            yield Kept(
                anchor.name,
                "anchor",
                "",
                "",
                0,
                _written(anchor.settings),
                self._bases.is_stood_on(anchor),
                f"{anchor.location} is gone",
                lambda anchor=anchor: self._bases.remove_baseless(anchor, Deadline(_PATIENCE)),  # type: ignore[misc]
            )


def _written(file: Path) -> datetime:
    with suppress(OSError):
        return datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return datetime.fromtimestamp(0, UTC)
