"""Whole pytest runs as a user starts them, each in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import psutil
import pytest
from machine_support import names_of_ours
from own_rig import own_rig, rig_only

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP
from pytest_vbox.machines.removal import remove
from pytest_vbox.service.endpoint import stop
from pytest_vbox.virtualbox import Credentials, connect
from pytest_vbox.virtualbox.enums import VBoxEventType
from pytest_vbox.virtualbox.errors import LogonRefused

PASSWORD = "PYTEST_VBOX_PASSWORD_FILE"


def test_two_workers_get_a_machine_each_and_leave_nothing(
    suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_twins(vbox, number):
            vbox.run(f"echo {number} > /root/number; sync")
            assert vbox.run("cat /root/number").stdout == f"{number}\\n"
        """
    )
    result = suite.runpytest_subprocess("--vbox=require", "-n2", "-v", "-W", "error")
    result.assert_outcomes(passed=2)
    assert not [name for name in names_of_ours(vbox_host) if "test_twins" in name]


def test_a_failed_test_saves_what_its_machine_shows_and_the_marker_describes_the_machine(
    suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.vbox(hardware={"memory": 300}, name="odd")
        def test_marked(vbox):
            assert "pytest-odd-" in vbox.name
            assert vbox.api.memory_size == 300
            vbox.run("echo the reason >&2; exit 9")
        """
    )
    result = suite.runpytest_subprocess("--vbox=require", "--vbox-artifacts=shown")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*CommandError*exit status 9*",
            "*the reason*",
            "*VirtualBox machine pytest-odd-*",
            "machine state: Running",
        ]
    )
    saved = sorted(path.name for path in (suite.path / "shown").rglob("*.*"))
    assert saved == ["VBox.log", "screenshot.png", "serial.log"]
    assert not [name for name in names_of_ours(vbox_host) if "-odd-" in name]


def test_a_machine_of_a_failed_test_can_be_kept_and_the_summary_says_how_to_enter_and_remove_it(
    suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(
        """
        def test_kept(vbox_machine):
            vbox_machine(start=False)
            assert False, "on purpose"

        def test_gone(vbox_machine):
            vbox_machine(start=False)
        """
    )
    result = suite.runpytest_subprocess("--vbox=require", "--vbox-keep=failed", "-n1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*machines that were kept*",
            "kept machine pytest-test_kept-*: pytest-vbox machines ssh pytest-*, or: ssh -p *unregistervm*",
        ]
    )
    kept = [name for name in names_of_ours(vbox_host) if "test_kept" in name]
    assert len(kept) == 1
    assert not [name for name in names_of_ours(vbox_host) if "test_gone" in name]
    remove(vbox_host.session, vbox_host.api.find_machine(kept[0]).id, kept[0], local=True)


@contextmanager
def run_until(
    suite: pytest.Pytester, host: VirtualBoxHost, condition: Callable[[], bool], *options: str
) -> Iterator[subprocess.Popen[str]]:
    """Start pytest, wait until something holds in VirtualBox, and have nothing left of the process afterwards."""
    output = suite.path / "output.txt"
    with (
        output.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "--vbox=require", *options],
            cwd=suite.path,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Whoever was started in the background of a shell ignores SIGINT, and its children would too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as run,
    ):
        try:
            host.api.event_source.wait_until(
                condition,
                [VBoxEventType.ON_MACHINE_STATE_CHANGED],
                Deadline(60),
                lambda: f"it did not come to that:\n{output.read_text()}",
            )
            yield run
        finally:
            run.kill()


def never_ready(suite: pytest.Pytester, name: str) -> None:
    """Describes an image of that name whose machines boot until somebody ends it: no SSH server ever answers."""
    folder = suite.mkdir("profiles")
    (folder / "deaf.yaml").write_text(f"images: {{{name}: {{extends: tiny, ssh_port: 9}}}}")


@pytest.mark.parametrize("where", ["of-its-own", "in-the-background"])
def test_ctrl_c_in_the_middle_of_a_boot_leaves_nothing(
    where: str, suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    image = f"interrupted-{where}"
    never_ready(suite, image)
    if where == "of-its-own":
        suite.makepyfile(f"def test_it(vbox_machine): vbox_machine(image={image!r})")
    else:
        # What a marker says is made ready before it is asked for.
        suite.makepyfile(f"import pytest\n@pytest.mark.vbox(image={image!r})\ndef test_it(vbox): pass")
    with run_until(suite, vbox_host, lambda: _is_running(vbox_host, image)) as run:
        run.send_signal(signal.SIGINT)
        assert run.wait(60) == pytest.ExitCode.INTERRUPTED, (suite.path / "output.txt").read_text()
    assert not [name for name in names_of_ours(vbox_host) if image in name]


@rig_only
def test_workers_have_one_reaper_which_ctrl_c_in_their_terminal_does_not_reach_and_nothing_is_left(
    suite: pytest.Pytester, undisturbed: VirtualBoxHost
) -> None:
    never_ready(suite, "interrupted")
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(vbox_machine, number): vbox_machine(image="interrupted", reset="disk")
        """
    )

    def both_run() -> bool:
        machines = undisturbed.api.machines_by_groups([GROUP])
        return sum("test_it" in machine.name and machine.state == "Running" for machine in machines) == 2

    with run_until(suite, undisturbed, both_run, "-n2", "--vbox-max-machines=2") as started:
        reapers = _reapers(suite)
        assert len(reapers) == 1
        assert os.getsid(reapers[0].pid) != os.getsid(started.pid)
        # As the terminal does: to all processes of the group.
        os.killpg(started.pid, signal.SIGINT)
        assert started.wait(60) == pytest.ExitCode.INTERRUPTED, (suite.path / "output.txt").read_text()
    psutil.wait_procs(reapers, 60)
    assert _reapers(suite) == []
    assert not [name for name in names_of_ours(undisturbed) if "test_it" in name]
    runs = (suite.path / "state" / "pytest-vbox" / "runs").iterdir()
    assert [run.name for run in runs] == [undisturbed.run]


def _reapers(suite: pytest.Pytester) -> list[psutil.Process]:
    """The reapers of the runs that have their state in the suite's folder."""
    state = str(suite.path / "state" / "pytest-vbox")
    processes = psutil.process_iter(["cmdline", "status"])
    return [
        process
        for process in processes
        if {"pytest_vbox.reaper", state} <= set(process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@rig_only
def test_a_kept_machine_is_entered_and_removed_as_the_summary_says(
    suite: pytest.Pytester, undisturbed: VirtualBoxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(os.environ["PYTEST_VBOX_RIG"]) / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    suite.makepyfile(
        """
        def test_kept(vbox_machine):
            vbox_machine().run("echo kept > /tmp/file")
            assert False, "on purpose"
        """
    )
    result = suite.runpytest_subprocess("--vbox=require", "--vbox-keep=failed")
    result.assert_outcomes(failed=1)
    (line,) = [line for line in result.outlines if line.startswith("kept machine ")]
    found = re.fullmatch(r"kept machine (\S+): (.+), or: (ssh .+); remove it: (.+) \(or: (.+)\)", line)
    assert found is not None, line
    name, enter, by_hand, remove_by_hand, remove = found.groups()
    # It is nobody's to clean up.
    assert _shell("pytest-vbox gc").returncode == 0
    assert name in names_of_ours(undisturbed)
    ways = [enter, by_hand] if shutil.which("ssh") else [enter]
    for way in ways:
        done = _shell(f"{way} cat /tmp/file")
        assert done.stdout == "kept\n", done.stderr
    done = _shell(remove_by_hand)
    assert done.returncode == 0, done.stderr
    assert name not in names_of_ours(undisturbed)
    assert name not in _shell("pytest-vbox machines list").stdout
    assert _shell(remove).returncode != 0  # there is none any more
    assert undisturbed.kept() == []


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run what a user would paste into a terminal."""
    return subprocess.run(
        ["/bin/sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def undisturbed(suite: pytest.Pytester) -> Iterator[VirtualBoxHost]:
    """A VirtualBox and a state folder that only the suite uses: other runs clean up too, and tell of it."""
    # The rig's end looks for it in the state folder that it was started with.
    with own_rig("runs") as rig, pytest.MonkeyPatch.context() as patch:
        for variable, value in {**rig.environ, "XDG_STATE_HOME": str(suite.path / "state")}.items():
            patch.setenv(variable, value)
        with rig.connect() as host:
            yield host


@rig_only
@pytest.mark.parametrize("killed", ["the run", "a worker"])
def test_what_a_killed_process_left_is_removed_by_its_reaper_and_told_once(
    killed: str, suite: pytest.Pytester, undisturbed: VirtualBoxHost
) -> None:
    image = killed.replace(" ", "-")
    never_ready(suite, image)
    suite.makepyfile(f"def test_killed(vbox_machine): vbox_machine(image={image!r})")
    options = ["-n1", "--max-worker-restart=0"] if killed == "a worker" else []
    with run_until(suite, undisturbed, lambda: _is_running(undisturbed, image), *options) as run:
        (left,) = [name for name in names_of_ours(undisturbed) if image in name][:1]
        folder = Path(undisturbed.api.find_machine(left).settings_file_path).parent
        victims = psutil.Process(run.pid).children() if killed == "a worker" else [psutil.Process(run.pid)]
        for victim in victims:
            victim.kill()
        run.wait(60)
    deadline, pause = Deadline(60), threading.Event()
    while [name for name in names_of_ours(undisturbed) if image in name] or folder.exists():
        assert not deadline.expired
        pause.wait(0.1)
    suite.makepyfile("def test_next(vbox_host): pass")
    result = suite.runpytest_subprocess("--vbox=require")
    result.assert_outcomes(passed=1)
    # By the next run, or at the end of this one, if only a worker of it was killed and the reaper was quick.
    told = [*(suite.path / "output.txt").read_text().splitlines(), *result.outlines]
    assert sum(f"died: removed the machine {left}" in line for line in told) == 1, told
    assert any("processes that died" in line for line in told), told


def test_the_live_machines_of_another_run_are_left_alone(
    suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    machine = vbox_host.machine(start=False, name="alive")
    suite.makepyfile("def test_next(vbox_host): pass")
    suite.runpytest_subprocess("--vbox=require").assert_outcomes(passed=1)
    assert machine.name in names_of_ours(vbox_host)
    vbox_host.remove(machine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vbox-image=tyny"], "*no image*tyny*did you mean*tiny*"),
        (["--vbox-profile=smal"], "*smal*did you mean*small*"),
        (
            ["--vbox-url=http://127.0.0.1:9"],
            "*service at http://127.0.0.1:9/ does not answer: connection refused*",
        ),
        (["--vbox-user=nobody"], "*user or password not accepted*"),
        (["--vbox-password-file=/no/such/file"], "*--vbox-password-file*cannot read /no/such/file*"),
        (["--vbox-profiles=/no/such/folder"], "*/no/such/folder*"),
        (
            ["--vbox-boot-timeout=soon"],
            "*--vbox-boot-timeout: 'soon' cannot be used: expected a number of seconds*",
        ),
    ],
    ids=["image", "profile", "url", "user", "password", "folder", "timeout"],
)
def test_a_wrong_setting_gets_a_message_that_names_it(
    options: list[str], message: str, suite: pytest.Pytester
) -> None:
    suite.makepyfile("def test_it(vbox): pass")
    result = suite.runpytest_subprocess("--vbox=require", *options)
    assert result.ret != 0
    assert "passed" not in result.stdout.str()
    lines = result.stdout.lines + result.stderr.lines
    assert any(fnmatch(line, message) for line in lines), "\n".join(lines)


def test_a_service_that_is_not_there_is_a_skip_with_the_reason_unless_machines_are_required(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile("def test_it(vbox): pass")
    result = suite.runpytest_subprocess("--vbox=auto", "--vbox-url=http://127.0.0.1:9", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*VirtualBox cannot be used*does not answer: connection refused*"])


@pytest.mark.skipif("VBOX_RIG_BIN" not in os.environ, reason="needs the rig's VBoxManage and vboxwebsrv")
def test_without_a_url_a_private_service_is_started_with_a_password_and_shared(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    for name in ("PYTEST_VBOX_URL", "PYTEST_VBOX_USER", PASSWORD):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", os.environ["VBOX_RIG_BIN"], prepend=os.pathsep)
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(vbox_machine, vbox_host, number):
            vbox_machine(start=False)
            with open("urls", "a") as file:
                file.write(vbox_host.url + "\\\\n")
        """
    )
    started = time.monotonic()
    suite.runpytest_subprocess("--vbox=require", "-n2").assert_outcomes(passed=4)
    suite.runpytest_subprocess("--vbox=require").assert_outcomes(passed=4)
    assert time.monotonic() - started < 120
    urls = set((suite.path / "urls").read_text().split())
    assert len(urls) == 1
    log_on_without_password(urls.pop())
    assert stop(state / "pytest-vbox")


def log_on_without_password(url: str) -> None:
    """See that the service refuses those who do not have its password."""
    for credentials in (Credentials(), Credentials("pytest-vbox", "guess")):
        with pytest.raises(LogonRefused):
            connect(url, credentials)


def _is_running(host: VirtualBoxHost, name: str) -> bool:
    machines = host.api.machines_by_groups([GROUP, GOLDEN_GROUP])
    return any(name in machine.name and machine.state == "Running" for machine in machines)
