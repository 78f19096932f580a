"""Waiting for the banner, the handshake, and logging in."""

from __future__ import annotations

import logging
import socket
import threading
import time
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import (
    Connection,
    GuestUnreachable,
    HostKeyMismatch,
    IncompatibleServer,
    KeyUnusable,
    Login,
    LoginRefused,
    banner,
    connect,
    run,
    wait_for_banner,
)
from pytest_vbox.guest import connection as connection_module
from pytest_vbox.guest.keys import host_key_text
from pytest_vbox.guest.transport import GuestTransport
from unit.kit.tracebacks import shown

from .server import PASSWORD, USER, Behaviour, GuestServer, new_key, new_key_text

pytestmark = pytest.mark.slow


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For silent servers; one that is to be reached gets its time."""
    monkeypatch.setattr(banner, "_FIRST_PATIENCE", ())
    monkeypatch.setattr(banner, "_PATIENCE", (0.03,))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "_PAUSE", 0.01)
    monkeypatch.setattr(connection_module, "_RETRY", 0.01)


def test_patience_grows_with_the_time_a_guest_takes() -> None:
    assert [banner.patience(silent, 5) for silent in range(8)] == [0.4, 0.8, 1.6, 3.0, 1.5, 2.0, 4.0, 1.5]
    assert [banner.patience(100, elapsed) for elapsed in (10, 20, 50, 100, 1000)] == [1.5, 2, 5, 10, 10]
    assert banner.patience(0, 0, network=True) == 10


def test_connects_at_first_sight(server: GuestServer, login: Login) -> None:
    with connect(server.address, login, Deadline(10)) as connection:
        assert "alive" in repr(connection)
        assert connection.address == server.address
        assert connection.host_key == host_key_text(server.host_keys[0])
        transport = connection.ssh.get_transport()
        assert transport
        assert transport.is_authenticated()
    assert not connection.alive
    # The handshake used the connection that the banner came on, and there was no other attempt to log in.
    assert (server.connections, server.attempts) == (1, ["password"])


@pytest.mark.usefixtures("_impatient")
def test_bad_connections_are_survived_one_at_a_time(
    server: GuestServer, behaviour: Behaviour, login: Login
) -> None:
    behaviour.connections = ["silent", "silent", "reset", "close", b"Exceeded MaxStartups\r\n", "reset"]
    with connect(server.address, login, Deadline(10)) as connection:
        assert run(connection, "echo up").stdout == "up\n"
    assert server.connections >= 7
    assert server.most_open == 1


def test_a_server_may_speak_before_its_banner(behaviour: Behaviour, login: Login) -> None:
    with GuestServer(behaviour) as server, socket.create_server(("127.0.0.1", 0)) as front:

        def relay() -> None:
            outer, _ = front.accept()
            outer.sendall(b"Welcome\r\nSSH is next\r\n")
            inner = socket.create_connection(server.address)
            server.spawn(lambda: _copy(inner, outer))
            _copy(outer, inner)

        server.spawn(relay)
        with connect(front.getsockname(), login, Deadline(10)) as connection:
            assert run(connection, "echo up").stdout == "up\n"


def _copy(source: socket.socket, target: socket.socket) -> None:
    with source, target:
        while data := source.recv(65536):
            target.sendall(data)


def test_a_banner_in_two_pieces(server: GuestServer, behaviour: Behaviour) -> None:
    behaviour.connections = ["slow banner"]
    with wait_for_banner(server.address, Deadline(5)) as sock:
        assert sock.recv(100) == b"SSH-2.0-slow\r\n"
    assert server.connections == 1


class _UntilTried(Deadline):
    """Expires when a third connection has come, however slow the computer is."""

    def __init__(self, server: GuestServer) -> None:
        super().__init__(20)
        self._server = server

    @property
    def remaining(self) -> float:
        return super().remaining if self._server.connections < 3 else 0.0


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize(
    ("how", "seen", "hint"),
    [
        ("silent", "accepted, then silent", "SSH server"),
        ("reset", "accepted, then closed", "nothing listens"),
        (b"220 mail.example ESMTP\x1b[2J\r\n", "other text: '220 mail", "something else than an SSH server"),
        (b"x" * 5000, "other text: 'xxx", "something else"),
    ],
)
def test_no_banner(server: GuestServer, behaviour: Behaviour, how: str | bytes, seen: str, hint: str) -> None:
    behaviour.connections = [how] * 1000
    with pytest.raises(GuestUnreachable) as caught:
        wait_for_banner(server.address, _UntilTried(server))
    error = caught.value
    assert (error.phase, error.address) == ("banner", server.address)
    assert error.probes >= 2
    assert seen in str(error)
    assert hint in str(error)
    assert "\x1b" not in str(error)
    assert f"({error.probes} x)" in str(error)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(GuestUnreachable, match=r"connection refused.*is the machine running"):
        wait_for_banner(address, Deadline(0.05))


def test_a_deadline_that_is_over(server: GuestServer) -> None:
    with pytest.raises(GuestUnreachable, match="0 probes: none was made"):
        wait_for_banner(server.address, Deadline(0))


@pytest.mark.usefixtures("_impatient")
def test_the_caller_is_asked_and_can_end_the_wait(server: GuestServer, behaviour: Behaviour) -> None:
    behaviour.connections = ["silent"] * 100
    asked = []

    def machine_is_gone() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise RuntimeError("powered off")

    with pytest.raises(RuntimeError, match="powered off"):
        wait_for_banner(server.address, Deadline(30), machine_is_gone)
    assert server.connections <= 4


def test_the_caller_is_asked_during_a_long_silence(
    server: GuestServer, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banner, "_FIRST_PATIENCE", (30.0,))
    monkeypatch.setattr(banner, "_SLICE", 0.02)
    behaviour.connections = ["silent"]

    def machine_is_gone() -> None:
        raise RuntimeError("powered off")

    with pytest.raises(RuntimeError, match="powered off"):
        wait_for_banner(server.address, Deadline(30), machine_is_gone)


def test_a_guest_that_hangs_up_in_the_handshake_is_tried_again(
    server: GuestServer, behaviour: Behaviour, login: Login
) -> None:
    behaviour.connections = ["banner only", "reset", "banner only"]
    with connect(server.address, login, Deadline(10)) as connection:
        assert connection.alive
    assert server.connections == 4


def test_handshakes_that_never_end_well(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.connections = ["banner only"] * 1000
    with pytest.raises(GuestUnreachable, match=r"stuck in the handshake.*hung up in the handshake") as caught:
        connect(server.address, login, Deadline(0.15))
    assert caught.value.phase == "handshake"
    assert caught.value.__cause__ is not None


def test_a_handshake_without_an_answer(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.connections = ["mute"] * 1000
    with pytest.raises(GuestUnreachable, match="no answer in the handshake"):
        connect(server.address, login, Deadline(0.15))
    # paramiko's timer for the handshake must not hold up the interpreter's end.
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    for timer in timers:
        timer.join(2)
    assert not [timer for timer in timers if timer.is_alive() and not timer.daemon]


def test_hang_up_during_login_is_tried_again(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.login = ["hang up", "hang up"]
    with connect(server.address, login, Deadline(10)) as connection:
        assert connection.alive
    assert server.connections == 3


def test_logins_refused_while_booting_are_tried_again(
    server: GuestServer, behaviour: Behaviour, login: Login
) -> None:
    behaviour.greeting = "System is booting up. Unprivileged users are not permitted to log in yet. pam_nologin(8)"
    behaviour.password = "not yet"

    def finish_boot() -> None:
        if len(server.attempts) >= 2:
            behaviour.greeting, behaviour.password = "", PASSWORD

    with connect(server.address, login, Deadline(10), on_wait=finish_boot) as connection:
        assert connection.alive


def test_logins_refused_while_booting_for_ever(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.greeting = "System is booting up."
    behaviour.password = "not yet"
    with pytest.raises(GuestUnreachable, match="refused while the guest boots"):
        connect(server.address, login, Deadline(0.2))


def test_key_login(server: GuestServer, key_file: Path) -> None:
    with connect(server.address, Login(USER, private_key=key_file), Deadline(10)) as connection:
        assert connection.alive
    assert set(server.attempts) == {"publickey"}


def test_key_before_password(server: GuestServer, tmp_path: Path) -> None:
    path = tmp_path / "stranger"
    path.write_text(new_key_text())
    login = Login(USER, password=PASSWORD, private_key=path)
    with connect(server.address, login, Deadline(10)) as connection:
        assert connection.alive
    assert server.attempts == ["publickey", "password"]


def test_key_and_password_as_two_factors(server: GuestServer, behaviour: Behaviour, key_file: Path) -> None:
    behaviour.second_factor = True
    login = Login(USER, password=PASSWORD, private_key=key_file)
    with connect(server.address, login, Deadline(10)) as connection:
        assert connection.alive


def test_keyboard_interactive(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.methods = "keyboard-interactive"
    with connect(server.address, login, Deadline(10)) as connection:
        assert connection.alive


def test_no_credentials(server: GuestServer, behaviour: Behaviour) -> None:
    with pytest.raises(LoginRefused, match="neither a password nor a private key"):
        connect(server.address, Login(USER), Deadline(10))
    behaviour.methods = "none"
    with connect(server.address, Login(USER), Deadline(10)) as connection:
        assert connection.alive


def test_wrong_password(server: GuestServer) -> None:
    with pytest.raises(LoginRefused) as caught:
        connect(server.address, Login(USER, password="hunter2"), Deadline(10))
    error = caught.value
    assert (error.user, error.tried, error.allowed) == (USER, ("password",), ("publickey", "password"))
    assert "is the password right?" in str(error)
    assert "hunter2" not in str(error)
    assert server.connections == 1


@pytest.mark.parametrize("how", ["refused", "disconnect", "unsent", "interrupted"])
def test_a_login_that_fails_has_the_password_in_no_variable_of_its_traceback(
    server: GuestServer, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    password = "hunter2-and-more"
    if how == "disconnect":
        behaviour.login = ["disconnect"] * 10
    if how == "unsent":
        add_string = paramiko.Message.add_string

        def fail(message: paramiko.Message, text: str | bytes) -> None:
            add_string(message, text)
            if text == password.encode():
                raise ConnectionResetError(104, "broken")

        monkeypatch.setattr(paramiko.Message, "add_string", fail)
    if how == "interrupted":
        monkeypatch.setattr(paramiko.auth_handler.AuthHandler, "wait_for_response", _interrupt)
    with pytest.raises((LoginRefused, GuestUnreachable, KeyboardInterrupt)) as caught:
        connect(server.address, Login(USER, password=password), Deadline(3))
    text = shown(caught.value, __file__)
    assert "connect: login=Login(" in text
    assert password not in text


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_unknown_key(server: GuestServer, behaviour: Behaviour, tmp_path: Path) -> None:
    path = tmp_path / "stranger"
    path.write_text(new_key_text())
    behaviour.methods = "publickey"
    with pytest.raises(LoginRefused, match=r"tried publickey; the server allows publickey.*authorized_keys"):
        connect(server.address, Login(USER, private_key=path), Deadline(10))


def test_keys_only(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.methods = "publickey"
    with pytest.raises(LoginRefused, match="takes keys only"):
        connect(server.address, login, Deadline(10))


def test_root_by_password(server: GuestServer) -> None:
    with pytest.raises(LoginRefused, match="PermitRootLogin"):
        connect(server.address, Login("root", password="x"), Deadline(10))


def test_a_server_that_disconnects_says_why(server: GuestServer, behaviour: Behaviour, login: Login) -> None:
    behaviour.login = ["disconnect"] * 10
    with pytest.raises(LoginRefused, match="it said: 'No more auth methods available'"):
        connect(server.address, login, Deadline(10))
    assert server.connections == 1


def test_unusable_key_is_found_before_any_contact(server: GuestServer, tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable):
        connect(server.address, Login(USER, private_key=tmp_path / "none"), Deadline(10))
    assert server.connections == 0


@pytest.mark.parametrize("in_login", [True, False])
def test_pinned_host_key(server: GuestServer, in_login: bool) -> None:
    text = host_key_text(server.host_keys[0])
    login = Login(USER, password=PASSWORD, host_key=f"{text} comment" if in_login else None)
    with connect(server.address, login, Deadline(10), known_host_key=None if in_login else text) as connection:
        assert connection.host_key == text


def test_another_host_key_than_the_pinned(server: GuestServer, login: Login) -> None:
    expected = new_key()
    with pytest.raises(HostKeyMismatch) as caught:
        connect(server.address, login, Deadline(10), known_host_key=host_key_text(expected))
    assert caught.value.expected == f"ssh-ed25519 {expected.fingerprint}"
    assert caught.value.got == f"ssh-ed25519 {server.host_keys[0].fingerprint}"
    assert server.attempts == []


def test_the_pinned_type_is_asked_for(behaviour: Behaviour, login: Login, tmp_path: Path) -> None:
    path = tmp_path / "host"
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    keys = [new_key(), paramiko.ECDSAKey.from_private_key_file(str(path))]
    with GuestServer(behaviour, keys) as server:
        for key in keys:
            with connect(server.address, login, Deadline(10), known_host_key=host_key_text(key)) as connection:
                assert connection.host_key == host_key_text(key)


def test_no_algorithm_in_common(server: GuestServer, login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paramiko.Transport, "_preferred_macs", ("hmac-sha2-256",))

    class Odd(GuestTransport):
        _preferred_macs = ("hmac-md5",)

    monkeypatch.setattr(connection_module, "GuestTransport", Odd)
    with pytest.raises(IncompatibleServer, match=r"no acceptable macs.*the guest runs SSH-2\.0-paramiko"):
        connect(server.address, login, Deadline(10))
    assert server.connections == 1


def test_the_fastest_key_exchange_comes_first(connection: Connection) -> None:
    assert connection.transport.preferred_kex[0].startswith("curve25519-sha256")
    assert not [name for name in connection.transport.preferred_pubkeys if name == "ssh-rsa"]


def test_failures_are_not_logged_as_alarms(
    server: GuestServer, behaviour: Behaviour, login: Login, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    behaviour.connections = ["banner only"] * 1000
    with pytest.raises(GuestUnreachable):
        connect(server.address, login, Deadline(0.1))
    ours = [record for record in caplog.records if record.name.startswith("pytest_vbox")]
    assert ours == []
    assert "Traceback" not in capfd.readouterr().err


def test_whoever_wants_the_log_gets_it(
    server: GuestServer, login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with connect(server.address, login, Deadline(10)):
        pass
    ours = [record for record in caplog.records if record.name == "pytest_vbox.guest.ssh"]
    assert any("successful" in record.getMessage() for record in ours)
    assert not any(PASSWORD in record.getMessage() for record in caplog.records)


def test_repr_shows_no_secret(connection: Connection) -> None:
    assert repr(connection).startswith(f"<Connection {USER}@127.0.0.1:")
    assert PASSWORD not in repr(connection)


def test_connecting_is_quick(server: GuestServer, login: Login) -> None:
    begun = time.monotonic()
    with connect(server.address, login, Deadline(10)) as connection:
        run(connection, "true")
    assert time.monotonic() - begun < 1
