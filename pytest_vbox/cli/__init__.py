"""The ``pytest-vbox`` command. A module for each group of commands; what they need is imported when they run."""

from __future__ import annotations

from importlib.metadata import version

import click

from pytest_vbox.cli.cache import cache
from pytest_vbox.cli.doctor import doctor
from pytest_vbox.cli.images import images
from pytest_vbox.cli.machines import machines
from pytest_vbox.cli.profiles import profiles
from pytest_vbox.cli.schema import schema
from pytest_vbox.cli.service import gc, service
from pytest_vbox.cli.trial import try_


@click.group(epilog="Exit codes: 0 done; 1 something failed, or is not as it should be; 2 wrong usage.")
@click.version_option(version("pytest-vbox"), prog_name="pytest-vbox")
def main() -> None:
    """Real, ephemeral VirtualBox machines for tests."""


for command in (doctor, images, profiles, machines, try_, cache, gc, schema, service):
    main.add_command(command)
