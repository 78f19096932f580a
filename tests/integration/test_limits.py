"""A disk is full or read-only, handles or threads have run out: one clear error, nothing left, the next works."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest
from machine_support import disk_of, forget, media_of_machines, names_of_ours
from own_rig import OwnRig, rig_only
from small_disks import SmallDisk, rig_on_small_disk, small_disk

from pytest_vbox.exhaustion import HostExhausted, Lack
from pytest_vbox.hosts import connect_host
from pytest_vbox.images import ImageError
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Image
from pytest_vbox.settings import load
from pytest_vbox.virtualbox.enums import MachineState

in_the_rig = [
    rig_only,
    pytest.mark.xdist_group("small-disk"),
]
ROOM = "too little room is left on the disk of"


def _own(*marks: pytest.MarkDecorator) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test that uses a VirtualBox of its own."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        for one in (*in_the_rig, *marks):
            test = one(test)
        return test

    return mark


# VirtualBox's machine folder


@pytest.fixture(scope="module")
def small_rig() -> Iterator[tuple[OwnRig, SmallDisk]]:
    with rig_on_small_disk("limits", 256) as found:
        yield found


@pytest.fixture
def disk(small_rig: tuple[OwnRig, SmallDisk]) -> Iterator[SmallDisk]:
    """What the machine folder of `host` is on; it has room again after the test."""
    yield small_rig[1]
    small_rig[1].empty()


@pytest.fixture
def host(small_rig: tuple[OwnRig, SmallDisk], disk: SmallDisk) -> Iterator[VirtualBoxHost]:
    """Another VirtualBox; nothing of a machine may be left in it."""
    settings = load(environ={**os.environ, **small_rig[0].environ})
    with connect_host(settings, clean_up=False) as host:
        host.remove(host.machine(start=False))  # its base is known from here on
        before = _media(host), _machine_files(disk)
        yield host
        disk.empty()
        assert names_of_ours(host) == set()
        assert (_media(host), _machine_files(disk)) == before
        # And the next one comes.
        machine = host.machine(reset="disk", start=False)
        host.remove(machine)


def _media(host: VirtualBoxHost) -> set[str]:
    """The differencing disks, but for those of golden machines."""
    return {location for location in media_of_machines(host) if "/golden/" not in location}


def _machine_files(disk: SmallDisk) -> list[str]:
    """All but what is kept for later runs."""
    return [file for file in disk.files if not file.startswith(("pytest-vbox/golden", "pytest-vbox/bases"))]


def _check(error: HostExhausted, disk: SmallDisk, *words: str) -> None:
    assert error.lack is Lack.DISK
    assert error.folder == disk.folder
    for word in (
        ROOM,
        "VirtualBox's machine folder",
        str(disk.folder),
        "free), while",
        "\ntry: make room",
        *words,
    ):
        assert word in str(error)


@_own()
def test_a_full_machine_folder_is_told_when_a_machine_is_made_and_nothing_of_it_is_left(
    host: VirtualBoxHost, disk: SmallDisk
) -> None:
    disk.fill()
    with pytest.raises(HostExhausted) as caught:
        host.machine(reset="disk", start=False)
    _check(caught.value, disk, "making a machine", "VERR_DISK_FULL")


@_own()
def test_a_disk_that_fills_while_a_command_runs_ends_it_at_once_and_the_machine_goes_on_when_there_is_room(
    host: VirtualBoxHost, disk: SmallDisk
) -> None:
    machine = host.machine(reset="disk")
    disk.fill(1)
    started = time.monotonic()
    with pytest.raises(HostExhausted) as caught:
        machine.run("head -c 8000000 /dev/urandom > /root/big; sync; echo written", timeout=120)
    assert time.monotonic() - started < 60
    _check(caught.value, disk, f"running a command in {machine.name}", "has paused", "resume()")
    assert machine.state is MachineState.PAUSED
    disk.empty()
    machine.resume()
    assert machine.run("echo on").stdout == "on\n"
    host.remove(machine)


@_own()
def test_a_disk_that_fills_while_a_guest_boots_ends_the_boot_at_once(
    host: VirtualBoxHost, disk: SmallDisk
) -> None:
    machine = host.machine(reset="disk", start=False)
    machine.start()
    # The next boot writes until there is no room, before its SSH server is there.
    machine.run("printf '#!/bin/sh\\nhead -c 8000000 /dev/urandom > /root/big; sync\\n' > /etc/rc.early; sync")
    before = machine.run("cat /etc/inittab").stdout
    machine.run("sed -i '1i ::sysinit:/bin/sh /etc/rc.early' /etc/inittab; sync")
    assert before != machine.run("cat /etc/inittab").stdout
    machine.power_off()
    disk.fill(1)
    started = time.monotonic()
    with pytest.raises(HostExhausted) as caught:
        machine.start()
    assert time.monotonic() - started < 90
    _check(caught.value, disk, f"starting {machine.name} (phase ", "has paused")
    host.remove(machine)


@_own()
@pytest.mark.parametrize("leave", [0, 3])
def test_a_full_machine_folder_is_told_when_a_fork_is_made_and_does_not_speak_against_the_golden_machine(
    leave: int, host: VirtualBoxHost, disk: SmallDisk
) -> None:
    host.remove(host.machine())
    golden = [golden.id for golden in host.golden.all()]
    disk.fill(leave)
    with pytest.raises(HostExhausted) as caught:
        host.machine()
    _check(caught.value, disk, "making a machine")
    assert [golden.id for golden in host.golden.all()] == golden
    assert host.journal.notes == []
    disk.empty()
    machine = host.machine()
    assert machine.run("echo forked").stdout == "forked\n"
    disk.fill()
    with pytest.raises(HostExhausted) as caught:
        machine.snapshot("x")
    _check(caught.value, disk, "taking a snapshot")
    with pytest.raises(HostExhausted) as caught:
        machine.suspend()
    _check(caught.value, disk, "saving the state")
    host.remove(machine)


@_own()
def test_no_room_for_the_snapshot_of_a_golden_machine_leaves_no_half_of_it_and_the_next_one_is_made(
    host: VirtualBoxHost, disk: SmallDisk
) -> None:
    for golden in host.golden.all():
        assert host.golden.remove(golden)
    disk.fill(6)
    with pytest.raises(HostExhausted) as caught:
        host.machine()
    _check(caught.value, disk)
    assert host.golden.all() == []
    assert not [file for file in disk.files if "golden-" in file]
    disk.empty()
    machine = host.machine()
    assert machine.run("echo made").stdout == "made\n"
    assert len(host.golden.all()) == 1
    host.remove(machine)


@_own()
def test_a_read_only_machine_folder_is_told(host: VirtualBoxHost, disk: SmallDisk) -> None:
    with (
        disk.read_only(),
        pytest.raises(HostExhausted, match="cannot be written to, while making a machine") as caught,
    ):
        host.machine(reset="disk", start=False)
    assert caught.value.lack is Lack.READ_ONLY
    assert caught.value.folder == disk.folder


# Folders of ours, in runs of their own


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """A small state folder for the runs that a test starts."""
    with small_disk(tmp_path / "state", 2) as disk:
        monkeypatch.setenv("XDG_STATE_HOME", str(disk.folder))
        yield disk


def _lines(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines + result.errlines)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_state_folder_that_cannot_be_written_is_told_before_virtualbox_is_touched(
    how: str, state: SmallDisk, suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile("def test_stateless(vbox_machine): vbox_machine(start=False)")
    if how == "full":
        state.fill()
        result = suite.runpytest_subprocess("--vbox=require")
        assert f"{ROOM} pytest-vbox's state folder {state.folder}" in _lines(result)
    else:
        with state.read_only():
            result = suite.runpytest_subprocess("--vbox=require")
        assert f"pytest-vbox's state folder {state.folder}/pytest-vbox cannot be written to" in _lines(result)
    assert "XDG_STATE_HOME" in _lines(result)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not [name for name in names_of_ours(vbox_host) if "stateless" in name]
    state.empty()
    suite.runpytest_subprocess("--vbox=require").assert_outcomes(passed=1)
    assert not [name for name in names_of_ours(vbox_host) if "stateless" in name]


def test_a_state_folder_that_fills_in_the_middle_of_a_run_stops_new_machines_and_loses_none(
    state: SmallDisk, suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import pytest
        from pytest_vbox.exhaustion import HostExhausted
        from small_disks import SmallDisk

        def test_filling(vbox_machine):
            one = vbox_machine(start=False)
            SmallDisk(Path({str(state.folder)!r})).fill()
            with pytest.raises(HostExhausted, match="state folder"):
                vbox_machine(start=False)
            assert one.state == "PoweredOff"

        def test_filled(vbox_machine):
            with pytest.raises(HostExhausted, match="state folder"):
                vbox_machine(start=False)
        """
    )
    result = suite.runpytest_subprocess("--vbox=require", "-W", "error")
    result.assert_outcomes(passed=2)
    assert not [name for name in names_of_ours(vbox_host) if "_fill" in name]
    state.empty()
    suite.makepyfile("def test_filling(vbox_machine): vbox_machine(start=False)")
    suite.runpytest_subprocess("--vbox=require", "-W", "error").assert_outcomes(passed=1)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_an_artifacts_folder_that_cannot_be_written_does_not_take_the_place_of_what_failed(
    how: str, suite: pytest.Pytester, tmp_path: Path, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile("def test_shown(vbox_machine): vbox_machine(start=False); assert 1 == 2, 'on purpose'")
    with small_disk(tmp_path / "shown", 1) as disk:
        if how == "full":
            disk.fill()
            result = suite.runpytest_subprocess("--vbox=require", f"--vbox-artifacts={disk.folder}")
        else:
            with disk.read_only():
                result = suite.runpytest_subprocess("--vbox=require", f"--vbox-artifacts={disk.folder}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*on purpose*", "*VirtualBox machine pytest-test_shown-*"])
    assert not [name for name in names_of_ours(vbox_host) if "test_shown" in name]


# The cache


@pytest.fixture
def cache(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache on the small disk, which VirtualBox sees too."""
    folder = disk.folder / "cache"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    yield folder
    disk.empty()
    shutil.rmtree(folder)


@pytest.fixture
def connected(
    small_rig: tuple[OwnRig, SmallDisk],
    cache: Path,  # noqa: ARG001
    tmp_path: Path,
) -> Iterator[Callable[..., VirtualBoxHost]]:
    """Connects to the VirtualBox on the small disk, with images of the test's own."""
    with ExitStack() as stack:

        def connect(images: str) -> VirtualBoxHost:
            (tmp_path / "profiles").mkdir()
            (tmp_path / "profiles" / "x.yaml").write_text(f"images: {images}\n")
            settings = load(environ={**os.environ, **small_rig[0].environ})
            return stack.enter_context(connect_host(settings, root=tmp_path, clean_up=False))

        yield connect


@pytest.fixture
def served(tmp_path: Path, tiny: Image) -> Iterator[str]:
    """The address that the image is downloaded from."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "tiny.vdi").symlink_to(disk_of(tiny))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/tiny.vdi"
        server.shutdown()
        thread.join()


def _disks(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.suffix == ".vdi" or ".half" in path.name]


@_own()
@pytest.mark.parametrize(("way", "how"), [("download", "full"), ("import", "full"), ("import", "read-only")])
def test_a_cache_that_cannot_be_written_is_told_and_keeps_no_half_of_an_image(
    way: str,
    how: str,
    disk: SmallDisk,
    cache: Path,
    connected: Callable[[str], VirtualBoxHost],
    tmp_path: Path,
    tiny: Image,
    request: pytest.FixtureRequest,
) -> None:
    if way == "download":
        source = f"url: {request.getfixturevalue('served')}, insecure: true"
    else:
        shutil.copy(disk_of(tiny), tmp_path / "copy.vdi")
        subprocess.run(["gzip", tmp_path / "copy.vdi"], check=True)
        source = f"disk: {tmp_path / 'copy.vdi.gz'}"
    host = connected(f"{{other: {{{source}, user: root, private_key: {tiny.private_key}}}}}")
    if how == "full":
        disk.fill(66)
        with pytest.raises((HostExhausted, ImageError), match=r"has room for|there is room for") as caught:
            host.machine("other", start=False)
        assert str(cache) in str(caught.value)
    else:
        with disk.read_only(), pytest.raises(HostExhausted, match=f"cache folder {cache}"):
            host.machine("other", start=False)
    assert not [path for path in _disks(cache) if not path.name.endswith(".part")]
    assert names_of_ours(host) == set()
    disk.empty()
    host.remove(host.machine("other", start=False))
    forget(host, [entry.disk for entry in host.library.stored()])


@_own()
def test_a_cache_without_room_for_a_provisioned_disk_keeps_no_half_of_it_and_the_next_try_makes_it(
    small_rig: tuple[OwnRig, SmallDisk],
    disk: SmallDisk,
    cache: Path,
    connected: Callable[[str], VirtualBoxHost],
    tiny: Image,
) -> None:
    disk_of_its_own = Path(small_rig[0].environ["PYTEST_VBOX_PROFILES"]) / disk_of(tiny).name
    login = f"disk: {disk_of_its_own}, user: root, private_key: {tiny.private_key}"
    host = connected(f"{{prepared: {{{login}, provision: [echo one > /root/first]}}}}")
    disk.fill(5)
    with pytest.raises(HostExhausted, match=ROOM):
        host.machine("prepared", start=False)
    assert _disks(cache) == []
    assert names_of_ours(host) == set()
    disk.empty()
    host.remove(host.machine("prepared", start=False))
    forget(host, _disks(cache))


# Handles, processes and threads

_LIFE = """
import gc
import os
import resource
import psutil
import pytest

@pytest.fixture(autouse=True, scope="session")
def _few():
    # Once all is imported and connected: what is left is for the machines.
    yield

def test_before(vbox_machine):
    vbox_machine(start=False)

def test_without_handles(vbox_machine):
    vbox_machine(start=False)
    kept = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        with pytest.raises(OSError):
            while True:
                kept.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(Exception) as caught:
            vbox_machine(start=False)
    finally:
        for handle in kept:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert type(caught.value).__name__ == "HostExhausted", repr(caught.value)
    assert "no file handle is left" in str(caught.value)
    assert "ulimit -n" in str(caught.value)
    vbox_machine(start=False)

def test_after(vbox_machine):
    vbox_machine(start=False)
"""


def test_a_process_without_handles_says_so_loses_no_machine_and_goes_on_when_there_are_some(
    suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(test_handles=_LIFE)
    result = suite.runpytest_subprocess("--vbox=require", "-W", "error", timeout=120)
    result.assert_outcomes(passed=3)
    assert not [name for name in names_of_ours(vbox_host) if "test_without_handles" in name]


@pytest.mark.parametrize("limit", [24, 40, 64])
def test_a_run_with_few_handles_from_its_start_works_or_says_so_and_leaves_nothing(
    limit: int, suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(
        test_few="def test_with_few(vbox_machine):\n    [vbox_machine(start=False) for _ in range(3)]"
    )
    command = f"ulimit -n {limit}; exec {sys.executable} -m pytest --vbox=require -p no:cacheprovider"
    done = subprocess.run(
        ["sh", "-c", command], cwd=suite.path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "1 passed" in done.stdout or "no file handle is left" in done.stdout, done.stdout + done.stderr
    _wait_until_gone(vbox_host, "test_with_few")


_THREADLESS = """
import threading
import psutil
import pytest

def test_threadless(vbox_machine, monkeypatch):
    vm = vbox_machine(start=False)
    begin = threading.Thread.start
    def start(thread):
        raise RuntimeError("can't start new thread")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(Exception) as caught:
            vbox_machine()
    assert type(caught.value).__name__ == "HostExhausted", repr(caught.value)
    assert "no process or thread can be started" in str(caught.value)
    assert vm.state == "PoweredOff"

def test_threadless_end(vbox_machine, monkeypatch):
    vbox_machine(start=False)
    def start(thread):
        raise RuntimeError("can't start new thread")
    monkeypatch.setattr(threading.Thread, "start", start)
"""


def test_a_process_that_cannot_start_threads_says_so_and_takes_its_machines_away(
    suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(test_threads=_THREADLESS)
    result = suite.runpytest_subprocess("--vbox=require", "--vbox-prewarm=0", timeout=120)
    result.assert_outcomes(passed=2)
    _wait_until_gone(vbox_host, "test_threadless")


_NOBODY = 54321


@pytest.mark.skipif(
    os.geteuid() != 0 or not (shutil.which("setpriv") and shutil.which("prlimit")),
    reason="has to become another user, to whom the limit applies",
)
@pytest.mark.parametrize("limit", [2, 3, 4])  # with five, a run and its reaper can begin
def test_a_run_that_may_have_hardly_any_processes_says_so_and_leaves_none(
    limit: int, suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    suite.makepyfile(test_alone="def test_alone(vbox_machine):\n    vbox_machine(start=False)")
    # Another user, for whom the limit counts, who may read and write here all the same.
    become = [
        "--reuid",
        str(_NOBODY),
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]
    command = [sys.executable, "-m", "pytest", "--vbox=require", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        ["prlimit", f"--nproc={limit}", "setpriv", *become, *command],
        cwd=suite.path,
        env={**os.environ, **{f"XDG_{one}_HOME": str(suite.path / one) for one in ("STATE", "CACHE")}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "no process or thread can be started any more" in done.stdout, done.stdout + done.stderr
    assert "ulimit -u" in done.stdout
    assert "PytestUnhandledThread" not in done.stdout
    _wait_until_gone(vbox_host, "test_alone")
    _wait_until_none(lambda: [one for one in psutil.process_iter(["uids"]) if one.info["uids"].real == _NOBODY])


def _wait_until_gone(host: VirtualBoxHost, word: str) -> None:
    _wait_until_none(lambda: [name for name in names_of_ours(host) if word in name])


def _wait_until_none(look: Callable[[], Sequence[object]], seconds: float = 60.0) -> None:
    """Whoever cleans up after a run has a minute."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while left := look():
        assert time.monotonic() < deadline, left
        pause.wait(0.2)
