"""What is done with a running guest over SSH: connect, run commands, copy files, wait for conditions.

The only room that imports paramiko, which takes a while: import this package when a machine is asked for.
"""

from pytest_vbox.guest.cloud_init import CloudInitDone
from pytest_vbox.guest.connection import Connection, connect
from pytest_vbox.guest.copy import get, put
from pytest_vbox.guest.errors import (
    CloudInitFailed,
    CommandError,
    CommandTimeout,
    ConnectionLost,
    CopyFailed,
    GuestError,
    GuestUnreachable,
    HostKeyMismatch,
    IncompatibleServer,
    KeyUnusable,
    LoginRefused,
    WaitTimeout,
)
from pytest_vbox.guest.keys import load_key, new_key, public_key
from pytest_vbox.guest.login import Login
from pytest_vbox.guest.readiness import (
    AllOf,
    AnyOf,
    Check,
    CommandSucceeds,
    Condition,
    FileExists,
    PortOpen,
    wait_for,
    wait_for_banner,
)
from pytest_vbox.guest.run import run, settle
from pytest_vbox.guest.settle import Settling, find_tool
from pytest_vbox.guest.shell import interact

__all__ = [
    "AllOf",
    "AnyOf",
    "Check",
    "CloudInitDone",
    "CloudInitFailed",
    "CommandError",
    "CommandSucceeds",
    "CommandTimeout",
    "Condition",
    "Connection",
    "ConnectionLost",
    "CopyFailed",
    "FileExists",
    "GuestError",
    "GuestUnreachable",
    "HostKeyMismatch",
    "IncompatibleServer",
    "KeyUnusable",
    "Login",
    "LoginRefused",
    "PortOpen",
    "Settling",
    "WaitTimeout",
    "connect",
    "find_tool",
    "get",
    "interact",
    "load_key",
    "new_key",
    "public_key",
    "put",
    "run",
    "settle",
    "wait_for",
    "wait_for_banner",
]
