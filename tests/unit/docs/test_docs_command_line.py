"""The page of the command line has every command and option."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from pytest_vbox.cli import main

from .pages import DOCS

PAGE = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
COMMON = {"--root", "--profiles", "--url", "--user", "--password-file", "--ca", "--insecure", "--json"}


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(commands(main))


def test_each_command_has_a_heading_and_nothing_else_has() -> None:
    headings = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)
    usages = []
    for name, command in COMMANDS.items():
        arguments = [
            param.make_metavar(click.Context(command))
            for param in command.params
            if isinstance(param, click.Argument)
        ]
        usages.append(" ".join([name, *arguments]))
    assert sorted(headings) == sorted(usages)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_with_its_options(name: str) -> None:
    section = re.split(rf"^### `{name}\b.*`$", PAGE, maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0]
    assert len(section.strip()) > 20
    options = {opt for param in COMMANDS[name].params if isinstance(param, click.Option) for opt in param.opts}
    for option in options - COMMON:
        assert option in section
    assert COMMANDS[name].help


def test_the_common_options_are_described() -> None:
    for option in COMMON:
        assert option in PAGE
