"""Running commands."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import (
    CommandError,
    CommandTimeout,
    Connection,
    ConnectionLost,
    GuestError,
    Login,
    connect,
    run,
)
from pytest_vbox.guest import output as output_module
from pytest_vbox.guest.output import MOST_KEPT, ErrorStream, Output
from pytest_vbox.guest.script import compose
from unit.kit.tracebacks import shown

from .server import PASSWORD, USER, Behaviour, GuestServer

pytestmark = pytest.mark.slow

# What the real one does, as far as it matters: it asks unless it need not, and refuses in the same ways.
SUDO = """#!/bin/sh
say() { echo "$@" >&2; }
asks=no prompt=
while [ "$1" != -- ]; do
    case $1 in
        -S) asks=yes;;
        -p) prompt=$2; shift;;
    esac
    shift
done
shift
case $SUDO_MODE in
    free) exec env AS_ROOT=1 "$@";;
    stranger) say "vagrant is not in the sudoers file."; exit 1;;
esac
[ $asks = yes ] || { say "sudo: a password is required"; exit 1; }
say "We trust you have received the usual lecture."
for _ in 1 2 3; do
    printf %s "$prompt" >&2
    read -r answer || { say "sudo: 1 incorrect password attempt"; exit 1; }
    [ "$answer" = "$SUDO_PASSWORD" ] && exec env AS_ROOT=1 "$@"
    say "Sorry, try again."
done
exit 1
"""


@pytest.fixture
def sudo(behaviour: Behaviour, tmp_path: Path) -> Callable[[str], None]:
    """Installs a sudo that behaves in the given mode: asks, free or stranger."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "sudo"
    program.write_text(SUDO)
    program.chmod(0o755)

    def install(mode: str) -> None:
        behaviour.environment.update(
            PATH=f"{folder}:/usr/local/bin:/usr/bin:/bin", SUDO_MODE=mode, SUDO_PASSWORD=PASSWORD
        )

    return install


def test_a_string_goes_to_the_shell(connection: Connection) -> None:
    done = run(connection, "printf 'a b\n'; echo oops >&2")
    assert (done.stdout, done.stderr, done.returncode) == ("a b\n", "oops\n", 0)
    assert done.args == "printf 'a b\n'; echo oops >&2"


def test_a_list_is_quoted(connection: Connection) -> None:
    done = run(connection, ["printf", "<%s>", "a b", "$HOME", "'", "", Path("x y")])
    assert done.stdout == "<a b><$HOME><'><><x y>"


def test_one_channel_and_one_request_per_command(connection: Connection, server: GuestServer) -> None:
    run(connection, "true")
    assert len(server.commands) == 1


@pytest.mark.parametrize("text", ["", "\n", "a\r\nb", "tab\t", "é ∀ \N{PILE OF POO}"])
def test_output_comes_back_as_written(connection: Connection, text: str) -> None:
    assert run(connection, ["printf", "%s", text]).stdout == text


def test_bytes_that_are_no_text_are_replaced(connection: Connection) -> None:
    assert run(connection, r"printf 'a\377b'").stdout == "a�b"


def test_failure_shows_command_status_and_streams(connection: Connection) -> None:
    with pytest.raises(CommandError) as caught:
        run(connection, "echo out; echo err >&2; exit 3")
    error = caught.value
    assert isinstance(error, subprocess.CalledProcessError)
    assert (error.returncode, error.stdout, error.stderr) == (3, "out\n", "err\n")
    for part in ("exit status 3", "echo out; echo err", "stdout ---\nout", "stderr ---\nerr"):
        assert part in str(error)


def test_failure_without_check_is_a_result(connection: Connection) -> None:
    assert run(connection, "exit 3", check=False).returncode == 3


def test_end_by_signal_is_negative(connection: Connection) -> None:
    assert run(connection, "kill -KILL $$", check=False).returncode == -9
    with pytest.raises(CommandError, match=r"signal 15 \(SIGTERM\)"):
        run(connection, "kill -TERM $$")


def test_environment_and_folder(connection: Connection, behaviour: Behaviour) -> None:
    (behaviour.root / "a b").mkdir()
    done = run(connection, 'pwd; echo "$NAME"', env={"NAME": "x 'y' $z\n"}, cwd="a b")
    assert done.stdout == f"{behaviour.root}/a b\nx 'y' $z\n\n"


def test_a_missing_folder_keeps_the_command_from_running(connection: Connection) -> None:
    with pytest.raises(CommandError, match="not-there"):
        run(connection, "touch ran", cwd="not-there")
    assert run(connection, "ls").stdout == ""


@pytest.mark.parametrize(
    ("command", "options"),
    [("", {}), ([], {}), ("true", {"env": {"A-B": "x"}}), ("true", {"env": {"A=1;rm": ""}}), ("a\0b", {})],
)
def test_nonsense_is_refused_before_it_is_sent(
    connection: Connection, server: GuestServer, command: str, options: dict[str, dict[str, str]]
) -> None:
    with pytest.raises(ValueError, match=r"empty|variable|NUL"):
        run(connection, command, env=options.get("env"))
    assert server.commands == []


@pytest.mark.parametrize("data", ["", "one\ntwo", b"\xff\x00bytes"])
def test_input_is_read_to_its_end(connection: Connection, data: str | bytes) -> None:
    expected = data.encode() if isinstance(data, str) else data
    done = run(connection, "od -An -v -tx1", input=data)
    assert bytes.fromhex(done.stdout.replace("\n", " ")) == expected


def test_without_input_a_reader_ends_at_once(connection: Connection) -> None:
    assert run(connection, "cat", timeout=5).stdout == ""


def test_big_input_and_big_output_at_once(connection: Connection) -> None:
    text = "0123456789abcdef" * 200_000  # More than every window and pipe on the way.
    assert run(connection, "cat; echo end >&2", input=text, timeout=20).stdout == text


def test_input_that_is_not_read_does_no_harm(connection: Connection) -> None:
    assert run(connection, "echo done", input=b"x" * 5_000_000, timeout=10).stdout == "done\n"


def test_both_streams_flooded(connection: Connection) -> None:
    done = run(connection, "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", timeout=20)
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)


def test_a_flood_is_bounded(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module.Output.__init__, "__defaults__", (100_000,))
    done = run(connection, "echo first; head -c 8000000 /dev/zero; echo last", timeout=20)
    assert done.stdout.startswith("first\n")
    assert done.stdout.endswith("last\n")
    assert "bytes left out here" in done.stdout
    assert len(done.stdout) < 250_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much memory is used stands in /proc")
@pytest.mark.parametrize(
    ("mib", "seconds"),
    [
        pytest.param(64, 50, id="64-MiB"),
        pytest.param(1024, 500, id="1-GiB", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
def test_a_flood_takes_no_more_memory_than_what_is_kept(mib: int, seconds: int, connection: Connection) -> None:
    before, most, done = _resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        flood = run(connection, f"echo first; head -c {mib}M /dev/zero; echo last", timeout=seconds)
    finally:
        done.set()
        watcher.join()
    head, _, tail = flood.stdout.partition("\n[pytest-vbox: ")
    left_out, _, tail = tail.partition(" bytes left out here]\n")
    assert (head[:6], tail[-6:]) == ("first\n", "\0last\n")
    assert len(head) == MOST_KEPT // 2 <= len(tail) < MOST_KEPT // 2 + 512 * 1024
    assert len(head) + int(left_out) + len(tail) == mib * 1024**2 + len("first\nlast\n")
    # What is kept as bytes, in one piece, and as text; the server is in this process, too. All of it
    # would be the flood three times.
    assert most - before < 6 * MOST_KEPT


def _resident() -> int:
    """Bytes of memory that this process uses."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_what_is_kept_of_a_stream(size: int) -> None:
    stream, whole = Output(limit=100), bytes(range(65, 91)) * 20
    for start in range(0, len(whole), size):
        stream.add(whole[start : start + size])
    head, _, rest = stream.text.partition("\n[pytest-vbox: ")
    left_out, _, tail = rest.partition(" bytes left out here]\n")
    assert whole.startswith(head.encode())
    assert whole.endswith(tail.encode())
    assert len(head) == 50 <= len(tail) < 50 + 12 + size
    assert len(head) + int(left_out) + len(tail) == len(whole)


def test_a_stream_of_exactly_the_limit_is_whole() -> None:
    stream = Output(limit=10)
    stream.add(b"0123456789")
    assert stream.text == "0123456789"


def test_what_a_command_writes_is_not_taken_for_sudos_prompt() -> None:
    script = compose("true", sudo=True, sudo_asks=True)
    asked, written = script.prompt + b"\n" + script.mark, b"so " + script.prompt
    for pieces in ([asked + written], [asked, written], [bytes([byte]) for byte in asked + written]):
        stream = ErrorStream(script)
        for piece in pieces:
            stream.add(piece)
        assert (stream.started, stream.prompts, stream.text) == (True, 1, written.decode())


def test_timeout_kills_everything_the_command_started(
    connection: Connection, behaviour: Behaviour, server: GuestServer
) -> None:
    command = (
        "echo begun; echo $$ >pids; setsid sleep 99 & echo $! >>pids; sleep 98 & echo $! >>pids; (sleep 97; true)"
    )
    with pytest.raises(CommandTimeout) as caught:
        run(connection, command, timeout=0.3)
    error = caught.value
    assert isinstance(error, subprocess.TimeoutExpired)
    assert (error.output, error.timeout) == ("begun\n", 0.3)
    assert "processes in the guest were killed" in str(error)
    assert "begun" in str(error)
    for pid in (behaviour.root / "pids").read_text().split():
        assert _is_gone(int(pid))
    assert server.signals == []  # dropbear hangs up on a signal for a command that has ended.
    assert connection.alive
    assert run(connection, "echo on").stdout == "on\n"


def test_timeout_of_a_command_that_replaced_its_shell(
    connection: Connection, server: GuestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("pytest_vbox.guest.run"), "_LAST_WORDS", 0.1)
    with pytest.raises(CommandTimeout):
        run(connection, "exec sleep 99", timeout=0.1)
    assert server.signals == [b"KILL"]


def _is_gone(pid: int) -> bool:
    """Whether a process ends soon: a signal is delivered when a busy kernel comes to it."""
    deadline = Deadline(20)
    while not deadline.expired:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        threading.Event().wait(0.01)
    return False


def test_timeout_in_a_flood(connection: Connection) -> None:
    with pytest.raises(CommandTimeout, match="yyy"):
        run(connection, "yes yyy", timeout=0.1)


def test_timeout_while_the_input_is_not_read(connection: Connection) -> None:
    with pytest.raises(CommandTimeout):
        run(connection, "sleep 99", input=b"x" * 5_000_000, timeout=0.1)


def test_timeout_when_the_server_does_not_answer(
    connection: Connection, behaviour: Behaviour, server: GuestServer
) -> None:
    behaviour.exec_after = server.stopped
    with pytest.raises(CommandTimeout, match="did not answer"):
        run(connection, "true", timeout=0.1)


def test_timeout_of_a_guest_that_does_not_answer_any_more(
    connection: Connection, behaviour: Behaviour, server: GuestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("pytest_vbox.guest.run")
    monkeypatch.setattr(module, "_KILL_TIME", 0.1)
    monkeypatch.setattr(module, "_LAST_WORDS", 0.1)

    def hang() -> None:
        while not (behaviour.root / "begun").exists() and not server.stopped.is_set():
            server.stopped.wait(0.01)
        behaviour.exec_after = server.stopped

    server.spawn(hang)
    with pytest.raises(CommandTimeout, match="could not be killed"):
        run(connection, "touch begun; sleep 99", timeout=0.3)


def test_a_silent_command_is_asked_after(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("pytest_vbox.guest.execution")
    monkeypatch.setattr(module, "_KEEPALIVE", 0.02)
    monkeypatch.setattr(module, "_LOOK", 0.01)
    knocks: list[int] = []
    monkeypatch.setattr(connection.transport, "ask", lambda: knocks.append(1))
    run(connection, "sleep 0.1")
    assert knocks
    # One that ends before it counts as silent is not; with 0.02 s a busy computer would make `true` silent too.
    monkeypatch.setattr(module, "_KEEPALIVE", 60)
    knocks.clear()
    run(connection, "true")
    assert not knocks


def test_a_process_left_behind_is_not_waited_for(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package's attribute of that name is the function.
    module = importlib.import_module("pytest_vbox.guest.execution")
    monkeypatch.setattr(module, "_LINGER", 0.1)
    monkeypatch.setattr(module, "_LOOK", 0.05)
    begun = time.monotonic()
    assert run(connection, "sleep 60 & echo started", timeout=30).stdout == "started\n"
    assert time.monotonic() - begun < 10


def test_refused_command(connection: Connection, behaviour: Behaviour) -> None:
    behaviour.exec_refused = True
    with pytest.raises(GuestError, match=r"refused to run a command$"):
        run(connection, "true")


def test_refused_session(connection: Connection, behaviour: Behaviour) -> None:
    behaviour.sessions_refused = True
    with pytest.raises(GuestError, match="refused a session"):
        run(connection, "true")


def test_a_guest_that_dies_is_noticed_at_once(connection: Connection, server: GuestServer) -> None:
    def die_after_first_output() -> None:
        deadline = Deadline(10)
        while not (server.behaviour.root / "begun").exists() and not deadline.expired:
            server.stopped.wait(0.01)
        server.hang_up()

    server.spawn(die_after_first_output)
    begun = time.monotonic()
    with pytest.raises(ConnectionLost) as caught:
        run(connection, "echo so far; touch begun; sleep 99")
    assert time.monotonic() - begun < 3
    assert caught.value.stdout in ("so far\n", "")
    assert not connection.alive
    with pytest.raises(ConnectionLost):
        run(connection, "true")


def test_after_close(connection: Connection) -> None:
    connection.close()
    connection.close()
    assert not connection.alive
    with pytest.raises(ConnectionLost, match="closed"):
        run(connection, "true")


def test_two_threads_on_one_connection(connection: Connection) -> None:
    results: dict[int, str] = {}

    def work(number: int) -> None:
        results[number] = run(connection, ["echo", str(number)]).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(5)}


def test_a_shell_that_runs_nothing(connection: Connection, behaviour: Behaviour, tmp_path: Path) -> None:
    shell = tmp_path / "nologin"
    shell.write_text("#!/bin/sh\necho This account is not available.; exit 1\n")
    shell.chmod(0o755)
    behaviour.shell = str(shell)
    with pytest.raises(CommandError, match="This account is not available"):
        run(connection, "true")


@pytest.mark.parametrize("as_root", [False, True])
def test_a_long_command_is_sent_as_input(
    connection: Connection, server: GuestServer, sudo: Callable[[str], None], as_root: bool
) -> None:
    sudo("asks")
    words = ["it's", *map(str, range(3000)), "line\nbreak"]
    done = run(connection, ["printf", "%s;", *words], env={"A": "b"}, sudo=as_root)
    assert done.stdout == "".join(f"{word};" for word in words)
    done = run(connection, f"echo '{'x' * 9000}' >/dev/null; cat; exit 3", input="in", check=False, sudo=as_root)
    assert (done.stdout, done.returncode) == ("in", 3)
    assert max(map(len, server.commands)) < 1000


@pytest.mark.parametrize("mode", ["asks", "free"])
@pytest.mark.parametrize("data", [None, "line\n"])
def test_sudo_never_gives_the_password_to_the_command(
    connection: Connection, server: GuestServer, sudo: Callable[[str], None], mode: str, data: str | None
) -> None:
    sudo(mode)
    done = run(connection, 'echo "$AS_ROOT $X"; cat; echo err >&2', sudo=True, input=data, env={"X": "y"})
    assert done.stdout == "1 y\n" + (data or "")
    assert done.stderr == "err\n"
    assert PASSWORD not in server.commands[0]


def test_sudo_with_a_list(connection: Connection, sudo: Callable[[str], None]) -> None:
    sudo("asks")
    assert run(connection, ["printf", "%s", "a 'b'"], sudo=True).stdout == "a 'b'"


def test_sudo_password_of_its_own(server: GuestServer, behaviour: Behaviour, sudo: Callable[[str], None]) -> None:
    sudo("asks")
    behaviour.environment["SUDO_PASSWORD"] = "other"
    login = Login(USER, password=PASSWORD, sudo_password="other")
    with connect(server.address, login, Deadline(10)) as connection:
        assert run(connection, "echo $AS_ROOT", sudo=True).stdout == "1\n"


def test_sudo_failure_of_the_command_itself_has_no_hint(
    connection: Connection, sudo: Callable[[str], None]
) -> None:
    sudo("asks")
    with pytest.raises(CommandError) as caught:
        run(connection, "exit 4", sudo=True)
    assert (caught.value.returncode, caught.value.hint) == (4, "")


def test_sudo_with_a_wrong_password(
    connection: Connection, behaviour: Behaviour, sudo: Callable[[str], None]
) -> None:
    sudo("asks")
    behaviour.environment["SUDO_PASSWORD"] = "another"
    with pytest.raises(CommandError, match="did not accept vagrant's password") as caught:
        run(connection, "true", sudo=True, timeout=10)
    assert PASSWORD not in str(caught.value)
    assert "pytest-vbox-" not in str(caught.value)


@pytest.mark.parametrize("how", ["closed", "wrong", "no sudo", "unsent", "interrupted", "timeout"])
def test_sudo_that_fails_has_the_password_in_no_variable_of_its_traceback(
    connection: Connection,
    behaviour: Behaviour,
    sudo: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
) -> None:
    sudo("asks")
    if how == "closed":
        connection.close()
    elif how == "wrong":
        behaviour.environment["SUDO_PASSWORD"] = "another"
    elif how == "no sudo":
        behaviour.environment["PATH"] = str(tmp_path)
    elif how in {"unsent", "interrupted"}:
        send = paramiko.Transport._send_user_message  # type: ignore[attr-defined]

        def fail(transport: paramiko.Transport, message: paramiko.Message) -> None:
            send(transport, message)
            if PASSWORD.encode() in message.asbytes():
                raise paramiko.SSHException if how == "unsent" else KeyboardInterrupt

        monkeypatch.setattr(paramiko.Transport, "_send_user_message", fail)
    with pytest.raises((GuestError, CommandTimeout, paramiko.SSHException, KeyboardInterrupt)) as caught:
        run(
            connection,
            "sleep 9" if how == "timeout" else "true",
            sudo=True,
            timeout=0.3 if how == "timeout" else 9,
        )
    text = shown(caught.value, __file__)
    assert "run: connection=" in text
    assert PASSWORD not in text


def test_sudo_for_a_stranger(connection: Connection, sudo: Callable[[str], None]) -> None:
    sudo("stranger")
    with pytest.raises(CommandError, match="may not use sudo"):
        run(connection, "true", sudo=True)


def test_no_sudo(connection: Connection, behaviour: Behaviour, tmp_path: Path) -> None:
    behaviour.environment["PATH"] = str(tmp_path)
    with pytest.raises(CommandError, match="sudo can't be run"):
        run(connection, "true", sudo=True)


def test_sudo_without_any_password(
    server: GuestServer, behaviour: Behaviour, sudo: Callable[[str], None], key_file: Path
) -> None:
    sudo("asks")
    with connect(server.address, Login(USER, private_key=key_file), Deadline(10)) as connection:
        with pytest.raises(CommandError, match="the login has none"):
            run(connection, "true", sudo=True)
        behaviour.environment["SUDO_MODE"] = "free"
        assert run(connection, "echo $AS_ROOT; cat", sudo=True, input="in").stdout == "1\nin"


def test_sudo_as_root_does_nothing(server: GuestServer, sudo: Callable[[str], None], key_file: Path) -> None:
    sudo("stranger")
    with connect(server.address, Login("root", private_key=key_file), Deadline(10)) as connection:
        assert run(connection, "echo fine", sudo=True).stdout == "fine\n"


def test_timeout_under_sudo(connection: Connection, behaviour: Behaviour, sudo: Callable[[str], None]) -> None:
    sudo("asks")
    with pytest.raises(CommandTimeout, match="were killed"):
        run(connection, "echo $$ >pids; sleep 99 & echo $! >>pids; wait", sudo=True, timeout=0.3)
    for pid in (behaviour.root / "pids").read_text().split():
        assert _is_gone(int(pid))


@pytest.mark.parametrize("moment", ["while it starts", "while it runs"])
@pytest.mark.parametrize(("command", "comes"), [("sleep 0.7; echo done", "done"), ("sleep 77", "timed out")])
def test_what_ended_while_this_process_was_stopped_for_longer_than_the_timeout_did_not_take_too_long(
    command: str, comes: str, moment: str, server: GuestServer, behaviour: Behaviour
) -> None:
    stopped = threading.Event()
    if moment == "while it starts":
        behaviour.exec_after = stopped
    begun = behaviour.root / "begun"
    script = (
        "from pytest_vbox.deadline import Deadline\n"
        "from pytest_vbox.guest import CommandTimeout, Login, connect, run\n"
        f"with connect({server.address!r}, Login({USER!r}, password={PASSWORD!r}), Deadline(20)) as connection:\n"
        "    try:\n"
        f"        print(run(connection, {f'touch begun; {command}'!r}, timeout=1).stdout)\n"
        "    except CommandTimeout:\n"
        "        print('timed out')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        deadline = Deadline(20)
        while not (begun.exists() if moment == "while it runs" else server.commands):
            assert not deadline.expired
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        stopped.set()
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=20)[0].strip() == comes
