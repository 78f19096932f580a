"""The models' terms, and what they are called in VirtualBox's API."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

from pytest_vbox.virtualbox.enums import (
    GraphicsControllerType,
    MediumVariant,
    StorageBus,
    StorageControllerType,
    TpmType,
)

E = TypeVar("E", bound=StrEnum)

# Where the API's name is another one than the model's, apart from capitals and hyphens.
_OTHERWISE: Final[Mapping[type[StrEnum], Mapping[str, StrEnum]]] = {
    GraphicsControllerType: {"none": GraphicsControllerType.NULL},
    StorageBus: {"virtio": StorageBus.VIRTIO_SCSI, "nvme": StorageBus.PCIE},
    StorageControllerType: {},
    TpmType: {"1.2": TpmType.V1_2, "2.0": TpmType.V2_0},
    MediumVariant: {
        "split-2g": MediumVariant.VMDK_SPLIT_2G,
        "stream-optimized": MediumVariant.VMDK_STREAM_OPTIMIZED,
        "esx": MediumVariant.VMDK_ESX,
    },
}


@cache
def api_term(kind: type[E], term: str) -> E:
    """The value of an enumeration of the API that a term of the models means.

    Args:
        kind: The enumeration.
        term: The models' term.
    """
    known = _OTHERWISE.get(kind, {}).get(term)
    return kind(known) if known is not None else next(value for value in kind if value.lower() == _folded(term))


def _folded(term: str) -> str:
    return term.lower().replace("-", "")
