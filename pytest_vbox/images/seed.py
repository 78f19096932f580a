"""The seed of a stock cloud image: what cloud-init is told on a machine's first boot (its NoCloud data source).

Our own cloud-config is merged with the user's here, since cloud-init itself would let one replace the other's
lists. What is not a cloud-config (a script, a template) becomes a part beside ours, and there cloud-init merges,
in the way that ours asks for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from io import BytesIO
from pathlib import Path
from typing import Final

import yaml

from pytest_vbox.files import read_regular
from pytest_vbox.images.shadow import hashed_password
from pytest_vbox.models import Image, ModelError, Problem, UserData, UserDataError, parse_user_data

VOLUME: Final = "cidata"
_CLOUD_CONFIG: Final = "#cloud-config\n"
_MERGE_TYPE: Final = "list(append)+dict(no_replace,recurse_list)+str()"
_HOST_NAME_LENGTH: Final = 63


@dataclass(frozen=True)
class Seed:
    """The documents of a seed, as they are on its disc."""

    meta_data: str
    user_data: str
    network_config: str | None = None

    def write(self, path: Path) -> None:
        """Write the disc: ISO 9660 with Joliet and Rock Ridge names, which only its owner may read.

        Args:
            path: A file that is not there yet.

        Raises:
            OSError: It cannot be written.
        """
        import pycdlib  # only where there is a cloud image

        disc = pycdlib.PyCdlib()
        disc.new(interchange_level=3, vol_ident=VOLUME, joliet=3, rock_ridge="1.09")
        for name, text in self._files():
            data = text.encode()
            plain = name.replace("-", "_").upper()
            disc.add_fp(BytesIO(data), len(data), f"/{plain}.;1", rr_name=name, joliet_path=f"/{name}")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(handle, "wb") as file:
            disc.write_fp(file)
        disc.close()

    def _files(self) -> list[tuple[str, str]]:
        files = [("meta-data", self.meta_data), ("user-data", self.user_data)]
        return files if self.network_config is None else [*files, ("network-config", self.network_config)]


def make_seed(
    image: Image, image_name: str, *, machine_id: str, machine_name: str, public_keys: Sequence[str]
) -> Seed:
    """The seed of one machine.

    Args:
        image: An image with ``cloud_init``.
        image_name: Its name, for messages.
        machine_id: The machine's UUID. cloud-init does its work once for each.
        machine_name: The machine's name, which becomes the host name unless the image has one.
        public_keys: What lets the image's user in, each as ``type base64``.

    Raises:
        ModelError: ``user_data_file`` cannot be used.
    """
    cloud_init = image.cloud_init
    assert cloud_init is not None  # noqa: S101 - for the type checker: asked by who calls
    given = _given(image, image_name)
    hostname = cloud_init.hostname or _host_name(machine_name)
    own = _own_config(image, hostname, public_keys)
    # What users and scripts see as the instance is this machine, and no other one.
    meta_data = _dumped({"instance-id": machine_id, "local-hostname": hostname})
    if given is None or given.config is not None:
        user_data = _CLOUD_CONFIG + _dumped(_merged(own, given.config if given and given.config else {}))
    else:
        user_data = _multipart(given, _CLOUD_CONFIG + _dumped(own))
    return Seed(meta_data, user_data, cloud_init.network_config)


def check_user_data(image: Image, image_name: str) -> None:
    """Look whether a seed can be made for an image, before there is a machine.

    Raises:
        ModelError: ``user_data_file`` cannot be used.
    """
    if image.cloud_init is not None:
        _given(image, image_name)


def _given(image: Image, image_name: str) -> UserData | None:
    """The user's own user-data, or None."""
    cloud_init = image.cloud_init
    assert cloud_init is not None  # noqa: S101
    if cloud_init.user_data is not None:
        return parse_user_data(cloud_init.user_data)
    if cloud_init.user_data_file is None:
        return None
    file, key = cloud_init.user_data_file, f"images.{image_name}.cloud_init.user_data_file"
    try:
        return parse_user_data(read_regular(file).decode("utf-8").replace("\r\n", "\n"))
    except UserDataError as error:
        raise ModelError([Problem(file, error.line, key, error.message)]) from None
    except OSError as error:
        raise ModelError([Problem(file, None, key, f"can't be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError:
        raise ModelError(
            [Problem(file, None, key, "not UTF-8 text", "a packed file has to be unpacked")]
        ) from None


def _host_name(machine_name: str) -> str:
    """A machine's name as a host name: letters, digits and hyphens, its end kept, which makes it unique."""
    name = re.sub(r"[^a-z0-9]+", "-", machine_name.lower())
    return name[-_HOST_NAME_LENGTH:].strip("-") or "machine"


def _own_config(image: Image, hostname: str, public_keys: Sequence[str]) -> dict[str, object]:
    assert image.cloud_init is not None  # noqa: S101
    user: dict[str, object] = {"name": image.user}
    if image.user != "root":
        user |= {"shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL"}
    user["lock_passwd"] = image.password is None
    if image.password is not None:
        user["hashed_passwd"] = hashed_password(image.password.get_secret_value())
    user["ssh_authorized_keys"] = list(public_keys)
    config: dict[str, object] = {
        "hostname": hostname,
        "preserve_hostname": False,
        # Else sudo complains of a host name that it can't resolve.
        "manage_etc_hosts": "localhost",
        "users": [user],
        "ssh_pwauth": image.password is not None,
    }
    if image.user == "root":
        config["disable_root"] = False
    if image.cloud_init.packages:
        config |= {"package_update": True, "packages": list(image.cloud_init.packages)}
    return config


def _merged(own: Mapping[str, object], theirs: Mapping[str, object]) -> dict[str, object]:
    """Mappings key by key, lists joined, ours first; for anything else theirs wins."""
    merged = dict(own)
    for key, value in theirs.items():
        mine = merged.get(key)
        if isinstance(mine, list) and isinstance(value, list | None):
            merged[key] = _joined_users(mine, value or []) if key == "users" else [*mine, *(value or [])]
        elif isinstance(mine, dict) and isinstance(value, dict):
            merged[key] = _merged(mine, value)
        elif value is None:
            # As elsewhere in our YAML, null takes a key back.
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _joined_users(own: Sequence[object], theirs: Sequence[object]) -> list[object]:
    """Our users, each with what an entry of the same name adds, then the others."""
    joined = list(own)
    names = [user["name"] for user in own if isinstance(user, dict)]
    for user in theirs:
        name = user.get("name") if isinstance(user, dict) else user
        if name not in names:
            joined.append(user)
        elif isinstance(user, dict):
            position = names.index(name)
            mine = joined[position]
            assert isinstance(mine, dict)  # noqa: S101
            joined[position] = _merged(mine, user)
    return joined


def _multipart(given: UserData, own: str) -> str:
    """The user's part, then ours. A cloud-config that comes out of the user's is kept, and ours added to it."""
    ours = _part("text/cloud-config", own, "pytest-vbox.yaml")
    ours["Merge-Type"] = _MERGE_TYPE
    if given.kind.startswith("multipart/"):
        first: Message = message_from_string(given.text)
    else:
        first = _part(given.kind, given.text, "user-data")
    digest = hashlib.sha256((own + given.text).encode()).hexdigest()
    message = MIMEMultipart("mixed", f"=={digest[:32]}==", [first, ours])
    return message.as_string()


def _part(kind: str, text: str, name: str) -> Message:
    main, _, sub = kind.partition("/")
    part = MIMENonMultipart(main, sub, charset="utf-8")
    # Plain text where it goes through unchanged, so that people can read the seed.
    if text.isascii() and "\r" not in text:
        part["Content-Transfer-Encoding"] = "7bit"
        part.set_payload(text)
    else:
        part.set_payload(text, "utf-8")
    part.add_header("Content-Disposition", "attachment", filename=name)
    return part


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as it is, for people who look into the seed."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), "|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_multi_representer(str, _represent_text)


def _dumped(config: Mapping[str, object]) -> str:
    # Lines are not folded: some readers of cloud-config are simpler than cloud-init.
    dumped: str = yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30)
    return dumped
