"""Who is at the other end of a connection within this computer."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_vbox.service import listener, strangers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who listens")

STRANGER = 4711

Ends = tuple[tuple[str, int], tuple[str, int]]
Rewrite = Callable[[Callable[[list[str]], bool]], None]


@pytest.fixture
def given_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rewrite:
    """Lets those sockets be another user's of which a function says so by their line in the kernel's table."""

    def rewrite(theirs: Callable[[list[str]], bool]) -> None:
        rows = [row.split() for path in listener._TABLES for row in path.read_text().splitlines()[1:]]
        for row in rows:
            if theirs(row):
                row[7] = str(STRANGER)
        table = tmp_path / "tcp"
        table.write_text("head\n" + "".join(" ".join(row) + "\n" for row in rows))
        monkeypatch.setattr(listener, "_TABLES", (table, tmp_path / "tcp6"))

    return rewrite


def server_of(address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server(
        (address, 0), family=family, dualstack_ipv6=address.startswith("::") and address != "::1"
    )


def ends_of(connection: socket.socket) -> Ends:
    return connection.getpeername()[:2], connection.getsockname()[:2]


@pytest.fixture(params=["127.0.0.1", "127.8.9.10", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"])  # noqa: S104
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """Who listens, on an address that the kernel writes in its own way."""
    with server_of(request.param) as server:
        yield server


@pytest.fixture
def connection(server: socket.socket) -> Iterator[socket.socket]:
    """A connection to it, which it has not accepted yet."""
    address, port = server.getsockname()[:2]
    to = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1", "::ffff:0.0.0.0": "127.0.0.1"}  # noqa: S104
    with socket.create_connection((to.get(address, address).removeprefix("::ffff:"), port)) as connection:
        yield connection


def test_this_user_is_no_stranger(connection: socket.socket, given_away: Rewrite) -> None:
    assert strangers(*ends_of(connection)) == frozenset()
    given_away(lambda _: False)
    assert strangers(*ends_of(connection)) == frozenset()


def test_another_user_who_listens_is_one(
    server: socket.socket, connection: socket.socket, given_away: Rewrite
) -> None:
    given_away(lambda row: row[3] == "0A" and row[1].endswith(f":{server.getsockname()[1]:04X}"))
    assert strangers(*ends_of(connection)) == {STRANGER}


def test_one_who_accepted_the_connection_and_then_stopped_listening_is_one_too(
    server: socket.socket, connection: socket.socket, given_away: Rewrite
) -> None:
    port = server.getsockname()[1]
    with server.accept()[0]:
        server.close()
        given_away(lambda row: row[1].endswith(f":{port:04X}"))
        assert strangers(*ends_of(connection)) == {STRANGER}
        # That is about this connection, not about others to the same place.
        there, (address, other) = ends_of(connection)
        assert strangers(there, (address, other ^ 1)) == frozenset()


def test_root_is_none(connection: socket.socket, given_away: Rewrite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12)
    given_away(lambda _: True)
    assert strangers(*ends_of(connection)) == {STRANGER}
    monkeypatch.setattr(listener, "_ROOT", STRANGER)
    assert strangers(*ends_of(connection)) == frozenset()


def test_who_listens_on_another_address_is_none(given_away: Rewrite) -> None:
    with server_of("127.0.0.1") as server, server_of("::1"):
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as connection, server_of("127.0.0.2") as other:
            ports = {f":{port:04X}", f":{other.getsockname()[1]:04X}"}
            given_away(lambda row: row[1][-5:] in ports and not row[1].startswith(("0100007F", "7F000001")))
            assert strangers(*ends_of(connection)) == frozenset()


@pytest.mark.parametrize("table", [None, "head\n", "head\nnonsense\n"], ids=["none", "empty", "unknown"])
def test_where_nothing_tells_nobody_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None) -> None:
    if table is not None:
        (tmp_path / "tcp").write_text(table)
    monkeypatch.setattr(listener, "_TABLES", (tmp_path / "tcp",))
    assert strangers(("127.0.0.1", 18083), ("127.0.0.1", 40000)) == frozenset()


def test_on_other_systems_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "getuid")
    assert strangers(("127.0.0.1", 18083), ("127.0.0.1", 40000)) == frozenset()
