"""Servers and connections for the tests of `pytest_vbox.guest`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import Connection, Login, connect, load_key

from .server import PASSWORD, USER, Behaviour, GuestServer, new_key_text


@pytest.fixture
def behaviour(tmp_path: Path) -> Behaviour:
    """How the server behaves; change it before or while it runs."""
    root = tmp_path / "guest root"
    root.mkdir()
    return Behaviour(root)


@pytest.fixture
def server(behaviour: Behaviour) -> Iterator[GuestServer]:
    """A running server."""
    with GuestServer(behaviour) as running:
        yield running


@pytest.fixture
def login() -> Login:
    """A login that the server accepts."""
    return Login(USER, password=PASSWORD)


@pytest.fixture
def key_file(behaviour: Behaviour, tmp_path: Path) -> Path:
    """A private key file whose public half the server knows."""
    path = tmp_path / "key"
    path.write_text(new_key_text())
    behaviour.keys.append(load_key(path))
    return path


@pytest.fixture
def connection(server: GuestServer, login: Login) -> Iterator[Connection]:
    """A connection to the server."""
    with connect(server.address, login, Deadline(10)) as connected:
        yield connected
