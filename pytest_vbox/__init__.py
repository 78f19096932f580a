"""pytest fixtures that are real, ephemeral VirtualBox machines.

The core works without pytest, from a REPL or a script::

    import pytest_vbox

    with pytest_vbox.connect() as host:
        vm = host.machine(image="ubuntu-1204-64", profile="medium")
        print(vm.run("uname -a").stdout)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vbox.machines import VirtualBoxHost
    from pytest_vbox.settings import Settings

__all__ = ["connect"]


def connect(settings: Settings | None = None, *, root: Path | None = None) -> VirtualBoxHost:
    """Connect to VirtualBox; at the end of a ``with`` block everything made is gone again.

    Args:
        settings: What to use; by default what the environment says (``PYTEST_VBOX_…``).
        root: The folder whose ``profiles/`` holds the project's YAML; by default the working directory.

    Raises:
        SettingsError, ModelError, VirtualBoxError: See :func:`pytest_vbox.hosts.connect_host`.
    """
    # zeep and paramiko take a while to import, and most pytest runs need neither.
    from pytest_vbox.hosts import connect_host

    return connect_host(settings, root=root)
