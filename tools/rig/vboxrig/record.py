"""What a rig consists of while it is up, kept in its state folder as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vboxrig.processes import Process, mount_namespace
from vboxrig.progress import say


@dataclass
class Record:
    """A rig that was started: its processes by name, and what they were told."""

    holder: Process
    namespace: str
    parts: list[str]
    port: int = 0
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True while the rig's namespace exists."""
        return self.holder.alive and mount_namespace(self.holder.pid) == self.namespace

    @property
    def dead(self) -> list[str]:
        """The names of the processes that have ended by themselves."""
        return [name for name, process in self.processes.items() if not process.alive]

    def save(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(path)


def load(path: Path) -> Record | None:
    """Return the record at `path`, or None if there is none that can be read."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        data["holder"] = Process(**data["holder"])
        data["processes"] = {name: Process(**value) for name, value in data["processes"].items()}
        return Record(**data)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        say(f"{path} cannot be read ({error}); taking the rig as down")
        return None
