"""Vagrant boxes: read as data. What a box has of Ruby is never run."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.harmless import described_files
from pytest_vbox.models import Image

_DISKS: Final = frozenset({".vmdk", ".vdi", ".vhd"})
_LONGEST: Final = 1024**2  # of a description
# Blanks, and not \s: with empty lines in front, each line would be looked at from each one before it.
_SETTING: Final = re.compile(
    r"""^[ \t]*config\.(?P<key>ssh\.username|ssh\.password|ssh\.private_key_path|vm\.base_mac)\s*=\s*"""
    r"""(?P<quote>["'])(?P<value>[^"'#\\]{1,200})(?P=quote)\s*(?:\#.*)?$""",
    re.MULTILINE,
)
_SLASH: Final = "-VAGRANTSLASH-"
_KEY: Final = "vagrant_insecure_key"


@dataclass(frozen=True)
class Box:
    """What a box says of itself.

    Attributes:
        disk: Its disk.
        user: Who logs in.
        password: That user's password, if the box says it.
        private_key: That user's key, if the box has one of its own.
        base_mac: The address that its first network card had.
    """

    disk: Path
    user: str
    password: str | None
    private_key: Path | None
    base_mac: str | None


def read_box(folder: Path) -> Box:
    """Read an unpacked box.

    Raises:
        ImageError: It is none for VirtualBox, or has no disk, or several.
    """
    _check_provider(folder)
    settings: dict[str, str] = {}
    for name in ("include/_Vagrantfile", "Vagrantfile"):
        # The outer file comes over the inner one.
        settings |= {match["key"]: match["value"] for match in _SETTING.finditer(_text(folder / name))}
    key = settings.get("ssh.private_key_path")
    return Box(
        disk=_disk(folder),
        user=settings.get("ssh.username", "vagrant"),
        password=settings.get("ssh.password"),
        private_key=_own_key(folder, key) if key is not None else _own_key(folder, "vagrant_private_key"),
        base_mac=settings.get("vm.base_mac"),
    )


def insecure_key(folder: Path) -> Path:
    """Vagrant's well-known key, which opens every box that does not say otherwise: the user's copy, else ours.

    Args:
        folder: Where ours is written to; SSH clients want a file that nobody else may read.
    """
    own = vagrant_home() / "insecure_private_key"
    target = folder / _KEY
    content = own.read_bytes() if own.is_file() else (files("pytest_vbox.images") / _KEY).read_bytes()
    target.touch(mode=0o600)
    target.write_bytes(content)
    return target


def vagrant_home() -> Path:
    """Vagrant's folder on this computer."""
    return Path(os.environ.get("VAGRANT_HOME") or Path.home() / ".vagrant.d")


def vagrant_box(image: Image) -> tuple[Path, str]:
    """Where a box is that Vagrant has on this computer.

    Returns:
        Its folder, and a text that is another one for another box or version.

    Raises:
        ImageError: It is not there; says which are.
    """
    name = str(image.vagrant)
    boxes = vagrant_home() / "boxes"
    versions = _versions(boxes / name.replace("/", _SLASH))
    if not versions:
        there = sorted(path.name.replace(_SLASH, "/") for path in boxes.glob("*") if path.is_dir())
        listed = ", ".join(there) if there else "none"
        raise ImageError(
            f"Vagrant has no box {name} for VirtualBox in {boxes}; there are: {listed}. "
            f"vagrant box add --provider virtualbox {name}"
        )
    version = image.vagrant_version or max(versions, key=_order)
    if version not in versions:
        raise ImageError(
            f"Vagrant has no version {version} of the box {name}; there are: "
            f"{', '.join(sorted(versions, key=_order))}. "
            f"vagrant box add --provider virtualbox --box-version {version} {name}"
        )
    return versions[version], f"{name} {version} {versions[version]}"


def _versions(folder: Path) -> dict[str, Path]:
    """The folders of all versions for VirtualBox; newer Vagrants have a folder for the architecture between."""
    found = {}
    for path in (*folder.glob("*/virtualbox"), *folder.glob("*/*/virtualbox")):
        if path.is_dir():
            found[path.relative_to(folder).parts[0]] = path
    return found


def _order(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[.-]", version)]


def _check_provider(folder: Path) -> None:
    text = _text(folder / "metadata.json")
    try:
        provider = json.loads(text)["provider"] if text else "virtualbox"
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ImageError("the box's metadata.json does not say for which provider it is") from None
    if provider != "virtualbox":
        raise ImageError(f"the box is for the provider {provider!r:.60}, and not for virtualbox")


def _disk(folder: Path) -> Path:
    described = _described_disk(folder / "box.ovf")
    if described is not None:
        path = folder / described
        if path.parent != folder or path.suffix.lower() not in _DISKS or not path.is_file():
            raise ImageError(f"the box's box.ovf names the disk {described!r:.80}, which is not in it")
        return path
    disks = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _DISKS and path.is_file())
    if len(disks) != 1:
        names = ", ".join(disk.name for disk in disks) or "none"
        raise ImageError(f"the box should have one disk, and has: {names}")
    return disks[0]


def _described_disk(ovf: Path) -> str | None:
    """The first disk that a description refers to."""
    if not ovf.is_file():
        return None
    for name, _ in described_files(ovf):
        if Path(name).suffix.lower() in _DISKS:
            return name
    return None


def _own_key(folder: Path, name: str) -> Path | None:
    """A key in the box; what lies elsewhere on this computer is not taken."""
    path = (folder / name).resolve()
    if path.is_file() and not path.is_symlink() and folder.resolve() in path.parents:
        return path
    return None


def _text(path: Path) -> str:
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _LONGEST:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def copy_key(key: Path, folder: Path) -> Path:
    """A private copy of a key that nobody else may read."""
    target = folder / "private_key"
    target.touch(mode=0o600)
    shutil.copyfile(key, target)
    return target
