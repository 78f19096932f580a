"""The ``pytest-vbox`` command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import click

from pytest_vbox import places


@click.group()
@click.version_option(version("pytest-vbox"), prog_name="pytest-vbox")
def main() -> None:
    """Real, ephemeral VirtualBox machines for tests."""


@main.group()
def service() -> None:
    """The private web service that pytest-vbox starts where none is named."""


@service.command()
def status() -> None:
    """Say whether it runs, and where. Exit code 1 if it does not."""
    from pytest_vbox.service.record import Record  # psutil and filelock, only for this

    record = Record.read(places.state_folder())
    if record is None or record.service.find() is None:
        click.echo("not running")
        raise SystemExit(1)
    click.echo(f"running at {record.url} (process {record.service.pid}, kept by {record.keeper.pid})")


@service.command()
def stop() -> None:
    """End it. Test runs that use it will fail; machines go on running."""
    from pytest_vbox.service.endpoint import stop as stop_service

    click.echo("stopped" if stop_service(places.state_folder()) else "not running")


@main.command()
def gc() -> None:
    """Remove machines that test runs which died have left behind."""
    from pytest_vbox.hosts import connect_host

    with _told(), connect_host(clean_up=False) as host:
        removed = host.clean_up_abandoned()
    for name in removed:
        click.echo(f"removed {name}")
    click.echo(f"{len(removed)} machine(s) removed")


@contextmanager
def _told() -> Iterator[None]:
    """Say what went wrong in a line, where it is the user's to set right."""
    from pytest_vbox.models import ModelError
    from pytest_vbox.service import VirtualBoxNotFound, VirtualBoxUnusable
    from pytest_vbox.settings import SettingsError
    from pytest_vbox.virtualbox.errors import VirtualBoxError

    try:
        yield
    except (SettingsError, ModelError, VirtualBoxNotFound, VirtualBoxUnusable, VirtualBoxError) as error:
        raise click.ClickException(str(error)) from error
