"""``pytest-vbox images``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_vbox import places
from pytest_vbox.cli.common import (
    catalogue_of,
    complete_names,
    connected,
    host_options,
    json_option,
    print_json,
    print_table,
    progress,
    project_options,
    told,
)
from pytest_vbox.printable import printable

if TYPE_CHECKING:
    from pytest_vbox.images import Library, Stored
    from pytest_vbox.models import Catalogue, Image

# What tells a file that is not there yet from the name of a box.
_ENDINGS = frozenset(
    f".{ending}"
    for ending in [
        "vdi",
        "vmdk",
        "vhd",
        "vhdx",
        "img",
        "raw",
        "dd",
        "qcow2",
        "ova",
        "ovf",
        "box",
        "gz",
        "xz",
        "zst",
        "bz2",
    ]
)
_NAMES = click.argument("names", nargs=-1, shell_complete=complete_names("images"))


@click.group()
def images() -> None:
    """Images: what there is, and what of it was fetched."""


@images.command("list")
@project_options
@json_option
def list_(root: Path | None, folders: tuple[str, ...], as_json: bool) -> None:
    """Show all images, where they come from, and whether their disk is here."""
    with told():
        found = catalogue_of(root, folders).images
        library = _library()
        rows = [(name, image, _where(library, image)) for name, image in found.items()]
    if as_json:
        print_json(
            {
                name: {
                    "os_type": image.os_type,
                    "source": image.source,
                    "state": state,
                    "from": str(found.source(name)),
                }
                for name, image, state in rows
            }
        )
        return
    print_table(
        ["IMAGE", "SYSTEM", "DISK", "SOURCE"],
        [[name, _system(image), state, image.source] for name, image, state in rows],
    )


@images.command()
@click.argument("name", shell_complete=complete_names("images"))
@project_options
@json_option
def show(name: str, root: Path | None, folders: tuple[str, ...], as_json: bool) -> None:
    """Show an image: each key, its value, and where that is written. Passwords are not shown."""
    with told():
        catalogue = catalogue_of(root, folders)
        image = _image(catalogue, name)
    node = catalogue.images.node(name)
    keys: dict[str, Any] = {
        key: value for key, value in image.model_dump(mode="json", exclude_unset=True).items() if value is not None
    }
    rows = [
        (key, value, str(child.origin) if (child := node.child(key)) else "default") for key, value in keys.items()
    ]
    if as_json:
        print_json({key: {"value": value, "from": origin} for key, value, origin in rows})
        return
    print_table(["KEY", "VALUE", "FROM"], [[key, str(value), origin] for key, value, origin in rows])


@images.command()
@click.argument("name")
@click.argument("source")
@click.option("--sha256", help="The checksum of a download, or where a SHA256SUMS is.")
@click.option("--insecure", is_flag=True, help="Download without a checksum.")
@click.option("--os-type", help="VirtualBox's id for the operating system, such as Ubuntu_64.")
@click.option("--user", help="Who logs in.")
@click.option("--private-key", help="That user's private SSH key.")
@click.option("--cloud-init", is_flag=True, help="It is a stock cloud image; make the user by cloud-init.")
@click.option("--global", "everywhere", is_flag=True, help="For all projects: in the user's configuration folder.")
@project_options
def add(
    name: str,
    source: str,
    sha256: str | None,
    insecure: bool,
    os_type: str | None,
    user: str | None,
    private_key: str | None,
    cloud_init: bool,
    everywhere: bool,
    root: Path | None,
    folders: tuple[str, ...],
) -> None:
    """Describe an image in a new file NAME.yaml.

    SOURCE is a file, an address, or the name of a box that Vagrant has (user/box). Nothing is overwritten.
    """
    import yaml

    folder = places.config_folder() if everywhere else (root or Path.cwd()) / "profiles"
    file = folder / f"{name}.yaml"
    entry: dict[str, Any] = _source(source, folder)
    entry |= {
        key: value
        for key, value in (
            ("sha256", sha256),
            ("insecure", insecure or None),
            ("os_type", os_type),
            ("user", user),
            ("private_key", _from(folder, private_key) if private_key else None),
            ("cloud_init", {} if cloud_init else None),
        )
        if value is not None
    }
    with told():
        if name in catalogue_of(root, folders).images:
            raise click.ClickException(f"there is an image {name} already")
        text = yaml.safe_dump({"images": {name: entry}}, sort_keys=False, allow_unicode=True)
        _check(text)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            raise click.ClickException(f"{file} exists already; nothing was written") from None
    click.echo(f"wrote {file}")


@images.command()
@_NAMES
@click.option("--all", "every", is_flag=True, help="All images.")
@host_options
def fetch(
    names: tuple[str, ...], every: bool, root: Path | None, folders: tuple[str, ...], **options: str | None
) -> None:
    """Download and import the disks of images now, instead of when a test first needs them."""
    with told(), connected(root, folders, **options) as host, progress() as report:
        for name in _chosen(host.catalogue, names, every):
            usable = host.library.usable(_image(host.catalogue, name), report=report)
            click.echo(f"{name}: {usable.disk}")


@images.command()
@_NAMES
@project_options
def verify(names: tuple[str, ...], root: Path | None, folders: tuple[str, ...]) -> None:
    """See that fetched disks are what was fetched. Without names: all of them. Exit code 1 if one is not."""
    from pytest_vbox.images import ImageError

    with told():
        library = _library()
        failed = False
        for stored in _stored(library, catalogue_of(root, folders), names):
            try:
                library.verify(stored)
                click.echo(f"ok      {stored.source}")
            except ImageError as error:
                failed = True
                click.echo(f"broken  {stored.source}: {error}")
    if failed:
        raise SystemExit(1)


@images.command()
@_NAMES
@click.option("--all", "every", is_flag=True, help="Everything that was fetched.")
@host_options
def remove(
    names: tuple[str, ...], every: bool, root: Path | None, folders: tuple[str, ...], **options: str | None
) -> None:
    """Delete fetched disks from the cache. Files of your own, and the YAML, stay."""
    if not names and not every:
        raise click.UsageError("name the images, or say --all")
    with told(), connected(root, folders, **options) as host:
        freed = 0
        for stored in _stored(host.library, host.catalogue, names):
            for golden in host.golden.remove_of(stored.disk):
                click.echo(f"removed the golden machine {printable(golden.name)}")
            freed += host.library.remove(stored)
            click.echo(f"removed {stored.source}")
    click.echo(f"{freed / 1024**2:.0f} MiB freed")


def _library() -> Library:
    from pytest_vbox.images import Library

    return Library(places.cache_folder(), places.state_folder())


def _image(catalogue: Catalogue, name: str) -> Image:
    from pytest_vbox.models import ModelError
    from pytest_vbox.models.problems import Problem, suggestion

    if name not in catalogue.images:
        hint = suggestion(name, catalogue.images, "there are:")
        raise ModelError([Problem(None, None, "image", f"there is no image named {name!r}", hint)])
    return catalogue.images[name]


def _chosen(catalogue: Catalogue, names: tuple[str, ...], every: bool) -> tuple[str, ...]:
    if not names and not every:
        raise click.UsageError("name the images, or say --all")
    return names or tuple(catalogue.images)


def _stored(library: Library, catalogue: Catalogue, names: tuple[str, ...]) -> list[Stored]:
    if not names:
        return library.stored()
    found = []
    for name in names:
        stored = library.find(_image(catalogue, name))
        if stored is None:
            click.echo(f"{name} was not fetched")
        else:
            found.append(stored)
    return found


def _where(library: Library, image: Image) -> str:
    """Whether an image's disk is here."""
    if library.find(image) is not None:
        return "fetched"
    if image.disk is not None:
        return "here" if image.disk.exists() else "missing"
    return "not fetched"


def _system(image: Image) -> str:
    return " ".join(part for part in (image.os_family, image.os_version) if part) or image.os_type


def _source(source: str, folder: Path) -> dict[str, Any]:
    if "://" in source:
        return {"url": source}
    named = Path(source).suffix.lower() in _ENDINGS or not re.fullmatch(r"[\w.-]+/[\w.-]+", source)
    if named or Path(source).expanduser().exists():
        return {"disk": _from(folder, source)}
    return {"vagrant": source}


def _from(folder: Path, path: str) -> str:
    """A path as it is written in a file of a folder: the same file, whichever folder the command was run in."""
    if path.startswith("~"):
        return path
    absolute = Path(path).absolute()
    return (
        Path(os.path.relpath(absolute, folder)).as_posix() if folder.parent in absolute.parents else str(absolute)
    )


def _check(text: str) -> None:
    """See that what is to be written can be read."""
    import tempfile

    from pytest_vbox.models import Catalogue

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "check.yaml").write_text(text, encoding="utf-8")
        Catalogue.load([Path(folder)])
