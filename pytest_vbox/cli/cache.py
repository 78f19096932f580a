"""``pytest-vbox cache``."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_vbox.cli.common import connected, host_options, json_option, print_json, print_table, told
from pytest_vbox.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_vbox.machines.cache import Kept


@click.group()
def cache() -> None:
    """What is kept for later runs: golden machines, which others are forked from, and provisioned disks."""


@cache.command("list")
@host_options
@json_option
def list_(root: Path | None, folders: tuple[str, ...], *, as_json: bool, **options: str | None) -> None:
    """Show what is kept, what was used least recently first."""
    with told(), connected(root, folders, **options) as host:
        kept = host.cache.kept()
    if as_json:
        print_json([_document(entry) for entry in kept])
        return
    rows = [
        (
            entry.name,
            entry.kind,
            entry.image,
            entry.profile,
            _size(entry.bytes),
            f"{entry.last_used.astimezone():%Y-%m-%d %H:%M}",
            "in use" if entry.in_use else entry.outdated or "",
        )
        for entry in kept
    ]
    print_table(("NAME", "KIND", "IMAGE", "PROFILE", "SIZE", "LAST USED", ""), rows)


@cache.command()
@click.option("--size", metavar="SIZE", help="Then go on until the rest takes no more than this, such as 5 GiB.")
@click.option("--all", "everything", is_flag=True, help="Take away all that no machine stands on.")
@host_options
def prune(
    root: Path | None, folders: tuple[str, ...], size: str | None, *, everything: bool, **options: str | None
) -> None:
    """Take away what no machine will be made of any more: discarded, outdated, or of a disk that is gone."""
    from pytest_vbox.settings import size_in_bytes

    try:
        limit = 0 if everything else size_in_bytes(size) if size is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--size") from None
    with told(), connected(root, folders, **options) as host:
        removed = host.cache.prune()
        if limit is not None:
            removed += host.cache.trim(limit)
    _say(removed)


@cache.command()
@click.argument("names", nargs=-1, required=True)
@host_options
def rm(names: tuple[str, ...], root: Path | None, folders: tuple[str, ...], **options: str | None) -> None:
    """Take away what has these names; a part of the name will do. What machines stand on stays."""
    failed = []
    with told(), connected(root, folders, **options) as host:
        kept = host.cache.kept()
        for name in names:
            fitting = [entry for entry in kept if entry.name == name] or [
                entry for entry in kept if name in entry.name
            ]
            if len(fitting) != 1:
                there = ", ".join(entry.name for entry in fitting or kept) or "nothing"
                what = "several have" if fitting else "nothing has"
                failed.append(f"{what} {name!r} in their name; there is: {there}")
            elif fitting[0].remove():
                _say(fitting)
            else:
                failed.append(f"{fitting[0].name}: machines stand on it; `pytest-vbox machines list` shows them")
    if failed:
        raise click.ClickException(printable("\n".join(failed)))


def _say(removed: Iterable[Kept]) -> None:
    entries = list(removed)
    for entry in entries:
        click.echo(printable(f"removed {entry.kind} {entry.name} ({_size(entry.bytes)})"))
    if not entries:
        click.echo("nothing to remove")


def _document(entry: Kept) -> dict[str, object]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "image": entry.image,
        "profile": entry.profile or None,
        "bytes": entry.bytes,
        "last_used": entry.last_used.astimezone(UTC).isoformat(timespec="seconds"),
        "in_use": entry.in_use,
        "outdated": entry.outdated,
    }


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
