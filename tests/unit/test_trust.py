"""Which web services are trusted with a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox import hosts, places, trust
from pytest_vbox.settings import Settings, SettingsError
from pytest_vbox.virtualbox.errors import LogonRefused
from unit.kit.service import FakeService, Silence


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
