"""SSH servers that mean harm, or are broken in ways that look like it: no wait without an end, no memory without
a limit, and nothing of theirs drives a terminal."""

from __future__ import annotations

import importlib
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.sftp import CMD_ATTRS, CMD_DATA, CMD_NAME
from paramiko.sftp_attr import SFTPAttributes

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import (
    CommandError,
    CommandTimeout,
    Connection,
    ConnectionLost,
    CopyFailed,
    GuestUnreachable,
    Login,
    LoginRefused,
    connect,
    get,
    run,
    wait_for_banner,
)
from pytest_vbox.guest import copy as copy_module
from pytest_vbox.guest import sftp as sftp_module
from pytest_vbox.guest.output import MOST_KEPT, Output

from .server import PASSWORD, USER, Behaviour, GuestServer
from .sftp_server import FolderServer

pytestmark = pytest.mark.slow

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e"
RUN = importlib.import_module("pytest_vbox.guest.run")
EXECUTION = importlib.import_module("pytest_vbox.guest.execution")


class _UntilSeen(Deadline):
    """Expires when it is called: as soon as one connection has been given up."""

    def __init__(self) -> None:
        super().__init__(20)
        self._seen = False

    def __call__(self) -> None:
        self._seen = True

    @property
    def remaining(self) -> float:
        return 0.0 if self._seen else super().remaining

    @property
    def expired(self) -> bool:
        return self._seen or super().expired


def _is_harmless(text: str) -> bool:
    return not any(sign in text for sign in "\x1b\x07\x9b\u202e\r")


@contextmanager
def _endless(first: bytes, then: bytes) -> Iterator[tuple[str, int]]:
    """A server that says something, and then something else for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    try:
                        sock.sendall(first)
                        while True:
                            sock.sendall(then)
                    except OSError:
                        pass

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


# Before the login


@pytest.mark.parametrize(
    ("first", "then", "seen"),
    [
        (b"SSH-2.0-", b"x" * 65536, "a banner without end, 'SSH-2.0-xxx"),
        (b"", f"{ESCAPES}\r\n".encode() * 1000, "other text: '"),
        (b"SSH-2.0-fine\r\n", b"\xff" * 65536, "stuck in the handshake"),
        (b"SSH-2.0-\xff\xfe\r\n", b"\r\n", "stuck in the handshake"),
    ],
    ids=["a banner without end", "text without end", "garbage without end", "a banner that is no text"],
)
def test_what_never_ends_costs_neither_time_nor_memory(first: bytes, then: bytes, seen: str, login: Login) -> None:
    tracemalloc.start()
    try:
        with _endless(first, then) as address, pytest.raises(GuestUnreachable) as caught:
            connect(address, login, until := _UntilSeen(), on_wait=until)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert seen in str(caught.value)
    assert caught.value.elapsed < 10
    assert _is_harmless(str(caught.value))
    assert len(str(caught.value)) < 5000


def test_a_banner_of_a_megabyte_is_no_banner(server: GuestServer, behaviour: Behaviour) -> None:
    behaviour.connections = [b"SSH-2.0-" + b"x" * 1_000_000 + b"\r\n"] * 1000
    with pytest.raises(GuestUnreachable, match="banner without end"):
        wait_for_banner(server.address, until := _UntilSeen(), until)


@pytest.mark.parametrize("size", [200_000, 2_000_000])
def test_a_greeting_of_any_size_is_shown_in_part(size: int, server: GuestServer, behaviour: Behaviour) -> None:
    behaviour.greeting = ESCAPES + "w" * size
    with pytest.raises((LoginRefused, GuestUnreachable)) as caught:
        connect(server.address, Login(USER, password="wrong"), until := _UntilSeen(), on_wait=until)
    assert len(str(caught.value)) < 5000
    assert _is_harmless(str(caught.value))


def test_the_methods_a_server_names_are_shown_harmless(server: GuestServer, behaviour: Behaviour) -> None:
    behaviour.methods = f"publickey,{ESCAPES}"
    with pytest.raises(LoginRefused) as caught:
        connect(server.address, Login(USER, password=PASSWORD), Deadline(5))
    assert "\\x1b[2J" in str(caught.value)
    assert _is_harmless(str(caught.value))


# Commands


def test_output_is_kept_as_it_was_and_shown_harmless(connection: Connection) -> None:
    text = ESCAPES.replace("'", "") + "\n"
    done = run(connection, ["printf", "%s", text])
    assert done.stdout == text
    with pytest.raises(CommandError) as caught:
        run(connection, ["sh", "-c", 'printf %s "$0" >&2; exit 3', text])
    assert caught.value.stderr == text
    assert _is_harmless(str(caught.value))
    assert "\\x1b[2J" in str(caught.value)


def test_a_gigabyte_is_taken_in_within_bounds() -> None:
    piece = b"x" * 65536
    tracemalloc.start()
    try:
        stream = Output()
        for _ in range(1024**3 // len(piece)):
            stream.add(piece)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * MOST_KEPT
    finally:
        tracemalloc.stop()
    assert f"{1024**3 - MOST_KEPT} bytes left out here" in stream.text


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_server_that_ignores_the_window_is_hung_up_on(
    stream: str, connection: Connection, server: GuestServer
) -> None:
    channel = connection.open_session(Deadline(5))
    flooding: Any = server._transports[-1]
    message = paramiko.Message()
    message.add_byte(bytes([MSG_CHANNEL_DATA + (stream == "stderr")]))
    message.add_int(channel.chanid)
    if stream == "stderr":
        message.add_int(1)
    message.add_string(b"x" * 30_000)

    def flood() -> None:
        while flooding.is_active():
            flooding._send_user_message(message)

    server.spawn(flood)
    end = Deadline(10)
    while connection.alive and not end.expired:
        threading.Event().wait(0.01)
    assert not connection.alive
    assert len(channel.in_buffer) + len(channel.in_stderr_buffer) < 5_000_000
    with pytest.raises(ConnectionLost, match="more data than it was allowed"):
        connection.open_session(Deadline(1))


class _Stopper:
    """Stands between the client and a server, and can stop passing anything on, as a guest that hangs."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._server, self._sockets = server, list[socket.socket]()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        guest = socket.create_connection(self._server)
        self._sockets += [client, guest]
        for source, target in ((client, guest), (guest, client)):
            threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while True:
                self.flowing.wait()
                data = source.recv(4096)
                self.flowing.wait()
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            sock.close()
        self.flowing.set()


@pytest.fixture
def stopper(server: GuestServer) -> Iterator[_Stopper]:
    """The way to the server, to be stopped."""
    stopper = _Stopper(server.address)
    yield stopper
    stopper.close()


def _stop_when(stopper: _Stopper, sign: Path) -> None:
    """Stop passing anything on as soon as a file is there."""

    def watch() -> None:
        end = Deadline(20)
        while not sign.exists() and not end.expired:
            threading.Event().wait(0.01)
        stopper.flowing.clear()

    threading.Thread(target=watch, daemon=True).start()


def test_a_guest_that_takes_nothing_any_more_ends_a_command_in_time(
    stopper: _Stopper, login: Login, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN, "_KILL_TIME", 0.3)
    monkeypatch.setattr(RUN, "_LAST_WORDS", 0.1)
    monkeypatch.setattr(EXECUTION, "_KEEPALIVE", 0.1)
    with connect(stopper.address, login, Deadline(10)) as connection:
        connection.transport.wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        _stop_when(stopper, behaviour.root / "begun")
        begun = time.monotonic()
        # More than buffers hold: the thread that feeds it sits on the lock under which all is sent.
        with pytest.raises(CommandTimeout, match="it hangs, or is paused") as caught:
            run(connection, "touch begun; sleep 20; cat > /dev/null", input=b"x" * 20_000_000, timeout=1.5)
        assert time.monotonic() - begun < 10
        assert caught.value.unheard > 0.2


def test_a_command_without_a_limit_ends_when_the_guest_answers_nothing(
    stopper: _Stopper, login: Login, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXECUTION, "_KEEPALIVE", 0.02)
    monkeypatch.setattr(EXECUTION, "_LOOK", 0.01)
    monkeypatch.setattr(EXECUTION, "_MOST_UNANSWERED", 50)
    with connect(stopper.address, login, Deadline(10)) as connection:
        assert run(connection, "sleep 0.6; echo patience", timeout=None).stdout == "patience\n"
        _stop_when(stopper, behaviour.root / "begun")
        with pytest.raises(ConnectionLost, match="has not answered anything for"):
            run(connection, "touch begun; sleep 99", timeout=None)
        assert not connection.alive


def test_a_command_that_hangs_where_the_kill_hangs_too_is_given_up(
    connection: Connection, behaviour: Behaviour, server: GuestServer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(RUN, "_KILL_TIME", 0.2)
    monkeypatch.setattr(RUN, "_LAST_WORDS", 0.1)
    shell = tmp_path / "stuck"
    shell.write_text("#!/bin/sh\nexec sleep 99\n")
    shell.chmod(0o755)
    behaviour.shell = str(shell)
    with pytest.raises(CommandTimeout, match="could not be killed"):
        run(connection, "true", timeout=0.1)
    assert len(server.commands) == 2


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("sudo", [True, False])
def test_a_shell_that_runs_nothing_is_told_from_a_command_that_fails(
    check: bool, sudo: bool, connection: Connection, behaviour: Behaviour, tmp_path: Path
) -> None:
    shell = tmp_path / "nologin"
    shell.write_text("#!/bin/sh\necho This account is not available.; exit 1\n")
    shell.chmod(0o755)
    behaviour.shell = str(shell)
    with pytest.raises(CommandError, match=r"does not run commands: .* it answered This account") as caught:
        run(connection, "true", check=check, sudo=sudo)
    assert "ForceCommand" in str(caught.value)


def test_whether_the_shell_runs_commands_is_asked_once_after_a_failure(
    connection: Connection, server: GuestServer
) -> None:
    assert run(connection, "exit 3", check=False).returncode == 3
    assert len(server.commands) == 2
    assert run(connection, "exit 4", check=False).returncode == 4
    assert len(server.commands) == 3


# Files


def test_a_link_of_the_users_leads_no_file_of_the_guest_out_of_the_target(
    connection: Connection, behaviour: Behaviour, tmp_path: Path
) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    for folder in (outside, target / "data", behaviour.root / "data" / "link"):
        folder.mkdir(parents=True)
    (behaviour.root / "data" / "link" / "evil").write_text("evil")
    (target / "data" / "link").symlink_to(outside)
    with pytest.raises(CopyFailed, match="link to somewhere else"):
        get(connection, "/data", target)
    assert list(outside.iterdir()) == []


def test_names_with_control_characters_stay_inside_and_are_shown_harmless(
    connection: Connection, behaviour: Behaviour, tmp_path: Path
) -> None:
    folder = behaviour.root / "data"
    folder.mkdir()
    name = "\x1b[2Jtwo\nlines"
    (folder / name).write_text("x")
    (folder / f"{name} forbidden").write_text("x")
    with pytest.raises(PermissionError) as caught:
        get(connection, "/data", tmp_path)
    assert _is_harmless(str(caught.value))
    assert {path.name for path in (tmp_path / "data").iterdir()} <= {name}


def test_a_name_that_is_no_text_is_named(
    connection: Connection, behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (behaviour.root / "data").mkdir()
    (behaviour.root / "data" / "cafX").touch()
    add_string = paramiko.Message.add_string

    def spoil(message: paramiko.Message, value: str | bytes) -> paramiko.Message:
        return add_string(message, b"caf\xe9" if value in ("cafX", b"cafX") else value)

    monkeypatch.setattr(paramiko.Message, "add_string", spoil)
    with pytest.raises(CopyFailed, match=r"is no UTF-8: caf\\xe9"):
        get(connection, "/data", tmp_path)
    # The session after it is another one.
    assert connection.sftp.listdir("/") == ["data"]


def test_folders_without_end_come_to_an_end(
    connection: Connection, behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each folder has two folders; 64 deep, that is more than there are atoms in a mole."""
    status = behaviour.root.stat()

    def two(*_: object) -> list[SFTPAttributes]:
        return [SFTPAttributes.from_stat(status, name) for name in ("a", "b")]

    monkeypatch.setattr(FolderServer, "list_folder", two)
    monkeypatch.setattr(copy_module, "_DEEPEST", 5)
    monkeypatch.setattr(copy_module, "_MOST_ENTRIES", 40)
    with pytest.raises(CopyFailed, match="more than"):
        get(connection, "/", tmp_path / "got")
    monkeypatch.setattr(copy_module, "_DEEPEST", 64)
    with pytest.raises(CopyFailed, match="more than"):
        get(connection, "/", tmp_path / "again")


def test_a_folder_that_lists_for_ever_is_given_up(
    connection: Connection, behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (behaviour.root / "data").mkdir()
    for number in range(30):
        (behaviour.root / "data" / str(number)).touch()
    monkeypatch.setattr(sftp_module, "MOST_NAMES", 20)
    with pytest.raises(CopyFailed, match="more than 20 names in one folder"):
        get(connection, "/data", tmp_path)
    monkeypatch.setattr(sftp_module, "MOST_NAMES", 30)
    for _ in range(2):
        get(connection, "/data", tmp_path)


def test_a_file_without_end_is_given_up(
    connection: Connection, behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (behaviour.root / "log").write_bytes(b"x" * 300_000)
    monkeypatch.setattr(copy_module, "_MOST_GROWTH", 100_000)
    monkeypatch.setattr(FolderServer, "stat", lambda *_: _claiming(1000))
    with pytest.raises(CopyFailed, match="has no end: it was said to have 1000 bytes"):
        get(connection, "/log", tmp_path / "log")
    assert list(tmp_path.glob(".pytest-vbox*")) == []
    assert not (tmp_path / "log").exists()


def _claiming(size: int) -> SFTPAttributes:
    attributes = SFTPAttributes()
    attributes.st_size, attributes.st_mode = size, 0o100644
    return attributes


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CMD_ATTRS, struct.pack(">IIII", 1, SFTPAttributes.FLAG_EXTENDED, 0xFFFFFFFF, 0)),
        (CMD_ATTRS, struct.pack(">II", 1, SFTPAttributes.FLAG_SIZE)),
        (CMD_NAME, struct.pack(">II", 1, 0xFFFFFFFF)),
        (CMD_NAME, struct.pack(">III", 1, 1, 0xFFFFFFFF) + b"name"),
        (CMD_NAME, b"\0"),
        (CMD_DATA, b"x" * 100_000),
        (CMD_ATTRS, b"x" * 300_000),
    ],
    ids=["extensions", "cut attributes", "count", "length", "no count", "too much data", "too long"],
)
def test_an_answer_that_lies_about_its_size_is_refused_at_once(
    kind: int, body: bytes, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    sftp = connection.sftp
    monkeypatch.setattr(paramiko.SFTPClient, "_read_packet", lambda _: (kind, body))
    with pytest.raises(paramiko.SFTPError, match=r"cut short|answer of \d+ bytes"):
        sftp.stat("/")
