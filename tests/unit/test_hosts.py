"""From settings to a connected host, and nothing held on to when that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pytest_vbox
from pytest_vbox import hosts, places
from pytest_vbox import service as services
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import ModelError
from pytest_vbox.ownership import Entry, Ledger, Reaper
from pytest_vbox.service import Endpoint
from pytest_vbox.settings import Settings, SettingsError
from pytest_vbox.virtualbox.errors import Failed, LogonRefused, ServiceUnavailable, VirtualBoxError
from pytest_vbox.virtualbox.wsdl import distil
from unit.kit.descriptions import description
from unit.kit.service import FakeService, HangUp, Refusal, Silence
from unit.kit.tracebacks import shown


class Lease:
    """Counts how often it was given back."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No reaper is started; who would have watched is written down."""
    watched: list[str] = []
    monkeypatch.setattr(Reaper, "attend", lambda _, ledger: watched.append(ledger.name))
    monkeypatch.setattr(Reaper, "prepare", lambda *_: None)
    return watched


# The fewer operations are described, the sooner a connection stands.
SMALL = distil(
    description().wsdl(),
    [name for name in description().operations if name.startswith(("IVirtualBox", "IWeb", "IHost_"))],
)


@pytest.fixture
def service(service: FakeService) -> FakeService:
    """The newest VirtualBox, with a short description."""
    service.wsdl = SMALL
    service.answer("IVirtualBox_getMachinesByGroups", [])
    service.answer("IVirtualBox_getHardDisks", [])
    service.answer("IVirtualBox_composeMachineFilename", "/nowhere/x/x.vbox")
    return service


@pytest.fixture
def lease(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Lease:
    """The lease of a private service, which is found where no address is given."""
    lease = Lease()

    def find(url: str | None, *, state: Path) -> Endpoint:
        assert state == places.state_folder()
        return Endpoint(url or service.url, "pytest-vbox", "made up", lease)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "find", find)
    monkeypatch.setattr(services, "renew", lambda _, *, state: find(None, state=state))
    return lease


def test_connecting_uses_the_address_and_the_login_that_are_set(service: FakeService, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    (tmp_path / "password").chmod(0o600)
    settings = Settings(url=service.url, user="me", password_file=tmp_path / "password")
    with hosts.connect_host(settings, root=tmp_path) as host:
        assert (host.version, host.url, host.local) == ("7.2.99", service.url, True)
    assert service.called("IWebsessionManager_logon") == [{"username": "me", "password": "hush"}]
    assert service.names[-1] == "IWebsessionManager_logoff"


def test_a_private_service_brings_its_own_login(service: FakeService, lease: Lease) -> None:
    with hosts.connect_host(Settings(user="me", password="hush")):
        assert lease.released == 0
    assert lease.released == 1
    assert service.called("IWebsessionManager_logon") == [{"username": "pytest-vbox", "password": "made up"}]


def test_the_environment_is_enough(service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_VBOX_URL", service.url)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "own.yaml").write_text("images: {tiny: {disk: tiny.vdi}}\n")
    with pytest_vbox.connect() as host:
        assert list(host.catalogue.images) == ["tiny"]
        service.objects["virtualbox"]["Host"] = service.add("host", MemorySize=16000, ProcessorOnlineCount=8)
        assert host.capacity == (16000, 8)
    with pytest_vbox.connect(root=tmp_path / "elsewhere") as host:
        assert list(host.catalogue.images) == []


def test_descriptions_are_kept_in_the_users_cache(service: FakeService) -> None:
    with hosts.connect_host(Settings(url=service.url)):
        pass
    assert [path.suffix for path in (places.cache_folder() / "wsdl").glob("*/*.wsdl")] == [".wsdl"]
    service.wsdl = b"not needed again"
    with hosts.connect_host(Settings(url=service.url)):
        pass


@pytest.mark.parametrize("clean_up", [True, False])
def test_what_dead_runs_left_is_removed_unless_asked_not_to(service: FakeService, clean_up: bool) -> None:
    ledger = Ledger(places.state_folder(), "run-0")
    ledger.add(Entry("id-1", "one", "127.0.0.1:/home/me/.config/VirtualBox"))
    ledger.close()
    service.answer("IVirtualBox_findMachine", Refusal(0x80BB0001, "gone"))
    with hosts.connect_host(Settings(url=service.url), clean_up=clean_up):
        pass
    assert ("IVirtualBox_findMachine" in service.names) is clean_up


@pytest.mark.parametrize(
    ("operation", "error", "expected"),
    [
        ("IWebsessionManager_logon", Silence(), LogonRefused),
        ("IWebsessionManager_logon", HangUp(), ServiceUnavailable),
        ("IVirtualBox_getHomeFolder", Refusal(0x80004005, "no"), Failed),
    ],
)
def test_a_connection_that_fails_gives_the_private_service_back(
    service: FakeService, lease: Lease, operation: str, error: Exception, expected: type[Exception]
) -> None:
    service.answer(operation, error)
    with pytest.raises(expected):
        hosts.connect_host(Settings())
    # Where it does not take its own password, another one is tried.
    assert lease.released == (4 if expected is LogonRefused else 1)


@pytest.mark.parametrize(
    ("point", "private"),
    [
        ("Reaper.attend", True),
        ("service.find", True),
        *(
            (point, private)
            for point in (
                "IWebsessionManager_logon",
                "IVirtualBox_getVersion",
                "IVirtualBox_getHomeFolder",
                "clean up",
            )
            for private in (True, False)
        ),
    ],
)
def test_a_connection_that_fails_leaves_the_password_in_no_variable_of_the_traceback(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, point: str, private: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("broken")

    def find(*_: object, **__: object) -> Endpoint:
        if point == "service.find":
            raise OSError("broken")
        return Endpoint(service.url, "pytest-vbox", "made-up-secret", Lease())  # type: ignore[arg-type]

    if private:
        monkeypatch.setattr(services, "find", find)
        monkeypatch.setattr(services, "renew", find)
    monkeypatch.setattr(VirtualBoxHost, "clean_up_abandoned", fail if point == "clean up" else lambda *_: [])
    if point == "Reaper.attend":
        monkeypatch.setattr(Reaper, "attend", fail)
    service.answer(point, Silence())
    settings = Settings(url=None if private else service.url, user="me", password="hush-hush")
    with pytest.raises((VirtualBoxError, OSError)) as caught:
        hosts.connect_host(settings)
    text = shown(caught.value, __file__)
    assert "_connected: settings=" in text
    assert "hush-hush" not in text
    assert "made-up-secret" not in text


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda folder: (folder / "models.yaml").write_text("images: 7\n"), ModelError),
        (lambda folder: folder.rmdir(), ModelError),
    ],
    ids=["broken", "missing"],
)
def test_wrong_yaml_is_told_before_anything_is_started(
    service: FakeService,
    lease: Lease,
    tmp_path: Path,
    prepare: Callable[[Path], object],
    expected: type[Exception],
) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    prepare(folder)
    with pytest.raises(expected, match=str(folder)):
        hosts.connect_host(Settings(profiles=(folder,)))
    assert (service.calls, lease.released) == ([], 0)


def test_a_password_file_that_is_not_there_is_told_before_logging_on(service: FakeService, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="password-file"):
        hosts.connect_host(Settings(url=service.url, password_file=tmp_path / "none"))
    assert service.calls == []
