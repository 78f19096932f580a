"""What ``pytest --vbox-list`` shows: the images and hardware profiles, as pytest's own lists show fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_vbox.models import Catalogue
from pytest_vbox.printable import printable


def show(catalogue: Catalogue, root: Path, write: Callable[..., None], separate: Callable[[str], None]) -> None:
    """Write the lists.

    Args:
        catalogue: The images and profiles.
        root: The project's folder, to which places are shown relative.
        write: Writes a line, with pytest's markup.
        separate: Writes a heading.
    """

    def line(text: str, **markup: bool) -> None:
        # The name of a YAML file, above all.
        write(printable(text), **markup)

    separate("VirtualBox images")
    for name, image in catalogue.images.items():
        _entry(line, name, _place(str(catalogue.images.source(name)), root))
        system = " ".join(str(part) for part in (image.os_family, image.os_version) if part) or image.os_type
        line(f"    {image.description or system}")
        line(f"    {image.source}")
    if not catalogue.images:
        folders = ", ".join(str(folder) for folder in catalogue.folders)
        line(f"there are none; describe one under 'images:' in a YAML file in one of: {folders}")
    separate("VirtualBox hardware profiles")
    for name, profile in catalogue.profiles.items():
        _entry(line, name, _place(str(catalogue.profiles.source(name)), root))
        size = f"{profile.memory} MiB, {profile.cpus} CPU{'s' if profile.cpus > 1 else ''}"
        line(f"    {size}{f': {profile.description}' if profile.description else ''}")


def _entry(write: Callable[..., None], name: str, place: str) -> None:
    write(f"{name} -- {place}", green=True)


def _place(origin: str, root: Path) -> str:
    """A place as pytest shows it: relative to the project where it is inside."""
    path, _, line = origin.rpartition(":")
    try:
        return f"{Path(path).relative_to(root)}:{line}"
    except ValueError:
        return "built in" if Path(path).name == "builtin.yaml" else origin
