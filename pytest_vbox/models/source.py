"""Where an image's disk comes from, and in what form."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from pytest_vbox.models.fields import Term, local_path
from pytest_vbox.models.problems import shown
from pytest_vbox.secret import without_credentials

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_BOX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SCHEMES = ("https", "http")


class DiskFormat(Term):
    """What a disk's file is, once it has been uncompressed."""

    VDI = "vdi"
    VMDK = "vmdk"
    VHD = "vhd"
    VHDX = "vhdx"
    RAW = "raw"
    QCOW2 = "qcow2"
    OVA = "ova"
    OVF = "ovf"
    BOX = "box"


def _is_url(text: str) -> bool:
    return "://" in text


def _url(value: str) -> str:
    wanted = f"must be an address such as https://example.org/disk.img, not {shown(without_credentials(value))}"
    if not value.isprintable() or any(character.isspace() for character in value):
        raise ValueError(wanted)
    try:
        parts = urlsplit(value)
        hostname = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme.lower() not in _SCHEMES or not hostname:
        raise ValueError(wanted)
    if parts.username is not None:
        raise ValueError("must not have a user or a password in it; they would be shown in messages")
    return value


def _checksum(value: object) -> object:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {shown(value)}")
    text = str(value).strip().removeprefix("sha256:")
    if _SHA256.fullmatch(text):
        return text.lower()
    if _is_url(text):
        return _url(text)
    if re.fullmatch(r"[0-9A-Fa-f]{32,}", text):
        raise ValueError(f"must have 64 hexadecimal digits, and has {len(text)}; other sums are not understood")
    return local_path(value)


def _box(value: str) -> str:
    if not _BOX.fullmatch(value):
        raise ValueError(f"must be the name of a box, such as debian/bookworm64, not {shown(value)}")
    return value


Url = Annotated[
    str,
    AfterValidator(_url),
    WithJsonSchema({"type": "string", "format": "uri", "x-values": "http or https address"}),
]
"""An address to download from."""

Checksum = Annotated[
    str | Path,
    BeforeValidator(_checksum),
    WithJsonSchema({"type": "string", "x-values": "64 hexadecimal digits; or path or address of a `SHA256SUMS`"}),
]
"""A SHA-256 in lower case; or where a file with sums is: its address as text, its place here as a ``Path``."""

BoxName = Annotated[
    str,
    AfterValidator(_box),
    WithJsonSchema({"type": "string", "x-values": "`user/box`, such as `debian/bookworm64`"}),
]
"""The name of a Vagrant box."""
