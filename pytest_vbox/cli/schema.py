"""``pytest-vbox schema``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.option("--write", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file.")
def schema(file: Path | None) -> None:
    """Print the JSON Schema of the YAML files, for editors."""
    from pytest_vbox.models import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if file is None:
        click.echo(text)
    else:
        file.write_text(text + "\n", encoding="utf-8")
