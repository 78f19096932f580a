"""``pytest-vbox try``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from pytest_vbox.cli.common import complete_names, connected, host_options, progress, told


@click.command("try")
@click.argument("image", shell_complete=complete_names("images"))
@click.option("--profile", shell_complete=complete_names("profiles"), help="The hardware profile. Default: small.")
@click.option("--keep", is_flag=True, help="Leave the machine, and say how to enter and how to remove it.")
@host_options
def try_(
    image: str, profile: str | None, keep: bool, root: Path | None, folders: tuple[str, ...], **options: str | None
) -> None:
    """Boot a machine of IMAGE and give a shell in it. The machine is gone afterwards.

    The exit code is the shell's.
    """
    with told(), connected(root, folders, **options) as host:
        with progress() as report:
            host.report = report
            report(f"boot {image}", 0, None)
            started = time.monotonic()
            machine = host.machine(image, profile, name=f"try-{image}")
        phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in machine.phases.items())
        click.echo(f"{machine.name} is ready after {time.monotonic() - started:.1f} s ({phases})", err=True)
        try:
            status = machine.shell()
        finally:
            if keep:
                click.echo(host.keep(machine), err=True)
    raise SystemExit(status)
