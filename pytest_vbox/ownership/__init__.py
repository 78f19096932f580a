"""What belongs to whom: the ledger of things a run made, locks and counts that hold over all workers and runs.

Knows nothing of images and hardware models.
"""

from pytest_vbox.ownership.capacity import Capacity, CapacityExceeded, Limits, Place
from pytest_vbox.ownership.folders import OwnFolder, remove_abandoned
from pytest_vbox.ownership.ledger import Entry, Ledger, abandoned
from pytest_vbox.ownership.lockfiles import Busy
from pytest_vbox.ownership.locks import PortLock, held, reserve_port

__all__ = [
    "Busy",
    "Capacity",
    "CapacityExceeded",
    "Entry",
    "Ledger",
    "Limits",
    "OwnFolder",
    "Place",
    "PortLock",
    "abandoned",
    "held",
    "remove_abandoned",
    "reserve_port",
]
