"""The reaper: one for each run, told of a death by the operating system, and gone with the last process."""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pytest_vbox import reaper as process
from pytest_vbox.deadline import Deadline
from pytest_vbox.ownership import (
    Busy,
    Entry,
    Ledger,
    Reaper,
    ReaperUnavailable,
    background,
    meeting,
    reaper,
    reaping,
    remove_ended_runs,
    take_unseen,
)
from pytest_vbox.ownership.ledger import run_folder
from pytest_vbox.ownership.reaper import address_file
from pytest_vbox.secret import Secret
from unit.kit.tracebacks import shown

pytestmark = pytest.mark.slow

# A reaper whose cleaning writes down for whom it was called; it does not succeed as long as it may not.
MODULE = """
import json, sys, time
from pathlib import Path
from pytest_vbox.ownership.reaping import serve
state = Path(sys.argv[1])
def clean(ledger, pid, access):
    with (state / "cleaned").open("a") as file:
        file.write(json.dumps([ledger.name, pid, access]) + "\\n")
    while (state / "hold").exists():
        time.sleep(0.01)
    if (state / "fail").exists():
        (state / "fail").unlink()
        raise OSError("not now")
    ledger.unlink()
    ledger.with_suffix(".lock").unlink()
sys.exit(serve(state, sys.argv[2], clean))
"""
WORKER = """
import os, sys
from pathlib import Path
from pytest_vbox.ownership import Entry, Ledger, Reaper, reaper
sys.path.insert(0, sys.argv[1]); reaper._MODULE = "reaper_of_tests"
state = Path(sys.argv[1])
ledger = Ledger(state, "run")
way = Reaper(state, "run", {"password": "hush"})
ledger.before_add = lambda: way.attend(ledger.path)
ledger.add(Entry("id-1", "one", "here"))
print(ledger.path.name, flush=True)
asked = sys.stdin.readline()
if asked == "watched?\\n":
    way.attend(ledger.path)  # comes back once the reaper has taken us in
    print("yes", flush=True)
if asked == "leave\\n":
    ledger.strike("id-1"); ledger.close(); way.close()
    print("left", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "reaper_of_tests.py").write_text(MODULE)
    monkeypatch.setattr(reaper, "_MODULE", "reaper_of_tests")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


Workers = list[subprocess.Popen[str]]


@pytest.fixture
def workers() -> Iterator[Workers]:
    started: Workers = []
    yield started
    for worker in started:
        worker.kill()
        worker.communicate()


def _begin(workers: Workers, state: Path) -> tuple[subprocess.Popen[str], str]:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    workers.append(worker)
    assert worker.stdout is not None
    return worker, worker.stdout.readline().strip()


def _pid(state: Path) -> int:
    return int(json.loads(address_file(state, "run").read_text())["pid"])


def _wait_until_gone(state: Path) -> None:
    deadline, pause = Deadline(20), threading.Event()
    while (state / "runs").exists() and any((state / "runs").iterdir()):
        assert not deadline.expired, list((state / "runs").rglob("*"))
        pause.wait(0.01)


def _cleaned(state: Path) -> list[list[object]]:
    return [json.loads(line) for line in (state / "cleaned").read_text().splitlines()]


def test_a_killed_process_is_cleaned_up_after_and_then_the_reaper_goes(state: Path, workers: Workers) -> None:
    worker, ledger = _begin(workers, state)
    watching = psutil.Process(_pid(state))
    assert "hush" not in " ".join(watching.cmdline())
    worker.kill()
    _wait_until_gone(state)
    assert _cleaned(state) == [[ledger, worker.pid, {"password": "hush"}]]
    watching.wait(10)


def test_all_workers_of_a_run_have_one_reaper_which_survives_ctrl_c(state: Path, workers: Workers) -> None:
    first, _ = _begin(workers, state)
    pid = _pid(state)
    second, ledger = _begin(workers, state)
    assert _pid(state) == pid
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGHUP)
    second.kill()
    second.wait()
    third, _ = _begin(workers, state)
    assert _pid(state) == pid
    first.kill()
    third.kill()
    _wait_until_gone(state)
    cleaned = _cleaned(state)
    assert cleaned[0][0] == ledger
    assert len(cleaned) == 3


def test_a_process_that_leaves_nothing_is_not_cleaned_up_after(state: Path, workers: Workers) -> None:
    worker, _ = _begin(workers, state)
    assert worker.stdin is not None
    worker.stdin.write("leave\n")
    worker.stdin.flush()
    _wait_until_gone(state)
    assert not (state / "cleaned").exists()


def test_a_reaper_that_was_killed_is_replaced_before_the_next_thing_is_made(state: Path) -> None:
    ledger, way = Ledger(state, "run"), Reaper(state, "run", {})
    ledger.before_add = lambda: way.attend(ledger.path)
    ledger.add(Entry("id-1", "one", "here"))
    first = psutil.Process(_pid(state))
    first.kill()
    first.wait(10)
    ledger.add(Entry("id-2", "two", "here"))
    assert _pid(state) != first.pid
    ledger.strike("id-1", "id-2")
    ledger.close()
    way.close()
    _wait_until_gone(state)


def test_a_reaper_that_was_killed_is_replaced_at_once_even_if_nothing_is_made_any_more(
    state: Path, workers: Workers
) -> None:
    worker, ledger = _begin(workers, state)
    _kill_reaper(state)
    assert worker.stdin is not None
    worker.stdin.write("watched?\n")
    worker.stdin.flush()
    assert worker.stdout is not None
    assert worker.stdout.readline() == "yes\n"
    worker.kill()
    _wait_until_gone(state)
    assert _cleaned(state) == [[ledger, worker.pid, {"password": "hush"}]]


def test_a_reaper_that_was_killed_while_it_cleaned_up_is_replaced_by_one_that_goes_on_with_that(
    state: Path, workers: Workers
) -> None:
    dying, ledger = _begin(workers, state)
    living, _ = _begin(workers, state)
    (state / "hold").touch()
    dying.kill()
    _wait_for(lambda: (state / "cleaned").exists())
    _kill_reaper(state)
    (state / "hold").unlink()
    gone = next((state / "runs").rglob(ledger))
    _wait_for(lambda: not gone.exists())
    assert living.poll() is None
    assert [names[:2] for names in _cleaned(state)] == [[ledger, dying.pid]] * 2


def test_what_could_not_be_cleaned_up_is_tried_once_more_before_the_reaper_goes(
    state: Path, workers: Workers
) -> None:
    worker, ledger = _begin(workers, state)
    (state / "fail").touch()
    worker.kill()
    _wait_until_gone(state)
    assert [names[:2] for names in _cleaned(state)] == [[ledger, worker.pid]] * 2
    assert "not now" in (state / "reaper.log").read_text()


def _watch(state: Path, clean_up: reaping.CleanUp = lambda *_: None) -> reaping.Watch:
    """The reaper's watch, in this process."""
    run_folder(state, "run").mkdir(parents=True, exist_ok=True)
    return reaping.Watch(state, "run", clean_up)


def test_a_reaper_does_not_stay_for_what_it_cannot_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "_MOMENT", 0.01)
    left = Ledger(tmp_path, "run")
    left.add(Entry("id-1", "one", "here"))
    left.close()
    unreadable = left.path.with_name("1-of-another-version.json")
    unreadable.write_text("{}")
    unreadable.with_suffix(".lock").touch()
    tried: list[str] = []
    watch = _watch(tmp_path, lambda ledger, *_: tried.append(ledger.name))
    watch._ways = [{"url": "one"}, {"url": "another"}]
    watch._bury_last()
    assert tried == [left.path.name] * 2
    watch._listener.close()


def test_a_reaper_accepts_again_after_an_error_until_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = _watch(tmp_path)
    watch._listener.close()
    ours, theirs = socket.socketpair()
    coming: list[socket.socket | OSError] = [OSError(errno.EMFILE, "too many open files"), ours]
    taken: list[socket.socket] = []
    attended = threading.Event()

    class Listener:
        """Has no handle at first, then somebody who comes, and is closed at the end."""

        def accept(self) -> tuple[socket.socket, str]:
            if not coming:
                watch._leaving.set()
                raise OSError(errno.EBADF, "closed")
            comes = coming.pop(0)
            if isinstance(comes, OSError):
                raise comes
            return comes, ""

    def attend(connection: socket.socket) -> None:
        taken.append(connection)
        attended.set()

    monkeypatch.setattr(reaping, "_MOMENT", 0.01)
    monkeypatch.setattr(watch, "_listener", Listener())
    monkeypatch.setattr(watch, "_attend", attend)
    watch._accept()
    assert attended.wait(10)
    assert taken == [ours]
    ours.close()
    theirs.close()


def test_a_process_without_a_handle_to_wait_with_is_watched_all_the_same_and_misses_its_reaper_later(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_handle() -> selectors.DefaultSelector:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(selectors, "DefaultSelector", no_handle)
    ledger, way = Ledger(state, "run"), Reaper(state, "run", {})
    ledger.before_add = lambda: way.attend(ledger.path)
    ledger.add(Entry("id-1", "one", "here"))
    _wait_for_threads_to_end()
    first = psutil.Process(_pid(state))
    ledger.add(Entry("id-2", "two", "here"))
    assert (_pid(state), first.is_running()) == (first.pid, True)
    first.kill()
    first.wait(10)
    ledger.add(Entry("id-3", "three", "here"))
    assert _pid(state) != first.pid
    ledger.strike("id-1", "id-2", "id-3")
    ledger.close()
    way.close()
    _wait_until_gone(state)


def test_a_reaper_that_stands_still_for_too_long_is_found_again_when_it_goes_on(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Reaper(state, "run", {}), Reaper(state, "run", {})
    ledger = Ledger(state, "run")
    first.attend(ledger.path)
    watching = psutil.Process(_pid(state))
    watching.suspend()
    with monkeypatch.context() as patch:
        patch.setattr(reaper, "_PATIENCE", 1.0)
        with pytest.raises(ReaperUnavailable):
            second.attend(ledger.path)
    watching.resume()
    second.attend(ledger.path)
    assert _pid(state) == watching.pid
    ledger.close()
    first.close()
    second.close()
    _wait_until_gone(state)


def test_the_reapers_cleaning_tries_again_while_somebody_else_is_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def clean_up_as(_: object, ledger: Path) -> list[str]:
        calls.append(ledger)
        if len(calls) < 3:
            raise Busy("another process held the lock")
        return []

    monkeypatch.setattr("pytest_vbox.hosts.clean_up_as", clean_up_as)
    monkeypatch.setattr(process, "_PAUSES", (0.0, 0.0, 0.0))
    process.clean_up(tmp_path, "run", tmp_path / "1-x.json", 1, {})
    assert len(calls) == 3
    assert take_unseen(tmp_path) == []


def test_the_reapers_cleaning_ends_some_time_even_if_somebody_else_is_at_it_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean_up_as(_: object, __: Path) -> list[str]:
        raise Busy("another process held the lock")

    monkeypatch.setattr("pytest_vbox.hosts.clean_up_as", clean_up_as)
    monkeypatch.setattr(process, "_PAUSES", (0.0,))
    process.clean_up(tmp_path, "run", tmp_path / "1-x.json", 1, {})
    (line,) = take_unseen(tmp_path)
    assert "another process held the lock; the next run cleans up" in line


def test_a_reaper_that_dies_again_and_again_is_not_replaced_for_ever_but_when_the_next_thing_is_made(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "_MOST_REPLACED", 1)
    ledger, way = Ledger(state, "run"), Reaper(state, "run", {})
    ledger.before_add = lambda: way.attend(ledger.path)
    ledger.add(Entry("id-1", "one", "here"))
    _kill_reaper(state)
    last = psutil.Process(_pid(state))
    last.kill()
    last.wait(10)
    _wait_for_threads_to_end()
    assert _pid(state) == last.pid
    ledger.add(Entry("id-2", "two", "here"))
    assert _pid(state) != last.pid
    ledger.strike("id-1", "id-2")
    ledger.close()
    way.close()
    _wait_until_gone(state)


def _kill_reaper(state: Path) -> None:
    """Kill the reaper, and wait until there is another one."""
    first = psutil.Process(_pid(state))
    first.kill()
    _wait_for(lambda: address_file(state, "run").exists() and _pid(state) != first.pid)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline, pause = Deadline(20), threading.Event()
    while not condition():
        assert not deadline.expired
        pause.wait(0.01)


def _wait_for_threads_to_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "pytest-vbox-reaper":
            thread.join(20)


def test_a_killed_reaper_leaves_no_folder_to_a_run_that_ends_before_it_is_replaced(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "_MOST_REPLACED", 0)
    ledger, way = Ledger(state, "run"), Reaper(state, "run", {})
    way.attend(ledger.path)
    killed = psutil.Process(_pid(state))
    killed.kill()
    killed.wait(10)
    ledger.close()
    way.close()
    assert list((state / "runs").iterdir()) == []


@pytest.fixture
def deep(state: Path) -> Path:
    """A state folder whose path is too long for that of a socket."""
    deep = state / ("long" * 20) / ("longer" * 20)
    deep.mkdir(parents=True)
    return deep


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder."""
    temporary = tmp_path_factory.mktemp("short")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    return temporary


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere it needs a temporary folder")
def test_a_reaper_needs_no_temporary_folder_even_if_the_path_of_the_state_folder_is_too_long_for_a_socket(
    deep: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "_MOST_REPLACED", 0)
    ledger, way = Ledger(deep, "run"), Reaper(deep, "run", {})
    ledger.before_add = lambda: way.attend(ledger.path)
    for number in range(2):
        ledger.add(Entry(f"id-{number}", "one", "here"))
        assert list(temporary.iterdir()) == []
        killed = psutil.Process(_pid(deep))
        killed.kill()
        killed.wait(10)
    ledger.strike("id-0", "id-1")
    ledger.close()
    way.close()
    remove_ended_runs(deep)
    assert list((deep / "runs").iterdir()) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("why", ["killed", "its address cannot be written", "no socket"])
def test_where_it_needs_one_a_reaper_that_ends_leaves_no_temporary_folder(
    why: str, deep: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "_HANDLES", deep / "none")
    if why == "no socket":
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with pytest.raises(OSError, match="path too long"):
            _watch(deep)
        assert [path.name for path in deep.iterdir()] == ["runs"]
        return
    watch = _watch(deep)
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    if why == "killed":
        watch._listener.close()
        address_file(deep, "run").write_text(json.dumps({"address": watch._address}))
        remove_ended_runs(deep)
    else:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "no space left")

        monkeypatch.setattr(reaping, "write_synced", full)
        with pytest.raises(OSError, match="no space left"):
            watch.run()
    assert list(temporary.iterdir()) == []


def test_nothing_is_made_without_a_reaper(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper, "_MODULE", "no_such_module_at_all")
    with pytest.raises(ReaperUnavailable, match=r"exit code 1.*reaper\.log"):
        Reaper(state, "run", {}).attend(state / "x.json")
    assert "no_such_module_at_all" in (state / "reaper.log").read_text()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(background, "start", refuse)
    with pytest.raises(ReaperUnavailable, match="no more processes"):
        Reaper(state, "run", {}).attend(state / "x.json")


def _unwritable(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.setattr(reaper, "log_file", lambda _: state / "none" / "reaper.log")


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda monkeypatch, _: monkeypatch.setattr(sys, "executable", "/no/such/python"), ReaperUnavailable),
        (lambda monkeypatch, _: monkeypatch.setattr(reaper, "_MODULE", "no_such_module"), ReaperUnavailable),
        (lambda monkeypatch, _: monkeypatch.setattr(Reaper, "_start", lambda _: None), ReaperUnavailable),
        (_unwritable, OSError),
    ],
    ids=["no process", "no module", "no answer", "no folder"],
)
def test_a_reaper_that_does_not_start_leaves_the_password_in_no_variable_of_the_traceback(
    state: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch, Path], None], kind: type
) -> None:
    monkeypatch.setenv("A_TOKEN_OF_THE_USER", "tell-nobody")
    access = {"password": Secret("hush-hush")}
    spoil(monkeypatch, state)
    with pytest.raises(kind) as caught:
        Reaper(state, "run", access).attend(state / "x.json")
    text = shown(caught.value, __file__)
    assert "Reaper.attend: ledger=" in text
    assert "hush-hush" not in text
    assert "tell-nobody" not in text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BrokenPipeError()])
def test_a_reaper_that_goes_while_it_is_told_leaves_the_password_in_no_variable_of_the_traceback(
    state: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    class Gone(socket.socket):
        def sendall(self, data: bytes, _: int = 0, /) -> None:  # type: ignore[override]
            assert b"hush-hush" in data
            raise error

    # A reaper that is there, as far as can be seen.
    address_file(state, "run").parent.mkdir(parents=True)
    address_file(state, "run").write_text(json.dumps({"address": "", "token": "the token"}))
    monkeypatch.setattr(meeting, "connect", lambda *_: Gone())
    monkeypatch.setattr(Reaper, "_start", lambda _: None)
    with pytest.raises((KeyboardInterrupt, ReaperUnavailable)) as caught:
        Reaper(state, "run", {"password": Secret("hush-hush")}).attend(state / "x.json")
    text = shown(caught.value, __file__)
    assert "Reaper.attend: ledger=" in text
    assert "hush-hush" not in text
    assert "the token" not in text


def test_somebody_who_does_not_know_the_token_is_not_listened_to(state: Path, workers: Workers) -> None:
    _begin(workers, state)
    known = address_file(state, "run")
    document = json.loads(known.read_text())
    with meeting.connect(document["address"], 10) as stranger:
        stranger.sendall(
            b"guess\n" + json.dumps({"ledger": "/etc/passwd", "pid": 1, "access": {}}).encode() + b"\n"
        )
        assert stranger.recv(10) == b""
    assert known.stat().st_mode & 0o077 == 0
