"""cloud-init's documents: understood, or refused with the line; and what is made of them can be read again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from email import message_from_string
from pathlib import Path

import yaml

from pytest_vbox.images.seed import make_seed
from pytest_vbox.models import Image, ModelError, UserDataError, parse_user_data
from pytest_vbox.models.user_data import check_network_config

WORDS = [
    *(
        b"#cloud-config\n",
        b"#!/bin/sh\n",
        b"#include\n",
        b"## template: jinja\n",
        b"#part-handler\n",
        b"\xef\xbb\xbf",
    ),
    *(
        b"users: ",
        b"packages: ",
        b"- name: ",
        b"default",
        b"runcmd: ",
        b"version: 2",
        b"ethernets: ",
        b"network: ",
    ),
    *(
        b"Content-Type: multipart/mixed; boundary=a\n",
        b"MIME-Version: 1.0\n",
        b"--a\n",
        b"!!python/object:a",
        b"*a",
    ),
    *(b"&a ", b"? ", b"<<: ", b"!!set ", b"!!binary ", b"!!timestamp 2001-01-01", b"2001-01-01", b"0o7", b"1e999"),
]
_IMAGE = {"disk": "/a.vdi", "user": "me"}


def seeds() -> Iterator[bytes]:
    yield b"#cloud-config\nusers: [default, {name: me, groups: [adm]}]\npackages: [curl]\n"
    yield b"#!/bin/sh\necho hello\n"
    yield b"Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\n\n#!/bin/sh\n--a--\n"
    yield b"version: 2\nethernets: {any: {match: {name: e*}, dhcp4: true}}\n"


def run(data: bytes, folder: Path) -> None:
    text = data.decode(errors="replace")
    with suppress(UserDataError):
        check_network_config(text)
    with suppress(UserDataError):
        parse_user_data(text)
    file = folder / "user-data"
    file.write_bytes(data)
    image = Image.model_validate({**_IMAGE, "cloud_init": {"user_data_file": str(file)}})
    try:
        seed = make_seed(image, "a", machine_id="i", machine_name="Machine_1", public_keys=["ssh-ed25519 AAAA"])
    except ModelError as error:
        assert all(problem.file == file for problem in error.problems)
        return
    if seed.user_data.startswith("#cloud-config\n"):
        again = yaml.safe_load(seed.user_data)
        assert isinstance(again, dict)
    else:
        assert message_from_string(seed.user_data).is_multipart()
    seed.user_data.encode()
