"""Images: a disk, and how to log in to what is on it."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pytest_vbox.models.fields import Description, Line, LocalPath, Model, Name, Port, Seconds, Term
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.machine_values import OsType
from pytest_vbox.models.preparation import CloudInit, Step
from pytest_vbox.models.problems import shown
from pytest_vbox.models.source import BoxName, Checksum, DiskFormat, Url

DEFAULT_OS_TYPE = "Linux26_64"

SOURCES = ("disk", "url", "vagrant")
"""The keys that say where an image's disk comes from; an image has one of them."""

_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}", re.ASCII)
ACCOUNT_NAMES = "1 to 32 letters, digits, '.', '_' and '-', a letter or '_' first"
"""What the name of an account looks like, for messages."""

NO_SOURCE = "no_source"
"""The type of the error of an image without one."""


def is_account(name: str) -> bool:
    """Whether a name may be that of an account in a guest."""
    return _ACCOUNT.fullmatch(name) is not None


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

    disk: LocalPath | None = Field(
        default=None,
        description="The disk's file, or an appliance or a Vagrant box. It is never written to. An image has "
        "exactly one of `disk`, `url` and `vagrant`.",
    )
    url: Url | None = Field(
        default=None,
        description="Where the disk is downloaded from: once, into the user's cache folder. Needs `sha256`.",
    )
    vagrant: BoxName | None = Field(
        default=None,
        description="A box that Vagrant has on this computer (`vagrant box add` fetches it).",
    )
    vagrant_version: Line | None = Field(
        default=None,
        description="The version of that box.",
        json_schema_extra={"x-default": "the newest that is there"},
    )
    sha256: Checksum | None = Field(
        default=None,
        description="The checksum of the file that is downloaded (of a local `disk` too, if given), or the path "
        "or address of a list of them.",
    )
    insecure: bool = Field(
        default=False,
        description="Whether a download without a checksum is let pass. Anybody on the way may change it.",
    )
    format: DiskFormat | None = Field(
        default=None,
        description="What the file is, inside gz, xz, zst or bz2.",
        json_schema_extra={"x-default": "what the file's first bytes say"},
    )
    description: Description | None = Field(default=None, description="For people; it changes nothing.")
    os_family: Line | None = Field(default=None, description="Such as `ubuntu`; to select images by.")
    os_version: Line | None = Field(default=None, description="Such as `22.04`; to select images by.")
    os_64_bit: bool | None = Field(
        default=None,
        description="Whether the operating system has 64 bits; to select images by.",
        json_schema_extra={"x-default": "what `os_type` says"},
    )
    packager: Line | None = Field(
        default=None, description="What installs packages there, such as `apt` or `dnf`; to select images by."
    )
    tags: tuple[Name, ...] = Field(default=(), description="Words of your own; to select images by.")
    os_type: OsType = Field(
        default=DEFAULT_OS_TYPE,
        description="VirtualBox's id for the operating system on the disk (`VBoxManage list ostypes`).",
    )
    user: Line = Field(default="vagrant", description="Who logs in. With `cloud_init`, this user is made.")
    password: SecretStr | None = Field(
        default=None,
        description="The user's password; never shown. In quotes, if it has characters special to YAML.",
    )
    private_key: LocalPath | None = Field(
        default=None,
        description="The user's private SSH key.",
        json_schema_extra={
            "x-default": "with `cloud_init` a key made for the run; for a Vagrant box without a password "
            "Vagrant's well-known one"
        },
    )
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
    cloud_init: CloudInit | None = Field(
        default=None,
        description="For a stock cloud image: what it is told on its first boot. `{}` is enough to log in.",
    )
    provision: tuple[Step, ...] = Field(
        default=(),
        description="Commands and scripts that are run once, before the first test gets a machine of this image. "
        "What they make of the disk is kept in the cache.",
    )
    on_fork: tuple[Step, ...] = Field(
        default=(),
        description="Commands and scripts that are run in each machine that was forked from the one that was "
        "booted, before its test gets it: for what siblings must not share, such as `/etc/machine-id`.",
    )
    set_hostname: bool = Field(
        default=False, description="Whether a forked machine's host name becomes its name in VirtualBox."
    )
    hardware: Hardware = Field(
        default_factory=Hardware,
        description="Keys of a hardware profile that this image needs; they come over the profile's.",
        json_schema_extra={"x-default": "nothing"},
    )

    @field_validator("provision", "on_fork", mode="before")
    @classmethod
    def _one_step(cls, steps: object) -> object:
        return [steps] if isinstance(steps, str) else steps

    @model_validator(mode="after")
    def _one_source(self) -> Image:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        if not given:
            raise PydanticCustomError(NO_SOURCE, "the image needs one of the keys disk, url and vagrant")
        if len(given) > 1:
            raise ValueError(
                f"has {' and '.join(given)}, and only one of them can be; an inherited one is taken back by null"
            )
        if self.vagrant_version is not None and self.vagrant is None:
            raise ValueError("vagrant_version is there without vagrant")
        if self.url is not None and self.sha256 is None and not self.insecure:
            raise ValueError(
                "url needs sha256: its checksum, or where a SHA256SUMS is; insecure: true does without, and lets "
                "anybody on the way change the disk"
            )
        return self

    @model_validator(mode="after")
    def _user_can_be_made(self) -> Image:
        if self.cloud_init is not None and not is_account(self.user):
            raise ValueError(
                f"has cloud_init, which makes the user, and {shown(self.user)} is no name for one: {ACCOUNT_NAMES}"
            )
        return self

    @property
    def source(self) -> str:
        """Where the disk comes from, for people."""
        return str(self.disk or self.url or f"the Vagrant box {self.vagrant}")
