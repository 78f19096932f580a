"""Which service is used: the one that was named, the one that runs, or a private one."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pytest_vbox import service
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import ProcessId
from pytest_vbox.service import Endpoint, VirtualBoxNotFound, VirtualBoxUnusable, listener
from pytest_vbox.service.endpoint import answers, stop
from pytest_vbox.service.record import Record, in_use
from unit.kit.service import FakeService

from .conftest import Programs, every_command_line

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="needs shell scripts as programs")]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def babbling_port() -> Iterator[int]:
    """A port on which something says something that is not HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" * 3)

        thread = threading.Thread(target=babble)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()


def _record(state: Path) -> Record:
    record = Record.read(state)
    assert record is not None
    return record


def _wait_for_end_of(process: ProcessId) -> None:
    """Not psutil's wait(): the process stays a zombie until its parent looks, which may take seconds."""
    deadline, pause = Deadline(10), threading.Event()
    while process.find() is not None:
        assert not deadline.expired
        pause.wait(0.005)


# One that is there


def test_the_one_that_was_named_is_used_without_a_look(tmp_path: Path) -> None:
    endpoint = service.find("https://there:18083", state=tmp_path / "none")
    assert endpoint == Endpoint("https://there:18083")
    endpoint.release()
    assert not (tmp_path / "none").exists()


def test_the_one_on_the_usual_port_is_used(state: Path, service: FakeService) -> None:
    from pytest_vbox.service import find

    endpoint = find(None, state=state, usual_port=service.port)
    assert endpoint == Endpoint(service.url)
    assert list(state.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who listens")
@pytest.mark.usefixtures("programs")
def test_one_that_another_user_put_on_the_usual_port_is_not_used(
    state: Path, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_vbox.service import find

    tables = [path.read_text(encoding="ascii") for path in listener._TABLES]
    table = state.parent / "tcp"
    lines = [line.split() for text in tables for line in text.splitlines()[1:]]
    for line in lines:
        if line[1].endswith(f":{service.port:04X}"):
            line[7] = "4711"
    table.write_text("head\n" + "\n".join(" ".join(line) for line in lines))
    with monkeypatch.context() as patch:
        patch.setattr(listener, "_TABLES", (table,))
        assert not listener.is_trusted(service.port)
        # What it says here of the private one's port would be of another moment.
        patch.setattr("pytest_vbox.service.endpoint.is_trusted", lambda port: port != service.port)
        endpoint = find(None, state=state, usual_port=service.port)
    assert endpoint.user.startswith("pytest-vbox-")
    assert endpoint.url != service.url
    assert service.calls == []
    endpoint.release()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells who listens")
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])  # noqa: S104
def test_what_this_user_listens_on_is_trusted_and_what_nobody_listens_on_is_not(
    address: str, unused_port: int
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family, dualstack_ipv6=":" in address) as server:
        assert listener.is_trusted(server.getsockname()[1])
    assert not listener.is_trusted(unused_port)


def test_virtualbox_is_told_from_other_web_servers(service: FakeService) -> None:
    assert answers("127.0.0.1", service.port)
    service.wsdl = b"<html>It works!</html>"
    assert not answers("127.0.0.1", service.port)


def test_what_does_not_answer_is_not_virtualbox(unused_port: int, silent_port: int, babbling_port: int) -> None:
    assert not answers("127.0.0.1", unused_port)
    assert not answers("127.0.0.1", silent_port, timeout=0.01)
    assert not answers("127.0.0.1", babbling_port)


# None at all


def test_without_virtualbox_nothing_is_started(
    state: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> None:
        raise VirtualBoxNotFound("install it")

    monkeypatch.setattr("pytest_vbox.service.endpoint.find_installation", nowhere)
    with pytest.raises(VirtualBoxNotFound, match="install it"):
        service.find(None, state=state, usual_port=unused_port)
    assert not in_use(state)


def test_without_the_driver_nothing_is_started(state: Path, programs: Programs, unused_port: int) -> None:
    programs.tell("no-driver")
    with pytest.raises(VirtualBoxUnusable, match="kernel driver is not loaded"):
        service.find(None, state=state, usual_port=unused_port)
    assert programs.calls("vboxwebsrv") == []
    assert not in_use(state)


# A private one


def test_whoever_comes_first_starts_one_for_all_and_idle_it_ends(
    state: Path, programs: Programs, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_VBOX_SERVICE_IDLE", "0.1")
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(service.find, None, state=state, usual_port=unused_port) for _ in range(3)]
        first, *others = (done.result() for done in waiting)
    assert others == [first, first]
    ((pid, *arguments),) = programs.calls("vboxwebsrv")
    record = _record(state)
    assert (first.url, first.user, first.password) == (record.url, record.user, record.password)
    assert answers("127.0.0.1", int(first.url.rpartition(":")[2]))
    assert record.service.pid == int(pid)
    # As safe as promised: on loopback, authenticating, the password known to its user only.
    assert arguments[: arguments.index("-t")] == ["-H", "127.0.0.1", "-p", first.url[17:], "-A", "VBoxAuthSimple"]
    # A computer that was suspended, or whose clock was set, does not find its web sessions ended.
    assert arguments[arguments.index("-t") + 1] == "0"
    digest = hashlib.sha256(first.password.encode()).hexdigest()
    assert ["-q", "setextradata", "global", f"VBoxAuthSimple/users/{first.user}", digest] in programs.calls(
        "VBoxManage"
    )
    assert len(first.password) > 30
    assert first.password not in every_command_line()
    assert first.password not in (programs.folder / "calls").read_text()
    assert first.password not in repr(first)
    assert [path.name for path in state.rglob("*") if path.is_file() and first.password in path.read_text()] == [
        "service.json"
    ]
    assert stat.S_IMODE((state / "service.json").stat().st_mode) == 0o600
    # It stays while anybody uses it, and goes after the last one.
    processes = [process for process in (record.keeper.find(), record.service.find()) if process is not None]
    first.release()
    others[0].release()
    assert len(psutil.wait_procs(processes, timeout=0.3)[1]) == 2
    others[1].release()
    assert len(psutil.wait_procs(processes, timeout=10)[0]) == 2
    assert Record.read(state) is None


@pytest.mark.parametrize("victim", ["keeper", "service"])
@pytest.mark.usefixtures("programs")
def test_after_a_kill_the_next_one_starts_anew(state: Path, unused_port: int, victim: str) -> None:
    first = service.find(None, state=state, usual_port=unused_port)
    old = _record(state)
    killed: ProcessId = getattr(old, victim)
    os.kill(killed.pid, signal.SIGKILL)
    _wait_for_end_of(killed)
    second = service.find(None, state=state, usual_port=unused_port)
    # Nobody would end an orphan any more, so it is gone too.
    assert (old.keeper.find(), old.service.find()) == (None, None)
    assert second.password != first.password
    assert answers("127.0.0.1", int(second.url.rpartition(":")[2]))


@pytest.mark.parametrize("alive", [True, False])
def test_one_that_is_of_no_use_any_more_is_replaced_once_by_all_who_find_out(
    state: Path, programs: Programs, unused_port: int, alive: bool
) -> None:
    first = service.find(None, state=state, usual_port=unused_port)
    also = service.find(None, state=state, usual_port=unused_port)
    old = _record(state)
    if not alive:
        os.kill(old.service.pid, signal.SIGKILL)
    # As where VirtualBox's server died a moment ago.
    programs.tell("dying", "2")
    renewed = []
    for endpoint in (first, also):
        endpoint.release()
        renewed.append(service.renew(endpoint, state=state, usual_port=unused_port))
    assert renewed[0] == renewed[1] != first
    assert (old.keeper.find(), old.service.find()) == (None, None)
    assert len(programs.calls("vboxwebsrv")) == 4
    renewed[0].release()
    assert in_use(state)
    renewed[1].release()


def test_where_none_can_be_started_in_its_place_that_is_said_and_not_tried_for_ever(
    state: Path, programs: Programs, unused_port: int
) -> None:
    first = service.find(None, state=state, usual_port=unused_port)
    first.release()
    programs.tell("dying", "100")
    with pytest.raises(VirtualBoxUnusable, match="NS_ERROR_FACTORY_NOT_REGISTERED"):
        service.renew(first, state=state, usual_port=unused_port)
    assert len(programs.calls("vboxwebsrv")) == 4


def test_a_service_that_dies_at_its_start_is_quoted(state: Path, programs: Programs, unused_port: int) -> None:
    programs.tell("dies", "3")
    with pytest.raises(VirtualBoxUnusable, match="did not start") as caught:
        service.find(None, state=state, usual_port=unused_port)
    *_, words, last, code = str(caught.value).splitlines()
    assert (words, last) == ("[main] failed to create the VirtualBox object!", "last words")
    assert code == "vboxwebsrv ended with exit code 3"
    assert str(state / "service.log") in str(caught.value)
    assert not in_use(state)
    assert Record.read(state) is None


def _wait_for_unready_record(state: Path) -> Record:
    end = Deadline(10)
    while (record := Record.read(state)) is None:
        assert not end.expired
        threading.Event().wait(0.01)
    assert not record.ready
    return record


def test_one_that_is_slow_to_start_is_ended_even_if_virtualbox_hangs(
    state: Path, programs: Programs, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vbox.service.endpoint._START_TIMEOUT", 3.0)
    # The keeper, which waits for VBoxManage, gets no time to end the service.
    monkeypatch.setattr("pytest_vbox.service.endpoint._END_TIMEOUT", 0.5)
    programs.tell("slow")
    programs.tell("hangs")
    with pytest.raises(VirtualBoxUnusable, match="did not start"):
        service.find(None, state=state, usual_port=unused_port)
    ((pid, *_),) = programs.calls("vboxwebsrv")
    assert ProcessId.of(int(pid)) is None
    assert Record.read(state) is None


def test_one_whose_keeper_was_killed_before_it_answered_is_ended_by_the_next_one(
    state: Path, programs: Programs, unused_port: int
) -> None:
    programs.tell("slow")
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(service.find, None, state=state, usual_port=unused_port)
        record = _wait_for_unready_record(state)
        os.kill(record.keeper.pid, signal.SIGKILL)
        with pytest.raises(VirtualBoxUnusable, match="did not start"):
            found.result()
    assert record.service.find() is None
    # As where the one who started it was killed, too: nobody has ended anything.
    left = subprocess.Popen([str(programs.folder / "vboxwebsrv"), "-H", "127.0.0.1", "-p", str(unused_port)])
    orphan = ProcessId.of(left.pid)
    assert orphan is not None
    replace(record, service=orphan).write(state)
    service.tidy(state)
    assert left.wait(10) != 0
    assert Record.read(state) is None


def test_a_virtualbox_that_takes_no_password_is_quoted(state: Path, programs: Programs, unused_port: int) -> None:
    programs.tell("read-only")
    with pytest.raises(VirtualBoxUnusable, match="VBoxManage: error: cannot save"):
        service.find(None, state=state, usual_port=unused_port)
    assert programs.calls("vboxwebsrv") == []


def test_a_later_run_uses_the_one_that_runs_which_knows_nothing_of_the_first(
    state: Path, programs: Programs, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw7")
    first = service.find(None, state=state, usual_port=unused_port)
    keeper = _record(state).keeper.find()
    assert keeper is not None
    assert [name for name in keeper.environ() if name.startswith(("PYTEST_XDIST", "PYTEST_CURRENT"))] == []
    # Ctrl-C in a terminal goes to its process group.
    assert os.getpgid(keeper.pid) != os.getpgid(0)
    first.release()
    assert service.find(None, state=state, usual_port=unused_port) == first
    assert len(programs.calls("vboxwebsrv")) == 1


@pytest.mark.usefixtures("programs")
def test_stopping_ends_it_whoever_uses_it_and_its_record_is_not_believed_any_more(
    state: Path, unused_port: int
) -> None:
    first = service.find(None, state=state, usual_port=unused_port)
    record, text = _record(state), (state / "service.json").read_text()
    assert stop(state)
    assert (record.keeper.find(), record.service.find()) == (None, None)
    assert not stop(state)
    # As if the computer had been switched off.
    (state / "service.json").write_text(text)
    assert service.find(None, state=state, usual_port=unused_port).password != first.password
