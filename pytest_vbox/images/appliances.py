"""Descriptions of appliances, without what VirtualBox would do with more than their disks.

VirtualBox writes its own settings of the machine into a description when it exports one, and takes them back when
it imports it: with paths of this computer in them. (Measured on 7.2: it deletes the file that they call the saved
state, and takes the disks that they list into its media registry.) Only the disk is wanted here, and what is known
of the machine stands elsewhere in the description too; so VirtualBox is given one without them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.harmless import parsed_description

_OURS: Final = "{*}Machine"
_LONGEST_MANIFEST: Final = 1024**2
_LINE: Final = re.compile(r"^(SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9A-Fa-f]+)\s*$")


def without_settings(ovf: Path, files: Iterable[Path], folder: Path) -> Path:
    """A copy of a description without VirtualBox's settings of the machine, beside its files.

    Args:
        ovf: The description.
        files: What it consists of besides, in the same folder (see `check_appliance`).
        folder: Where to; it is there, and empty. The files become links.

    Returns:
        The copy.

    Raises:
        ImageError: It is not what its manifest says, or names itself as a part.
    """
    from lxml import etree

    root = parsed_description(ovf)
    for element in list(root.iter(_OURS)):
        parent = element.getparent()
        if parent is not None:
            parent.remove(element)
    copy = folder / ovf.name
    copy.write_bytes(etree.tostring(root, xml_declaration=True, encoding="utf-8"))
    manifest = ovf.with_suffix(".mf")
    if manifest.is_file() and not manifest.is_symlink():
        (folder / manifest.name).write_text(_rest_of_manifest(manifest, ovf), encoding="utf-8")
    for file in dict.fromkeys(files):
        link = folder / file.name
        if link.exists():  # the copy, or the manifest: nothing may take their place
            raise ImageError(f"{ovf.name} names {file.name!r} as a part of itself, which is no disk; refused")
        _link(file.resolve(), link)
    return copy


def _rest_of_manifest(manifest: Path, ovf: Path) -> str:
    """The manifest without the line of the description, checked here; VirtualBox checks the others."""
    if manifest.stat().st_size > _LONGEST_MANIFEST:
        raise ImageError(f"{manifest.name} is too long for a manifest")
    kept: list[str] = []
    sums: dict[str, str] = {}
    for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _LINE.match(line)
        if found is None or found[2] != ovf.name:
            kept.append(line)
            continue
        kind = found[1].lower()
        if kind not in sums:  # however often it is listed
            sums[kind] = hashlib.new(kind, ovf.read_bytes(), usedforsecurity=False).hexdigest()
        if sums[kind] != found[3].lower():
            raise ImageError(f"{ovf.name} is not what its manifest {manifest.name} says: broken, or changed")
    return "".join(f"{line}\n" for line in kept)


def _link(file: Path, link: Path) -> None:
    try:
        link.symlink_to(file)
    except OSError:  # Windows asks for a right to make links
        shutil.copyfile(file, link)
