"""Hardware profiles and images: what they may say, where they are read from, and how they make a machine.

The room knows nothing of pytest, VirtualBox's API or SSH. ``Catalogue.load`` reads the YAML files of some folders,
``Catalogue.machine`` merges a profile, an image and a test's overrides into a ``MachineModel``, and whatever is
wrong is told by one ``ModelError`` with file, line and key of each problem. A key is a field of a model: checks,
error messages, the JSON Schema and the tables of the reference page all come from there.
"""

from pytest_vbox.models.catalogue import DEFAULT_PROFILE, Catalogue
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import ACCOUNT_NAMES, Image, is_account
from pytest_vbox.models.machine import MachineModel
from pytest_vbox.models.network import HostOnlyOptions, NatRule, NatSettings, NetworkAdapter
from pytest_vbox.models.ports import ParallelPort, SerialPort
from pytest_vbox.models.preparation import CloudInit, ProvisionStep
from pytest_vbox.models.problems import ModelError, Problem
from pytest_vbox.models.schema import json_schema
from pytest_vbox.models.source import DiskFormat
from pytest_vbox.models.storage import NewDisk, StorageController, StorageDevice
from pytest_vbox.models.user_data import UserData, UserDataError, parse_user_data

__all__ = [
    "ACCOUNT_NAMES",
    "DEFAULT_PROFILE",
    "Catalogue",
    "CloudInit",
    "DiskFormat",
    "Hardware",
    "HostOnlyOptions",
    "Image",
    "MachineModel",
    "ModelError",
    "NatRule",
    "NatSettings",
    "NetworkAdapter",
    "NewDisk",
    "ParallelPort",
    "Problem",
    "ProvisionStep",
    "SerialPort",
    "StorageController",
    "StorageDevice",
    "UserData",
    "UserDataError",
    "is_account",
    "json_schema",
    "parse_user_data",
]
