"""VirtualBox's API, typed: one small class for each interface of the SDK that pytest-vbox uses.

This room is the only one that knows zeep. Names are the SDK's, in Python's spelling: ``IMachine::memorySize``
is :attr:`Machine.memory_size`. Whatever fails is a :class:`~pytest_vbox.virtualbox.errors.VirtualBoxError`.
"""

from pytest_vbox.virtualbox.console import Console, Display, Keyboard
from pytest_vbox.virtualbox.devices import SerialPort
from pytest_vbox.virtualbox.machine import Machine, Session, Snapshot
from pytest_vbox.virtualbox.media import Medium, MediumAttachment, StorageController
from pytest_vbox.virtualbox.network import NATAliasMode, NATEngine, NetworkAdapter, Redirect
from pytest_vbox.virtualbox.progress import Progress
from pytest_vbox.virtualbox.virtualbox import Host, SystemProperties, VirtualBox
from pytest_vbox.virtualbox.websession import Credentials, WebSession, connect
from pytest_vbox.virtualbox.wsdl import WsdlCache

__all__ = [
    "Console",
    "Credentials",
    "Display",
    "Host",
    "Keyboard",
    "Machine",
    "Medium",
    "MediumAttachment",
    "NATAliasMode",
    "NATEngine",
    "NetworkAdapter",
    "Progress",
    "Redirect",
    "SerialPort",
    "Session",
    "Snapshot",
    "StorageController",
    "SystemProperties",
    "VirtualBox",
    "WebSession",
    "WsdlCache",
    "connect",
]
