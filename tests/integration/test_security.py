"""Nobody but the user reaches the service or the guests, and no secret is shown; against real VirtualBox."""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from second_account import ADDRESS, SecondUser
from tls import Authority, WebServices

from pytest_vbox.deadline import Deadline
from pytest_vbox.hosts import connect_host
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.plan import OWNER_KEY
from pytest_vbox.machines.removal import remove
from pytest_vbox.service.endpoint import stop
from pytest_vbox.service.keeper import user_of
from pytest_vbox.settings import Settings, SettingsError
from pytest_vbox.virtualbox.enums import LockType
from pytest_vbox.virtualbox.errors import ServiceUnavailable

#: Options with which pytest shows as much as it can.
ALL_THERE_IS = ("-n1", "-vv", "--showlocals", "--full-trace", "--log-level=DEBUG")

rig_only = pytest.mark.skipif("VBOX_RIG_BIN" not in os.environ, reason="needs the rig's VBoxManage and vboxwebsrv")


# Another user of this computer


@pytest.fixture
def private_service(monkeypatch: pytest.MonkeyPatch, open_folder: Path) -> Iterator[Path]:
    """No service is named, so that a private one is started; its state is where everybody may look. The folder."""
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(open_folder / name.lower()))
    for name in ("PYTEST_VBOX_URL", "PYTEST_VBOX_USER", "PYTEST_VBOX_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", os.environ["VBOX_RIG_BIN"], prepend=os.pathsep)
    yield open_folder
    stop(open_folder / "state" / "pytest-vbox")


@rig_only
def test_another_user_can_neither_log_on_nor_read_keys_ledger_or_cache_even_with_a_umask_of_0(
    suite: pytest.Pytester, private_service: Path, second_user: SecondUser
) -> None:
    suite.makepyfile(
        f"""
        import os, subprocess
        from pathlib import Path

        import pytest

        from pytest_vbox import places
        from pytest_vbox.service.keeper import user_of


        @pytest.fixture(scope="session", autouse=True)
        def permissive():
            os.umask(0)


        def test_it(vbox_machine, vbox_host):
            vbox_machine(start=False)
            key = vbox_host.context.run_key.path
            found = [path for path in Path({str(private_service)!r}).rglob("*")]
            names = {{path.name for path in found}}
            assert {{"service.json", "service.log", "id_ed25519"}} <= names
            assert [path for path in found if "runs" in path.parts and path.suffix == ".json"], found
            assert [path for path in found if "cache" in path.parts], found
            port = vbox_host.url.rpartition(":")[2].strip("/")
            done = subprocess.run(
                ["runuser", "-u", {second_user.name!r}, "--",
                 "/usr/bin/python3", {str(second_user.script)!r}, port, user_of(places.state_folder())],
                input="\\n".join(map(str, found)), capture_output=True, text=True, cwd="/", timeout=60,
            )
            assert done.returncode == 0, done.stderr
            Path("seen").write_text(done.stdout)
        """
    )
    suite.runpytest_subprocess("--vbox=require").assert_outcomes(passed=1)
    lines = (suite.path / "seen").read_text().splitlines()
    assert [line for line in lines if line.startswith("logon")] == ["logon refused"] * 4
    # What everybody may read is found out as such, and it is the only thing.
    assert [line for line in lines if line.startswith("could")] == [f"could get at {second_user.script}"]
    assert f"uid {second_user.number}" in lines


@rig_only
def test_a_service_that_another_user_puts_on_the_usual_port_is_not_used(
    second_user: SecondUser, private_service: Path
) -> None:
    from pytest_vbox import service
    from pytest_vbox.service.endpoint import answers

    with second_user.fake_service() as port:
        assert answers("127.0.0.1", port), "the trap has to be a good one"
        state = private_service / "state" / "pytest-vbox"
        state.mkdir(parents=True, mode=0o700)
        endpoint = service.find(None, state=state, usual_port=port)
        assert endpoint.url != f"http://127.0.0.1:{port}"
        assert endpoint.user == user_of(state)
        endpoint.release()


@rig_only
def test_the_password_is_in_no_process_log_report_or_traceback(
    suite: pytest.Pytester, private_service: Path
) -> None:
    suite.makepyfile(
        """
        import os
        from pathlib import Path

        import pytest
        from pytest_vbox import places
        from pytest_vbox.service.record import Record
        from pytest_vbox.virtualbox import Credentials, connect


        def test_processes(vbox_host):
            password = Record.read(places.state_folder()).password.encode()
            looked = 0
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        content = (process / name).read_bytes()
                    except OSError:
                        continue  # it has ended
                    looked += 1
                    assert password not in content, process
            assert looked > 10
            assert any(b"vboxwebsrv" in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))


        def test_refused(vbox_host):
            record = Record.read(places.state_folder())
            connect(record.url, Credentials("somebody-else", record.password))


        def test_not_there(vbox_host):
            record = Record.read(places.state_folder())
            connect("http://127.0.0.1:9", Credentials(record.user, record.password))


        def test_everything_in_variables(vbox_machine, vbox_host, vbox_settings):
            record = Record.read(places.state_folder())
            machine = vbox_machine(start=False)
            session, api, context = vbox_host.session, vbox_host.api, vbox_host.context
            credentials = session._credentials
            raise RuntimeError("on purpose")
        """
    )
    result = suite.runpytest_subprocess(
        "--vbox=require",
        *ALL_THERE_IS,
        "-rA",
        "--vbox-report=report.json",
        "--junit-xml=junit.xml",
        "-o",
        "junit_logging=all",
    )
    result.assert_outcomes(passed=1, failed=3)
    password = _password(private_service)
    shown = result.stdout.str() + result.stderr.str()
    for wanted in ("LogonRefused", "on purpose", "DEBUG    urllib3", "DEBUG    pytest_vbox", "Credentials(user="):
        assert wanted in shown, wanted
    assert password not in shown
    files = [
        suite.path / "report.json",
        suite.path / "junit.xml",
        private_service / "state/pytest-vbox/service.log",
    ]
    for path in files:
        assert password not in path.read_text(), path
    having = [
        path for path in private_service.rglob("*") if path.is_file() and password.encode() in path.read_bytes()
    ]
    assert [path.name for path in having] == ["service.json"]
    assert stat.S_IMODE(having[0].stat().st_mode) == 0o600


def test_a_password_from_the_environment_is_shown_nowhere_when_it_is_refused(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "hush-" * 4 + "not-the-one"
    monkeypatch.setenv("PYTEST_VBOX_PASSWORD", password)
    suite.makepyfile(
        """
        import pytest_vbox

        def test_fixture(vbox): pass
        def test_function(): pytest_vbox.connect()
        """
    )
    result = suite.runpytest_subprocess(
        "--vbox=require",
        *ALL_THERE_IS,
        "--junit-xml=junit.xml",
    )
    result.assert_outcomes(failed=1, errors=1)
    shown = result.stdout.str() + result.stderr.str() + (suite.path / "junit.xml").read_text()
    assert "user or password not accepted" in shown
    assert password not in shown


def _password(folder: Path) -> str:
    from pytest_vbox.service.record import Record

    record = Record.read(folder / "state" / "pytest-vbox")
    assert record is not None
    return record.password


# Another computer: an address of this one that is not loopback


def _settings(url: str, ca: Path | None, *, insecure: bool = False) -> Settings:
    return Settings(
        url=url,
        ca=ca,
        insecure=insecure,
        user=os.environ.get("PYTEST_VBOX_USER", ""),
        password_file=Path(os.environ["PYTEST_VBOX_PASSWORD_FILE"]),
    )


@rig_only
@pytest.mark.skipif(ADDRESS is None, reason="this computer has no other address than loopback")
def test_https_with_the_right_authority_is_let_pass_and_others_are_told_what_to_do(
    web_services: WebServices, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    url = web_services.start(authority.certificate(str(ADDRESS)))
    with connect_host(_settings(url, authority.file), clean_up=False) as host:
        assert host.version
        assert not host.local
    for ca in (stranger.file, None):
        with pytest.raises(ServiceUnavailable, match=r"certificate is not accepted \(.*with --vbox-ca"):
            connect_host(_settings(url, ca))
    with pytest.raises(SettingsError, match="without https everybody on the way can read the password"):
        connect_host(_settings(url.replace("https:", "http:"), None))
    with pytest.raises(ServiceUnavailable, match="does it speak https"):
        connect_host(_settings(url.replace("https:", "http:"), None, insecure=True))


@rig_only
@pytest.mark.skipif(ADDRESS is None, reason="this computer has no other address than loopback")
@pytest.mark.parametrize(
    ("name", "days", "words"),
    [
        (str(ADDRESS), -1, r"expired\); give the service a new one"),
        ("192.0.2.200", 30, r"it has to be made for .*, or --vbox-url has to have the name"),
        ("vbox.example.org", 30, r"it has to be made for .*, or --vbox-url has to have the name"),
    ],
    ids=["expired", "another-address", "another-name"],
)
def test_a_certificate_that_is_expired_or_another_hosts_is_refused(
    name: str, days: int, words: str, web_services: WebServices, authority: Authority
) -> None:
    url = web_services.start(authority.certificate(name, days=days))
    with pytest.raises(ServiceUnavailable, match=words):
        connect_host(_settings(url, authority.file))


def test_https_to_a_service_without_it_is_told(vbox_host: VirtualBoxHost) -> None:
    url = vbox_host.url.replace("http://", "https://")
    with pytest.raises(ServiceUnavailable, match="does not speak https; start it with --ssl"):
        connect_host(_settings(url, None))


@rig_only
@pytest.mark.skipif(ADDRESS is None, reason="this computer has no other address than loopback")
def test_a_service_that_lets_anybody_in_is_refused_unless_the_user_says_so(
    web_services: WebServices, authority: Authority
) -> None:
    url = web_services.start(authority.certificate(str(ADDRESS)), authentication="null")
    with pytest.raises(SettingsError, match=r"lets anybody in, whatever the password.*--vbox-insecure"):
        connect_host(_settings(url, authority.file))
    with connect_host(_settings(url, authority.file, insecure=True), clean_up=False) as host:
        assert host.version


# Guests


@pytest.mark.skipif(ADDRESS is None, reason="this computer has no other address than loopback")
def test_forwarded_ports_answer_on_loopback_and_on_no_other_address(vbox_host: VirtualBoxHost) -> None:
    machine = vbox_host.machine(name="loopback-only")
    try:
        ports = [machine.address[1], machine.forward(8080)[1], machine.forward(9090)[1]]
        for port in ports:
            with socket.create_connection(("127.0.0.1", port), timeout=10):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((str(ADDRESS), port), timeout=10)
    finally:
        vbox_host.remove(machine)


class Trap:
    """An SSH agent that nobody should speak to."""

    def __init__(self, path: Path) -> None:
        self.visits = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self._socket.close()


def test_neither_an_agent_nor_the_users_own_ssh_folder_is_used(
    suite: pytest.Pytester, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = Trap(open_folder / "agent")
    home = open_folder / "home"
    ssh = home / ".ssh"
    ssh.mkdir(parents=True)
    # Whoever reads a key from here waits for ever, and whoever obeys the configuration leaves a trace.
    for name in ("id_rsa", "id_ecdsa", "id_ed25519", "known_hosts"):
        os.mkfifo(ssh / name)
    (ssh / "config").write_text(f"Host *\n  ProxyCommand touch {open_folder}/obeyed\n  Port 1\n  User trapped\n")
    # What reading does to a file's time here; on some file systems nothing.
    (ssh / "control").write_text("read")
    long_ago = 10**9
    os.utime(ssh / "control", (long_ago, long_ago + 1))
    (ssh / "control").read_text()
    times_tell = (ssh / "control").stat().st_atime != long_ago
    os.utime(ssh / "config", (long_ago, long_ago + 1))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(open_folder / "agent"))
    suite.makepyfile(
        f"""
        import os, subprocess, sys
        from pathlib import Path


        def test_it(vbox_machine):
            # pytester gives this process another home.
            os.environ["HOME"] = {str(home)!r}
            assert Path("~/.ssh/config").expanduser().exists()
            vm = vbox_machine()
            assert vm.run("echo here").stdout == "here\\n"
            vm.reconnect()
            vm.put(__file__, "/tmp/test.py")
            vm.reset()
            assert vm.run("echo again").stdout == "again\\n"
            done = subprocess.run(
                [{str(Path(sys.executable).parent / "pytest-vbox")!r}, "machines", "ssh", vm.name, "echo", "told"],
                capture_output=True, text=True, timeout=60,
            )
            assert done.stdout == "told\\n", done
        """
    )
    suite.runpytest_subprocess("--vbox=require").assert_outcomes(passed=1)
    trap.close()
    assert trap.visits == 0
    assert not (open_folder / "obeyed").exists()
    assert not times_tell or (ssh / "config").stat().st_atime == long_ago, "somebody read it"


def test_a_machine_that_is_entered_later_has_to_show_the_host_key_it_showed_before(
    vbox_host: VirtualBoxHost, suite: pytest.Pytester
) -> None:
    machine = vbox_host.machine(name="pinned")
    told = vbox_host.keep(machine)
    program = Path(sys.executable).parent / "pytest-vbox"
    try:
        assert machine.name in told
        suite.run(program, "machines", "ssh", machine.name, "echo", "told").stdout.fnmatch_lines(["told"])
        owner = json.loads(machine.api.get_extra_data(OWNER_KEY))
        kind, blob = owner["host_key"].split()
        other = base64.b64encode(bytes(reversed(base64.b64decode(blob)[-32:]))).decode()
        # A key of the same kind, with another number in it.
        whole = base64.b64encode(base64.b64decode(blob)[:-32] + base64.b64decode(other)).decode()
        with vbox_host.session.lock(machine.api, LockType.SHARED, Deadline(20)) as held:
            held.machine.set_extra_data(OWNER_KEY, json.dumps({**owner, "host_key": f"{kind} {whole}"}))
        result = suite.run(program, "machines", "ssh", machine.name, "echo", "told")
        assert result.ret == 1
        assert "told" not in result.stdout.str()
        assert "host key" in result.stderr.str()
    finally:
        remove(vbox_host.session, machine.api.id, machine.name, local=True)


# Names


ODD = {
    "up": "../../../x",
    "long": "n" * 300,
    "controls": "\x1b]0;owned\x07\x1b[2J\r\nx",
    "emoji": "🔥🔑",
    "right-to-left": "abc\u202egpj.exe",
    "shell": "$(touch owned); `touch owned` | 'x' \"y\" & *",
}


def test_names_of_tests_reach_no_path_and_no_terminal_as_they_are(
    suite: pytest.Pytester,
) -> None:
    suite.makeini("[pytest]\ndisable_test_id_escaping_and_forfeit_all_rights_to_community_support = true\n")
    suite.makepyfile(
        f"""
        import pytest

        ODD = {ODD!r}

        @pytest.mark.parametrize("odd", [pytest.param(text, id=text) for text in ODD.values()])
        def test_odd(vbox_machine, odd):
            vm = vbox_machine(name=odd)
            assert vm.run("echo fine").stdout == "fine\\n"
            raise RuntimeError("on purpose")
        """
    )
    before = {path for path in suite.path.parent.rglob("*") if suite.path not in path.parents}
    result = suite.runpytest_subprocess(
        "--vbox=require",
        "--vbox-report=report.json",
        "--vbox-artifacts=shown",
        "--vbox-durations",
        "-q",
        "-rN",
        "--tb=short",
    )
    result.assert_outcomes(failed=len(ODD))
    saved = [path for path in (suite.path / "shown").rglob("*") if path.is_file()]
    assert len([path for path in saved if path.name == "screenshot.png"]) == len(ODD)
    for path in saved:
        assert str(path.relative_to(suite.path)).isascii()
        assert all(len(part) <= 64 for part in path.relative_to(suite.path).parts)
    outside = {path for path in suite.path.parent.rglob("*") if suite.path not in path.parents} - before
    assert not [path for path in outside if "shown" in str(path) or path.name in {"x", "owned"}]
    assert not (suite.path / "owned").exists()
    (suite.path / "report.json").read_text().encode("ascii")
    ours = [line for line in result.stdout.lines if "pytest-" in line or "artifacts" in line or "saved" in line]
    assert ours
    raw = [line for line in ours if not line.isprintable()]
    assert raw == []
