"""Machines: built from models, switched on and off, reset, looked at, and taken away. Knows nothing of pytest."""

from pytest_vbox.machines.diagnosis import Diagnosis
from pytest_vbox.machines.errors import BootError, HardwareRefused, MachineError, StepError
from pytest_vbox.machines.host import VirtualBoxHost
from pytest_vbox.machines.machine import Machine
from pytest_vbox.machines.provision import ProvisionError

__all__ = [
    "BootError",
    "Diagnosis",
    "HardwareRefused",
    "Machine",
    "MachineError",
    "ProvisionError",
    "StepError",
    "VirtualBoxHost",
]
