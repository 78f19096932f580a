"""The machines that users wanted to keep: out of their run's ledger, in a list of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership.disk import write_synced
from pytest_vbox.ownership.locks import held

_FORMAT: Final = 1
_PATIENCE: Final = 30.0


@dataclass(frozen=True)
class KeptMachine:
    """A machine that outlives its run.

    Attributes:
        id: Its UUID in VirtualBox.
        name: Its name there.
        host: Which VirtualBox it is in.
        test: The test it was made for.
        since: Since when it is kept, as ISO 8601 in UTC.
        enter: The command that enters it, or why there is none.
        remove: The commands that remove it, without pytest-vbox.
    """

    id: str
    name: str
    host: str
    test: str
    since: str
    enter: str
    remove: str

    def __str__(self) -> str:
        return (
            f"kept machine {self.name}: {self.enter}; remove it: {self.remove} "
            f"(or: pytest-vbox machines remove {self.name})"
        )

    @classmethod
    def from_json(cls, document: dict[str, str]) -> Self:
        """From what is written down.

        Raises:
            TypeError: It is not what `KeptMachines` writes.
        """
        if not all(isinstance(value, str) for value in document.values()):
            raise TypeError("all of it has to be text")
        return cls(**document)


class KeptMachines:
    """The list, shared by all processes of the user: ``kept.json`` in the state folder.

    Args:
        state: The state folder.
    """

    def __init__(self, state: Path) -> None:
        self._state = state
        self._path = state / "kept.json"

    def all(self) -> list[KeptMachine]:
        """Every machine that is kept, of whichever VirtualBox. What is torn counts as empty."""
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return [KeptMachine.from_json(entry) for entry in document["machines"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return []

    def ids(self) -> frozenset[str]:
        """Their UUIDs."""
        return frozenset(machine.id for machine in self.all())

    def add(self, machine: KeptMachine) -> None:
        """Write one down."""
        with self._changed() as machines:
            machines[machine.id] = machine

    def strike(self, *ids: str) -> None:
        """Take some out: they are gone."""
        if self.ids().intersection(ids):
            with self._changed() as machines:
                for machine_id in ids:
                    machines.pop(machine_id, None)

    @contextmanager
    def _changed(self) -> Iterator[dict[str, KeptMachine]]:
        with held(self._state, "kept", Deadline(_PATIENCE)):
            machines = {machine.id: machine for machine in self.all()}
            yield machines
            document = {"format": _FORMAT, "machines": [asdict(machine) for machine in machines.values()]}
            write_synced(self._path, json.dumps(document, indent=1) + "\n")
