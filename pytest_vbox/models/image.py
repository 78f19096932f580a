"""Images: a disk, and how to log in to what is on it."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema

from pytest_vbox.models.fields import Line, LocalPath, Model, Port, Seconds, Term
from pytest_vbox.models.hardware import Hardware, OsType

DEFAULT_OS_TYPE = "Linux26_64"


class Attach(Term):
    """What becomes of a machine's changes to its disk."""

    MULTIATTACH = "multiattach"
    IMMUTABLE = "immutable"


def _host_key(value: str) -> str:
    """A public key as OpenSSH writes it, without its comment."""
    wanted = "must be a public host key, such as 'ssh-ed25519 AAAA…' (the last two words of a line of ssh-keyscan)"
    words = value.split()
    if len(words) < 2:
        raise ValueError(wanted)
    algorithm, encoded = words[:2]
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(wanted) from None
    if _first_field(blob) != algorithm.encode():
        raise ValueError(f"{wanted}; this is not a whole '{algorithm[:40]}' key")
    return f"{algorithm} {encoded}"


def _first_field(blob: bytes) -> bytes | None:
    """The first field of a public key, the algorithm's name; ``None`` if the key is torn.

    A key is a row of fields, each after its length in four bytes (RFC 4253, section 6.6).
    """
    fields = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if len(blob) < max(end, 5):
            return None
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields[0] if len(fields) > 1 else None


HostKey = Annotated[
    str, AfterValidator(_host_key), WithJsonSchema({"type": "string", "x-values": "`ssh-ed25519 AAAA…`"})
]
"""A public key of an SSH server."""


class Image(Model):
    """A base disk, and what has to be known to use what is on it."""

    disk: LocalPath = Field(description="The disk's file (VDI, VMDK, VHD). It is never written to.")
    description: str | None = Field(default=None, description="For people; it changes nothing.")
    os_type: OsType = Field(
        default=DEFAULT_OS_TYPE,
        description="VirtualBox's id for the operating system on the disk (`VBoxManage list ostypes`).",
    )
    user: Line = Field(default="vagrant", description="Who logs in.")
    password: SecretStr | None = Field(
        default=None,
        description="The user's password; never shown. In quotes, if it has characters special to YAML.",
    )
    private_key: LocalPath | None = Field(default=None, description="The user's private SSH key.")
    sudo_password: SecretStr | None = Field(
        default_factory=lambda data: data.get("password"),
        description="What `sudo` asks the user for; never shown.",
        json_schema_extra={"x-default": "the password"},
    )
    host_key: HostKey | None = Field(
        default=None,
        description="The guest's public SSH host key. Machines with another one are refused.",
        json_schema_extra={"x-default": "that of the first contact with each machine"},
    )
    ssh_port: Port = Field(default=22, description="The port in the guest that its SSH server listens on.")
    attach: Attach = Field(
        default=Attach.MULTIATTACH,
        description="What becomes of a machine's changes to its disk: `multiattach` keeps them over a restart of "
        "the machine, `immutable` drops them at every power-up. The file itself stays as it is in both cases.",
    )
    boot_timeout: Seconds | None = Field(
        default=None,
        description="How long power-on to SSH may take, in seconds.",
        json_schema_extra={"x-default": "that of the option `--vbox-boot-timeout`"},
    )
    hardware: Hardware = Field(
        default_factory=Hardware,
        description="Keys of a hardware profile that this image needs; they come over the profile's.",
        json_schema_extra={"x-default": "nothing"},
    )
