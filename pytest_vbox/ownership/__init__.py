"""What belongs to whom: the ledger of what a run made and the reaper that cleans up after it, the list of kept
machines, locks and counts that hold over all workers and runs.

Knows nothing of images and hardware models, nor of VirtualBox.
"""

from pytest_vbox.ownership.background import NotStarted
from pytest_vbox.ownership.capacity import Capacity, CapacityExceeded, Limits, Place
from pytest_vbox.ownership.disk import listing
from pytest_vbox.ownership.folders import OwnFolder, remove_abandoned
from pytest_vbox.ownership.kept import KeptMachine, KeptMachines
from pytest_vbox.ownership.ledger import (
    Abandoned,
    Entry,
    Kind,
    Ledger,
    abandoned,
)
from pytest_vbox.ownership.lockfiles import Busy
from pytest_vbox.ownership.locks import PortLock, held, reserve_port, sweep_locks
from pytest_vbox.ownership.process import ProcessId
from pytest_vbox.ownership.reaper import Reaper, ReaperUnavailable
from pytest_vbox.ownership.register import Register
from pytest_vbox.ownership.reports import log_file, report, take_unseen
from pytest_vbox.ownership.runs import names_written_down, remove_ended_runs

__all__ = [
    "Abandoned",
    "Busy",
    "Capacity",
    "CapacityExceeded",
    "Entry",
    "KeptMachine",
    "KeptMachines",
    "Kind",
    "Ledger",
    "Limits",
    "NotStarted",
    "OwnFolder",
    "Place",
    "PortLock",
    "ProcessId",
    "Reaper",
    "ReaperUnavailable",
    "Register",
    "abandoned",
    "held",
    "listing",
    "log_file",
    "names_written_down",
    "remove_abandoned",
    "remove_ended_runs",
    "report",
    "reserve_port",
    "sweep_locks",
    "take_unseen",
]
