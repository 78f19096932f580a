"""What the commands share: options, output, and errors that are told in a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pytest_vbox.printable import printable, short

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from pytest_vbox.machines import VirtualBoxHost
    from pytest_vbox.models import Catalogue
    from pytest_vbox.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

# Characters; what is longer is cut short, and whole in the JSON.
_LONGEST_CELL = 10_000

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON.")


def project_options(command: F) -> F:
    """Where images and profiles are described."""
    for decorate in (
        click.option(
            "--profiles",
            "folders",
            multiple=True,
            metavar="DIR",
            help="More folders with YAML; like pytest's --vbox-profiles.",
        ),
        click.option(
            "--root",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            default=None,
            help="The project's folder, whose profiles/ counts. Default: the current one.",
        ),
    ):
        command = decorate(command)
    return command


def host_options(command: F) -> F:
    """Which VirtualBox; and where images and profiles are described."""
    for decorate in (
        # As text, like all the others: it goes the same way.
        click.option(
            "--insecure", flag_value="true", default=None, type=str, help="Like pytest's --vbox-insecure."
        ),
        click.option("--ca", metavar="FILE", help="Like pytest's --vbox-ca."),
        click.option("--password-file", metavar="FILE", help="Like pytest's --vbox-password-file."),
        click.option("--user", metavar="NAME", help="Like pytest's --vbox-user."),
        click.option("--url", metavar="URL", help="Like pytest's --vbox-url."),
    ):
        command = decorate(command)
    return project_options(command)


def settings_of(
    root: Path | None,
    folders: Sequence[str] = (),
    url: str | None = None,
    user: str | None = None,
    password_file: str | None = None,
    ca: str | None = None,
    insecure: str | None = None,
) -> Settings:
    """The settings: options, then the environment. (The ini file is pytest's, and is not read.)"""
    from pytest_vbox.settings import load

    given = {
        "profiles": list(folders),
        "url": url,
        "user": user,
        "password_file": password_file,
        "ca": ca,
        "insecure": insecure,
    }
    return load({name: value for name, value in given.items() if value}, root=root)


def catalogue_of(root: Path | None, folders: Sequence[str] = ()) -> Catalogue:
    """The images and profiles."""
    from pytest_vbox.catalogues import load_catalogue

    return load_catalogue(settings_of(root, folders), root or Path.cwd())


@contextmanager
def connected(root: Path | None, folders: Sequence[str] = (), **options: str | None) -> Iterator[VirtualBoxHost]:
    """A connected host."""
    from pytest_vbox.hosts import connect_host

    settings = settings_of(root, folders, **options)
    with connect_host(settings, root=root or Path.cwd(), clean_up=False) as host:
        yield host


@contextmanager
def connected_to_clean_up(
    root: Path | None, folders: Sequence[str] = (), **options: str | None
) -> Iterator[VirtualBoxHost]:
    """A connected host that knows no images and profiles: those may be wrong, or of another project."""
    from pytest_vbox.hosts import connect_to_clean_up

    with connect_to_clean_up(settings_of(root, folders, **options)) as host:
        yield host


@contextmanager
def told() -> Iterator[None]:
    """Say what went wrong in a message, where it is the user's to set right."""
    from pytest_vbox.guest import GuestError
    from pytest_vbox.images import ImageError
    from pytest_vbox.machines import MachineError
    from pytest_vbox.models import ModelError
    from pytest_vbox.ownership import ReaperUnavailable
    from pytest_vbox.service import VirtualBoxNotFound, VirtualBoxUnusable
    from pytest_vbox.settings import SettingsError
    from pytest_vbox.virtualbox.errors import VirtualBoxError

    try:
        yield
    except (
        GuestError,
        ImageError,
        MachineError,
        ModelError,
        ReaperUnavailable,
        SettingsError,
        VirtualBoxError,
        VirtualBoxNotFound,
        VirtualBoxUnusable,
    ) as error:
        raise click.ClickException(str(error)) from error


def print_json(value: object) -> None:
    """Write JSON for a program; people look at it too."""
    text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
    if printable(text) != text:
        text = json.dumps(value, indent=2, default=str)
    click.echo(text)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere plain lines, the columns two spaces apart. No cell drives a terminal."""
    rows = [[short(cell, _LONGEST_CELL) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headers, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            # As text, so that nothing in a name is taken for markup.
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@contextmanager
def progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Progress bars on a terminal; elsewhere a line for each thing that is begun."""
    if not sys.stderr.isatty():
        begun: set[str] = set()

        def line(what: str, done: int, total: int | None) -> None:  # noqa: ARG001 - as a report is called
            if what not in begun:
                begun.add(what)
                click.echo(printable(what), err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    # Not as markup, which a file's name may look like.
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def bar(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(printable(what), total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield bar


def complete_names(section: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completes the names of images or profiles, without starting VirtualBox.

    Args:
        section: ``images`` or ``profiles``, an attribute of the catalogue.
    """

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            found = getattr(catalogue_of(context.params.get("root"), context.params.get("folders") or ()), section)
        except Exception:  # noqa: BLE001 - completion has nobody to tell
            return []
        return [
            CompletionItem(name, help=getattr(found[name], "description", None))
            for name in found
            if name.startswith(begun)
        ]

    return complete
