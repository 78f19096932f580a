"""What the example tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.guest import PortOpen
from pytest_vbox.machines import Machine

APPD = Path(__file__).parent / "appd"


def install(vm: Machine) -> None:
    """Bring the installer into a machine and run it."""
    vm.put(APPD, "/tmp/appd")
    vm.run("/tmp/appd/install.sh", sudo=True)


@pytest.fixture
def bare(vbox: Machine) -> Machine:
    """A pristine machine with the installer in it, not run yet."""
    vbox.put(APPD, "/tmp/appd")
    return vbox


@pytest.fixture(scope="module")
def server(module_vbox_machine: MachineFactory) -> Machine:
    """A machine on which appd is installed and runs, for all tests of a module."""
    vm = module_vbox_machine(name="server")
    install(vm)
    vm.run("/opt/appd/appd start", sudo=True)
    vm.wait_for(PortOpen(8080), timeout=30)
    return vm
