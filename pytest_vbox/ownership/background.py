"""Processes of ours that outlive the one that starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_vbox.secret import Unseen


class NotStarted(Exception):
    """A process of ours did not start. Where it cannot write, its log has no room for the reason either."""


def start(module: str, *arguments: str, folder: Path, output: Any, errors: Any) -> subprocess.Popen[bytes]:
    """Run a module of ours in a process of its own.

    It is out of the terminal's process group, so that Ctrl-C in a test run does not end it.

    Args:
        module: Such as ``pytest_vbox.reaper``.
        arguments: For its command line, which everybody can read.
        folder: Its working directory.
        output: Its standard output, as for ``subprocess``.
        errors: Its error output.
    """
    with Unseen():  # the environment, in which users have secrets of their own
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env=_environment(),
            **_detached(),
        )


def _environment() -> dict[str, str]:
    """The environment for a process that outlives this one: without what belongs to a single pytest run."""
    # What needs the password is told of it, and nothing else shall hold it.
    unwanted = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST", "COV_CORE_", "PYTEST_VBOX_PASSWORD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return environment


def _detached() -> Mapping[str, Any]:
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return {"creationflags": flags}
    return {"start_new_session": True}
