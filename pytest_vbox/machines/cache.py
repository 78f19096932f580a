"""What is kept for later runs: golden machines and provisioned disks; listed, limited in size, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from pytest_vbox.machines.golden_machines import GoldenMachines
from pytest_vbox.machines.provision import Provisioned


@dataclass(frozen=True)
class Kept:
    """One thing that is kept.

    Attributes:
        name: The machine's name in VirtualBox, or the disk's file name.
        kind: ``golden machine`` or ``provisioned disk``.
        image: The name of its image.
        profile: The name of its hardware profile; a disk has none.
        bytes: What it takes, or None if that cannot be told from here.
        last_used: When a machine was last made of it.
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
    """

    def __init__(self, golden: GoldenMachines, provisioned: Provisioned) -> None:
        self._golden = golden
        self._provisioned = provisioned

    def kept(self) -> list[Kept]:
        """All of it, what was used least recently first."""
        # A golden machine stands on its disk, so it has to go first.
        return sorted([*self._machines(), *self._disks()], key=lambda kept: kept.last_used)

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
