"""Which web services are trusted with a password."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_vbox import hosts, places, trust
from pytest_vbox import service as services
from pytest_vbox.service import Endpoint
from pytest_vbox.service.record import Lease
from pytest_vbox.settings import Settings, SettingsError
from pytest_vbox.virtualbox.errors import LogonRefused, NotTrusted, ServiceUnavailable
from unit.kit.service import FakeService, Silence, UnknownObject


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the service that listens on loopback were on another computer."""
    monkeypatch.setattr(trust, "is_loopback", lambda _: False)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:18083", True),
        ("http://127.8.9.10:18083", True),
        ("http://localhost:18083", True),
        ("http://LOCALHOST:18083", True),
        ("http://[::1]:18083", True),
        ("http://[::ffff:127.0.0.1]:18083", True),
        ("http://0.0.0.0:18083", False),
        ("http://192.168.1.7:18083", False),
        ("http://[fe80::1]:18083", False),
        ("http://localhost.example.org:18083", False),
        ("http://127.0.0.1.example.org:18083", False),
        ("http://127.1:18083", False),
        ("https://vbox.example.org:18083", False),
    ],
)
def test_only_addresses_of_this_computers_loopback_are_loopback(url: str, loopback: bool) -> None:
    assert trust.is_loopback(url) is loopback


@pytest.mark.parametrize(
    "url", ["http://vbox.example.org:18083", "http://192.0.2.9", "http://[2001:db8::1]:18083"]
)
def test_plain_http_to_another_computer_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(SettingsError, match=r"--vbox-url: .*without https.*--vbox-insecure"):
        hosts.connect_host(Settings(url=url))
    trust.check_settings(Settings(url=url, insecure=True))


@pytest.mark.parametrize(
    "url", ["http://me:hu/sh@vbox.example.org", "https://me:hush@127.0.0.1", "me:hush@host:1"]
)
def test_an_address_with_a_password_is_refused_and_not_shown_whoever_made_the_settings(url: str) -> None:
    for use in (hosts.connect_host, hosts.connect_to_clean_up):
        with pytest.raises(SettingsError, match=r"--vbox-url: '.*…@.*do not belong") as caught:
            use(Settings(url=url, insecure=True))
        assert "hu" not in str(caught.value)
    assert "hu" not in "".join(trust.risks(Settings(url=url, insecure=True)))


@pytest.mark.parametrize("url", ["https://vbox.example.org:18083", "http://127.0.0.1:18083", None])
def test_https_and_loopback_are_let_pass(url: str | None) -> None:
    trust.check_settings(Settings(url=url))


def test_an_authority_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"--vbox-ca: there is no file {tmp_path / 'none.pem'}"):
        hosts.connect_host(Settings(url="https://vbox.example.org:18083", ca=tmp_path / "none.pem"))


@pytest.mark.usefixtures("far")
def test_a_service_on_another_computer_that_lets_anybody_in_is_refused_and_never_sees_the_password(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "check_settings", lambda _: None)
    with pytest.raises(SettingsError, match=r"lets anybody in.*--authentication VBoxAuthSimple.*--vbox-insecure"):
        hosts.connect_host(Settings(url=service.url, user="me", password="hush"))
    assert "hush" not in repr(service.calls)
    assert "'me'" not in repr(service.calls)
    assert service.names == ["IWebsessionManager_logon", "IWebsessionManager_logoff"]


@pytest.mark.usefixtures("far")
def test_a_service_on_another_computer_that_refuses_strangers_is_used(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "check_settings", lambda _: None)
    service.answer("IWebsessionManager_logon", Silence(), "virtualbox")
    with hosts.connect_host(Settings(url=service.url, user="me", password="hush"), clean_up=False):
        pass
    stranger, own = service.called("IWebsessionManager_logon")
    assert own == {"username": "me", "password": "hush"}
    assert stranger["username"].startswith("nobody-")
    assert len(stranger["password"]) > 20


@pytest.mark.usefixtures("far")
def test_strangers_are_other_ones_each_time(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "check_settings", lambda _: None)
    service.answer("IWebsessionManager_logon", Silence())
    for _ in range(2):
        with pytest.raises(LogonRefused):
            hosts.connect_host(Settings(url=service.url, user="me"))
    first, _, second, _ = service.called("IWebsessionManager_logon")
    assert first != second


@pytest.mark.usefixtures("far")
def test_what_is_open_to_anybody_is_used_where_the_user_says_so(service: FakeService) -> None:
    with hosts.connect_host(Settings(url=service.url, insecure=True), clean_up=False):
        pass
    assert len(service.called("IWebsessionManager_logon")) == 1


def test_on_loopback_nobody_is_tried(service: FakeService) -> None:
    with hosts.connect_host(Settings(url=service.url), clean_up=False):
        pass
    assert len(service.called("IWebsessionManager_logon")) == 1


def test_one_service_does_not_choose_what_calls_to_another_look_like(service: FakeService) -> None:
    with hosts.connect_host(Settings(url=service.url), clean_up=False):
        pass
    other = service.url.replace("127.0.0.1", "localhost")
    with hosts.connect_host(Settings(url=other), clean_up=False):
        pass
    assert len(list((places.cache_folder() / "wsdl").glob("*/*.wsdl"))) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(url="https://vbox.example.org"), []),
        (Settings(), []),
        (Settings(insecure=True), ["--vbox-insecure is set"]),
        (
            Settings(url="http://vbox.example.org", insecure=True),
            ["--vbox-insecure is set", "the password can be read on the way"],
        ),
    ],
    ids=["https", "private", "insecure", "plain"],
)
def test_what_is_not_secure_is_told(settings: Settings, words: list[str]) -> None:
    risks = list(trust.risks(settings))
    assert len(risks) == len(words)
    assert all(word in risk for word, risk in zip(words, risks, strict=True))


# Who listens on this computer


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The ports that another user of this computer has."""
    ports: set[int] = set()
    monkeypatch.setattr(services, "strangers", lambda there, _: frozenset({4711} if there[1] in ports else ()))
    return ports


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_what_another_user_of_this_computer_listens_on_is_told_nothing(
    service: FakeService, taken: set[int], name: str
) -> None:
    taken.add(service.port)
    url = f"http://{name}:{service.port}"
    with pytest.raises(NotTrusted, match=rf"port {service.port} of .* belongs to the user 4711") as caught:
        hosts.connect_host(Settings(url=url, user="me", password="hush"), clean_up=False)
    assert service.calls == []
    assert "--vbox-insecure" in str(caught.value)
    assert isinstance(caught.value, ServiceUnavailable)


def test_what_another_user_listens_on_is_used_where_the_user_says_so(
    service: FakeService, taken: set[int]
) -> None:
    taken.add(service.port)
    with hosts.connect_host(Settings(url=service.url, insecure=True), clean_up=False):
        pass
    assert len(service.called("IWebsessionManager_logon")) == 1


def test_whoever_takes_the_port_in_the_middle_of_a_run_does_not_get_the_password(
    service: FakeService, taken: set[int]
) -> None:
    with hosts.connect_host(Settings(url=service.url, user="me", password="hush"), clean_up=False) as host:
        service.calls.clear()
        # The service ends, and its connections with it. Who listens there next says that the web session is over.
        taken.add(service.port)
        host.session.api.wire.close()
        service.answer("IVirtualBox_getAPIVersion", UnknownObject())
        for ask in (host.session.refresh, lambda: host.api.home_folder):
            with pytest.raises(NotTrusted, match="belongs to the user 4711"):
                ask()
        assert service.calls == []
        taken.clear()
        service.answer("IVirtualBox_getAPIVersion", "7_2")
    assert service.called("IWebsessionManager_logon") == []


def test_a_private_service_whose_port_somebody_else_took_is_replaced(
    service: FakeService,
    service_of: Callable[[str], FakeService],
    taken: set[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = service, service_of("7.1")
    found = [first, second]

    def find(*_: object, **__: object) -> Endpoint:
        return Endpoint(found.pop(0).url, "me", "hush", cast("Lease", SimpleNamespace(release=lambda: None)))

    monkeypatch.setattr(services, "find", find)
    monkeypatch.setattr(services, "renew", find)
    taken.add(first.port)
    with hosts.connect_host(Settings(), clean_up=False) as host:
        assert host.url == second.url
    assert first.calls == []


@pytest.mark.slow
def test_with_a_certificate_it_does_not_matter_whose_the_port_is(unused_port: int, taken: set[int]) -> None:
    with socket.create_server(("127.0.0.1", unused_port)) as server:
        server.settimeout(10)
        taken.add(unused_port)

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(ServiceUnavailable) as caught:
            hosts.connect_host(Settings(url=f"https://127.0.0.1:{unused_port}"), clean_up=False)
        thread.join()
    assert not isinstance(caught.value, NotTrusted)
