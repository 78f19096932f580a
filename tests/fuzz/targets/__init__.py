"""One module for each reader.

A target is a module with

- ``run(data, folder)``, which gives the input to the reader, in an empty folder where it needs one, and lets
  nothing through but what no reader may raise;
- ``seeds()``, valid inputs, from which the others are made;
- ``WORDS``, what stands in inputs, for the mutations (may be missing);
- ``PROGRAMS``, whether it may start programs (may be missing: no).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast


class Target(Protocol):
    """A module as described above."""

    def run(self, data: bytes, folder: Path) -> None: ...

    def seeds(self) -> Iterable[bytes]: ...


#: The targets by name, with what they read; those that most of the outside world writes come first.
TARGETS: Final = {
    "models": "the YAML of hardware profiles and images, and machines chosen from it",
    "wsdl": "the service's description, as served and as kept in the cache",
    "ledger": "the ledgers of dead processes",
    "box": "archives: boxes and appliances, up to what VirtualBox is given",
    "disk": "the headers and descriptions of disks",
    "appliance": "descriptions of appliances (OVF)",
    "compressed": "compressed disks",
    "reply": "what the web service answers",
    "count": "the count of what machines take of this computer",
    "records": "the record of the private service, golden machines and owners in the extra data",
    "checksums": "lists of checksums",
    "user_data": "cloud-init's user-data and network configuration, and the seed made of them",
    "guest": "what guests say: their SSH server, commands, cloud-init, logs",
    "qemu": "disks once more, as qemu-img reads what was found harmless",
}


def load(name: str) -> Target:
    """The module of a target."""
    return cast("Target", import_module(f"{__name__}.{name}"))


def words(target: Target) -> Sequence[bytes]:
    """What stands in the inputs of a target."""
    return cast("Sequence[bytes]", getattr(target, "WORDS", ()))
