"""``pytest-vbox doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_vbox.cli.common import host_options, json_option, print_json, settings_of, told
from pytest_vbox.printable import printable

if TYPE_CHECKING:
    from pytest_vbox.doctor import Finding

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "bright_black"}


@click.command()
@host_options
@json_option
def doctor(root: Path | None, folders: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Look at everything that machines need, and say what to do about what is missing.

    Exit code 1 if something is missing that tests need.
    """
    from pytest_vbox.doctor import State, examine

    findings = []
    with told():
        for finding in examine(settings_of(root, folders, **options), root or Path.cwd()):
            findings.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        print_json([vars(finding) for finding in findings])
    if any(finding.state is State.FAIL for finding in findings):
        raise SystemExit(1)


def _show(finding: Finding) -> None:
    state = click.style(finding.state, fg=_COLOURS[finding.state], bold=True)
    # Each finding begins a line with its state, so that it can be searched for.
    click.echo(f"{state}  {printable(f'{finding.name}: {finding.found}')}")
    for word, text in (("", finding.means), ("try: ", finding.mend)):
        if text:
            click.echo(printable(f"      {word}{text}"))
    sys.stdout.flush()
