"""``pytest-vbox service`` and ``pytest-vbox gc``."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_vbox import places
from pytest_vbox.cli.common import connected_to_clean_up, host_options, json_option, print_json, told
from pytest_vbox.printable import printable


@click.group()
def service() -> None:
    """The private web service that pytest-vbox starts where none is named."""


@service.command()
def status() -> None:
    """Say whether it runs, and where. Exit code 1 if it does not."""
    from pytest_vbox.service.record import Record  # psutil and filelock, only for this

    record = Record.read(places.state_folder())
    if record is None or not record.ready or record.service.find() is None:
        click.echo("not running")
        raise SystemExit(1)
    click.echo(f"running at {record.url} (process {record.service.pid}, kept by {record.keeper.pid})")


@service.command()
def stop() -> None:
    """End it. Test runs that use it will fail; machines go on running."""
    from pytest_vbox.service.endpoint import stop as stop_service

    click.echo("stopped" if stop_service(places.state_folder()) else "not running")


@click.command()
@host_options
@json_option
def gc(root: Path | None, folders: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Remove machines that test runs which died have left behind."""
    with told(), connected_to_clean_up(root, folders, **options) as host:
        removed = host.clean_up_abandoned()
    if as_json:
        print_json({"removed": removed})
        return
    for name in removed:
        click.echo(f"removed {printable(name)}")
    click.echo(f"{len(removed)} machine(s) removed")
