"""Conditions."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from paramiko.common import OPEN_FAILED_CONNECT_FAILED, OPEN_SUCCEEDED

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import (
    AllOf,
    AnyOf,
    CommandSucceeds,
    Connection,
    ConnectionLost,
    FileExists,
    PortOpen,
    WaitTimeout,
    readiness,
    run,
    wait_for,
)

from .server import Behaviour, GuestServer


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_FIRST_PAUSE", 0.01)


class LastLook(Deadline):
    """A deadline that gives a look its time, and is over after it: nothing here depends on how fast it was."""

    @property
    def expired(self) -> bool:
        return True


def test_command_succeeds_after_a_while(connection: Connection, behaviour: Behaviour) -> None:
    wait_for(connection, CommandSucceeds("echo x >>n; test $(wc -l <n) = 3"), Deadline(10))
    assert (behaviour.root / "n").read_text() == "x\n" * 3


def test_command_never_succeeds(connection: Connection) -> None:
    with pytest.raises(WaitTimeout) as caught:
        wait_for(connection, CommandSucceeds("echo degraded >&2; exit 3"), LastLook(30))
    error = caught.value
    assert error.elapsed > 0
    assert error.last == "exit status 3: degraded"
    assert "'echo degraded >&2; exit 3' to succeed" in str(error)


def test_a_command_that_hangs_is_cut_short(connection: Connection) -> None:
    with pytest.raises(WaitTimeout, match="did not end in the guest"):
        wait_for(connection, CommandSucceeds("sleep 99"), Deadline(0.1))


def test_file_exists(connection: Connection, behaviour: Behaviour) -> None:
    (behaviour.root / "a b").touch()
    wait_for(connection, FileExists("a b"), Deadline(5))
    with pytest.raises(WaitTimeout, match=r"gave up waiting for /nowhere/at all to exist.*it is not there"):
        wait_for(connection, FileExists("/nowhere/at all"), LastLook(30))


def test_port_open_by_way_of_the_ssh_server(connection: Connection, behaviour: Behaviour) -> None:
    behaviour.forwarding = OPEN_SUCCEEDED
    wait_for(connection, PortOpen(80), Deadline(5))
    behaviour.forwarding = OPEN_FAILED_CONNECT_FAILED
    with pytest.raises(WaitTimeout, match=r"port 80 to be open at 127\.0\.0\.1.*connection failed"):
        wait_for(connection, PortOpen(80), LastLook(30))


def test_port_open_where_the_ssh_server_may_not_connect(connection: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        wait_for(connection, PortOpen(port), Deadline(5))
    with pytest.raises(WaitTimeout, match="nothing in the guest listens"):
        wait_for(connection, PortOpen(port), LastLook(30))


def test_a_function_is_a_condition(connection: Connection) -> None:
    answers = iter([0, None, "", True])
    wait_for(connection, lambda: next(answers), Deadline(5))
    assert next(answers, "none left") == "none left"


def test_a_function_that_stays_false(connection: Connection) -> None:
    def service_is_up() -> int:
        return 0

    with pytest.raises(WaitTimeout, match=r"service_is_up\(\) to return something true.*it returned 0"):
        wait_for(connection, service_is_up, LastLook(30))


def test_failed_assertions_and_commands_mean_not_yet(connection: Connection) -> None:
    def assertion() -> bool:
        raise AssertionError("1 == 2")

    def command() -> bool:
        return bool(run(connection, "exit 7"))

    with pytest.raises(WaitTimeout, match="1 == 2"):
        wait_for(connection, assertion, LastLook(30))
    with pytest.raises(WaitTimeout, match="exit status 7"):
        wait_for(connection, command, LastLook(30))


def test_other_failures_in_a_function_come_through(connection: Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        wait_for(connection, lambda: 1 / 0, Deadline(5))


def test_all_of(connection: Connection, behaviour: Behaviour) -> None:
    (behaviour.root / "one").touch()
    (behaviour.root / "two").touch()
    wait_for(connection, AllOf(FileExists("one"), lambda: True, FileExists("two")), Deadline(5))
    with pytest.raises(WaitTimeout, match="three"):
        wait_for(connection, AllOf(FileExists("one"), FileExists("three")), LastLook(30))


def test_any_of(connection: Connection, behaviour: Behaviour) -> None:
    (behaviour.root / "one").touch()
    wait_for(connection, AnyOf(FileExists("three"), FileExists("one")), Deadline(5))
    with pytest.raises(WaitTimeout, match=r"three to exist in the guest or four to exist"):
        wait_for(connection, AnyOf(FileExists("three"), FileExists("four")), LastLook(30))
    with pytest.raises(ValueError, match="at least one"):
        AnyOf()


def test_nonsense_is_no_condition(connection: Connection) -> None:
    with pytest.raises(TypeError, match="not a condition: 42"):
        wait_for(connection, 42, Deadline(5))  # type: ignore[arg-type]


@pytest.mark.parametrize("condition", [FileExists("x"), PortOpen(80), CommandSucceeds(["false"])], ids=str)
def test_a_guest_that_dies_ends_the_wait(
    connection: Connection, server: GuestServer, condition: readiness.Condition
) -> None:
    server.hang_up()
    with pytest.raises(ConnectionLost):
        wait_for(connection, condition, Deadline(30))


def test_a_condition_of_ones_own(connection: Connection, tmp_path: Path) -> None:
    class Touch:
        def wait(self, connection: Connection, deadline: Deadline) -> None:
            assert deadline.remaining > 0
            run(connection, ["touch", str(tmp_path / "touched")])

    wait_for(connection, Touch(), Deadline(5))
    assert (tmp_path / "touched").exists()
