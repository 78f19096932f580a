"""``pytest-vbox profiles``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_vbox.cli.common import (
    catalogue_of,
    complete_names,
    json_option,
    print_json,
    print_table,
    project_options,
    told,
)

if TYPE_CHECKING:
    from pytest_vbox.models.tree import Node


@click.group()
def profiles() -> None:
    """Hardware profiles."""


@profiles.command("list")
@project_options
@json_option
def list_(root: Path | None, folders: tuple[str, ...], as_json: bool) -> None:
    """Show all profiles, and where they are described."""
    with told():
        found = catalogue_of(root, folders).profiles
    if as_json:
        print_json(
            {name: {"memory": p.memory, "cpus": p.cpus, "description": p.description} for name, p in found.items()}
        )
        return
    rows = [
        [name, f"{profile.memory} MiB", str(profile.cpus), profile.description or "", str(found.source(name))]
        for name, profile in found.items()
    ]
    print_table(["PROFILE", "MEMORY", "CPUS", "DESCRIPTION", "DESCRIBED IN"], rows)


@profiles.command()
@click.argument("name", shell_complete=complete_names("profiles"))
@click.option("--image", shell_complete=complete_names("images"), help="With what this image's hardware adds.")
@click.option("--all", "every", is_flag=True, help="Keys too that are at their default.")
@click.option("--yaml", "as_yaml", is_flag=True, help="As a profile that could be written so.")
@project_options
@json_option
def show(
    name: str,
    image: str | None,
    every: bool,
    as_yaml: bool,
    root: Path | None,
    folders: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what a profile comes to: each key, its value, and where that is from."""
    from pytest_vbox.models import ModelError
    from pytest_vbox.models.problems import Problem, suggestion

    with told():
        catalogue = catalogue_of(root, folders)
        if image is not None:
            model = catalogue.machine(image, name)
            hardware, node = model.hardware, model.node
        elif name in catalogue.profiles:
            hardware, node = catalogue.profiles[name], catalogue.profiles.node(name)
        else:
            hint = suggestion(name, catalogue.profiles, "there are:")
            raise ModelError(
                [Problem(None, None, "profile", f"there is no hardware profile named {name!r}", hint)]
            )
    keys = {
        key: value
        for key, value in hardware.model_dump(mode="json", exclude_defaults=not every).items()
        if every or value is not None
    }
    if as_yaml:
        import yaml

        click.echo(yaml.safe_dump({"hardware": {name: keys}}, sort_keys=False, allow_unicode=True), nl=False)
        return
    if as_json:
        print_json({key: {"value": value, "from": _origin(node, key)} for key, value in keys.items()})
        return
    print_table(
        ["KEY", "VALUE", "FROM"], [[key, _short(value), _origin(node, key)] for key, value in keys.items()]
    )


def _origin(node: Node | None, key: str) -> str:
    child = node.child(key) if node is not None else None
    if child is None:
        return "default"
    origin = str(child.origin)
    return "built in" if "builtin.yaml:" in origin else origin


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(part)}" for key, part in value.items() if part is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return "null" if value is None else str(value)
