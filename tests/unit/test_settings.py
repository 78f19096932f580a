"""What a user can set: where from, in which order, and what is said about a value that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vbox.secret import Secret
from pytest_vbox.settings import OPTIONS, Keep, Mode, Option, Reset, Settings, SettingsError, load
from unit.kit.tracebacks import shown

# For each option: what three sources say, and what becomes of it.
SAMPLES: Final[Mapping[str, tuple[tuple[str, object], ...]]] = {
    "mode": (("off", Mode.OFF), ("require", Mode.REQUIRE), ("auto", Mode.AUTO)),
    "url": tuple((f"https://{host}:1", f"https://{host}:1") for host in ("a", "b", "c")),
    "user": (("ann", "ann"), ("bob", "bob"), ("cleo", "cleo")),
    "password_file": tuple((f"/{name}", Path(f"/{name}")) for name in ("a", "b", "c")),
    "password": (("", ""), ("hush", "hush"), ("", "")),
    "ca": tuple((f"/{name}.pem", Path(f"/{name}.pem")) for name in ("a", "b", "c")),
    "insecure": (("true", True), ("no", False), ("on", True)),
    "image": (("one", "one"), ("two", "two"), ("three", "three")),
    "profile": (("micro", "micro"), ("small", "small"), ("large", "large")),
    "profiles": tuple((f"/{name}", (Path(f"/{name}"),)) for name in ("a", "b", "c")),
    "reset": (("fresh", Reset.FRESH), ("disk", Reset.DISK), ("fresh", Reset.FRESH)),
    "max_machines": (("1", 1), ("2", 2), ("30", 30)),
    "prewarm": (("0", 0), ("1", 1), ("12", 12)),
    "cache_size": (("1 GiB", 1 << 30), ("500MB", 500 << 20), ("1.5T", 3 << 39)),
    "durations": (("true", True), ("0", False), ("yes", True)),
    "report": tuple((f"/{name}", Path(f"/{name}")) for name in ("a", "b", "c")),
    "boot_timeout": (("1", 1.0), ("2.5", 2.5), ("1e2", 100.0)),
    "keep": (("failed", Keep.FAILED), ("always", Keep.ALWAYS), ("never", Keep.NEVER)),
    "artifacts": tuple((f"/{name}", Path(f"/{name}")) for name in ("a", "b", "c")),
}
ON_COMMAND_LINE: Final = [option for option in OPTIONS if option.flag is not None]
PATHS: Final = [
    option for option in OPTIONS if option.name in {"password_file", "ca", "profiles", "artifacts", "report"}
]


def _name(option: Option) -> str:
    return option.name


def _value(settings: Settings, option: Option) -> object:
    value: object = getattr(settings, option.name)
    return value


def _path(settings: Settings, option: Option) -> object:
    value = _value(settings, option)
    return value[-1] if isinstance(value, tuple) else value


# Where from


def test_every_option_has_a_field_and_a_sample() -> None:
    names = {option.name for option in OPTIONS}
    assert names == {entry.name for entry in fields(Settings)} == SAMPLES.keys()


def test_names_of_flag_ini_key_and_variable_belong_together() -> None:
    for option in OPTIONS:
        if option.name == "mode":
            assert (option.flag, option.ini, option.environment) == ("--vbox", "vbox", "PYTEST_VBOX_MODE")
            continue
        assert option.flag in {f"--vbox-{option.name.replace('_', '-')}", None}
        assert option.ini == f"vbox_{option.name}"
        assert option.environment == f"PYTEST_VBOX_{option.name.upper()}"


@pytest.mark.parametrize("option", ON_COMMAND_LINE, ids=_name)
def test_command_line_goes_before_environment_before_ini(option: Option) -> None:
    (line, from_line), (variable, from_variable), (ini, from_ini) = SAMPLES[option.name]
    sources: dict[str, Any] = {
        "command_line": {option.name: [line] if option.repeatable else line},
        "environ": {option.environment: variable},
        "ini": {option.name: [ini] if option.repeatable else ini},
    }
    assert _value(load(**sources), option) == from_line
    del sources["command_line"]
    assert _value(load(**sources), option) == from_variable
    sources["environ"] = {}
    assert _value(load(**sources), option) == from_ini


def test_nothing_set_gives_the_defaults(tmp_path: Path) -> None:
    assert load(environ={}, root=tmp_path) == Settings(artifacts=tmp_path / ".pytest_vbox")
    assert Settings() == Settings(mode=Mode.AUTO, reset=Reset.LIVE, boot_timeout=300, keep=Keep.NEVER)


@pytest.mark.parametrize("option", ON_COMMAND_LINE, ids=_name)
def test_what_pytest_gives_for_options_that_were_not_given_counts_as_unset(option: Option) -> None:
    nothing: dict[str, object] = {option.name: [] if option.repeatable else None}
    empty = {option.name: [] if option.repeatable else ""}
    assert load(nothing, nothing, {}) == load(nothing, empty, {option.environment: ""}) == load(environ={})


def test_the_process_environment_is_used_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_VBOX_IMAGE", "tiny")
    assert load().image == "tiny"


def test_a_password_comes_from_the_environment_only() -> None:
    assert load({"password": "line"}, environ={}).password == ""
    assert load({"password": "line"}, environ={"PYTEST_VBOX_PASSWORD": "hush"}).password == "hush"


def test_folders_may_be_several(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert load({"profiles": [str(a), str(b)]}, environ={}).profiles == (a, b)
    assert load(ini={"profiles": [str(a), str(b)]}, environ={}).profiles == (a, b)
    assert load(environ={"PYTEST_VBOX_PROFILES": f"{a}{os.pathsep}{b}"}).profiles == (a, b)


@pytest.mark.parametrize("text", ["{a}{sep}", "{sep}{a}", "{sep}{sep}{a}{sep}"])
def test_an_empty_place_in_a_list_is_not_the_working_directory(text: str) -> None:
    assert load(environ={"PYTEST_VBOX_PROFILES": text.format(a="/a", sep=os.pathsep)}).profiles == (Path("/a"),)


# Paths


@pytest.mark.parametrize("option", PATHS, ids=_name)
def test_relative_paths_are_relative_to_where_they_are_written(
    option: Option, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    root = tmp_path / "root"
    assert _path(load({option.name: "x/y"}, root=root, environ={}), option) == here / "x/y"
    assert _path(load(root=root, environ={option.environment: "x/y"}), option) == here / "x/y"
    assert _path(load(ini={option.name: "x/y"}, root=root, environ={}), option) == root / "x/y"


@pytest.mark.parametrize("option", PATHS, ids=_name)
def test_the_users_home_is_known(option: Option, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert _path(load(ini={option.name: "~/x"}, environ={}), option) == tmp_path / "x"


def test_somebody_elses_home_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"^PYTEST_VBOX_CA: '~nobody-of-that-name/x' cannot be used: .*no such"
    ):
        load(environ={"PYTEST_VBOX_CA": "~nobody-of-that-name/x"})


# Values that cannot be used


WRONG: Final = (
    ("mode", "on", "expected one of auto, require, off"),
    ("mode", "AUTO", "expected one of auto, require, off"),
    ("reset", "dead", "expected one of live, disk, fresh"),
    ("durations", "perhaps", "expected true or false"),
    ("max_machines", "0", "expected at least 1"),
    ("prewarm", "many", "expected a whole number, such as 2"),
    ("prewarm", "-1", "expected a whole number"),
    ("cache_size", "20", "expected a size such as 20 GiB or 500 MiB"),
    ("cache_size", "much", "expected a size"),
    ("keep", "sometimes", "expected one of never, failed, always"),
    ("boot_timeout", "soon", "expected a number of seconds greater than 0, such as 300"),
    ("boot_timeout", "0", "expected a number of seconds"),
    ("boot_timeout", "-1", "expected a number of seconds"),
    ("boot_timeout", "nan", "expected a number of seconds"),
    ("boot_timeout", "inf", "expected a number of seconds"),
    ("max_machines", "many", "expected a whole number"),
    ("max_machines", "-1", "expected a whole number"),
    ("max_machines", "2.5", "expected a whole number"),
    ("url", "localhost:18083", "expected an address such as http://127.0.0.1:18083"),
    ("url", "18083", "expected an address such as"),
    ("url", "ftp://host", "expected an address such as"),
    ("url", "http://", "expected an address such as"),
    ("url", "http://:18083", "expected an address such as"),
    ("url", "http://host:port", "expected an address such as"),
    ("url", "http://host:99999", "expected an address such as"),
    ("url", "http://host:0", "expected an address such as"),
    ("url", "http://[::1", "expected an address such as"),
    ("url", "http://host:18083/?wsdl", "expected an address such as"),
)


@pytest.mark.parametrize(("name", "text", "right"), WRONG)
def test_a_wrong_value_is_answered_with_its_source_and_the_right_ones(name: str, text: str, right: str) -> None:
    (option,) = (option for option in OPTIONS if option.name == name)
    sources: tuple[tuple[str | None, dict[str, Any]], ...] = (
        (option.flag, {"command_line": {name: text}, "environ": {}}),
        (option.environment, {"environ": {option.environment: text}}),
        (f"ini key {option.ini}", {"ini": {name: text}, "environ": {}}),
    )
    for source, arguments in sources:
        with pytest.raises(SettingsError) as caught:
            load(**arguments)
        message = str(caught.value)
        assert message.startswith(f"{source}: {text!r} cannot be used: ")
        assert right in message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:hush@host:18083", "http://…@host:18083"),
        ("https://:hush@host/", "https://…@host/"),
        ("http://me:hu/sh@host", "http://…@host"),
        ("http://me:hu@sh@host", "http://…@host"),
        ("http://me:1/hush@host", "http://…@host"),
        ("HTTPS://me:hu[sh@host", "HTTPS://…@host"),
        ("ftp://me:hush@host", "…@host"),
        ("me:hush@host:1", "…@host:1"),
        ("hush://hush@host", "…@host"),
        ("http://me:hush\uff20host", "http://…@host"),
        ("http://me:hush\n@host", "http://…@host"),
    ],
)
def test_a_password_in_an_address_is_refused_and_not_shown(text: str, shown: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"url": text}, environ={})
    assert str(caught.value).startswith(f"--vbox-url: {shown!r} cannot be used: user and password do not belong ")
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("http://127.0.0.1:18083", "http://127.0.0.1:18083"),
        ("http://host:18083/", "http://host:18083"),
        ("https://host", "https://host"),
        ("http://[::1]:18083", "http://[::1]:18083"),
        ("https://host/virtualbox/", "https://host/virtualbox"),
    ],
)
def test_addresses_that_are_right(text: str, kept: str) -> None:
    assert load({"url": text}, environ={}).url == kept


@given(name=st.sampled_from([option.name for option in OPTIONS]), text=st.text())
def test_any_text_at_all_is_taken_or_refused_by_name(name: str, text: str) -> None:
    (option,) = (option for option in OPTIONS if option.name == name)
    try:
        settings = load(environ={option.environment: text}, root=Path("/root"))
    except SettingsError as error:
        assert str(error).startswith(f"{option.environment}: ")  # noqa: PT017 - it may raise or not
    else:
        assert isinstance(settings, Settings)
        assert text == "" or settings != load(environ={}) or _value(settings, option) == _value(Settings(), option)


# The password


def test_a_password_is_in_no_repr(tmp_path: Path) -> None:
    settings = load(environ={"PYTEST_VBOX_PASSWORD": "hush", "PYTEST_VBOX_PASSWORD_FILE": str(tmp_path / "file")})
    assert settings.login_password() == "hush"
    assert "hush" not in repr(settings)
    assert str(tmp_path / "file") in repr(settings)


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"hush", "hush"),
        (b"hush\n", "hush"),
        (b"hush\r\n", "hush"),
        (b" hu sh \nthe rest is a remark\n", " hu sh "),
        ("geheim-ß🔑\n".encode(), "geheim-ß🔑"),
        (b"\xef\xbb\xbfhush\r\n", "hush"),
        (b"", ""),
    ],
)
def test_a_password_file_gives_its_first_line(tmp_path: Path, content: bytes, password: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    assert Settings(password_file=path).login_password() == password


def test_without_any_password_it_is_empty() -> None:
    assert Settings().login_password() == ""


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "password"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
        path.chmod(0o600)
    with pytest.raises(SettingsError, match=f"^--vbox-password-file: cannot read {path}: "):
        Settings(password_file=path).login_password()


def test_whoever_made_the_settings_the_password_that_is_taken_from_them_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush-hush\n")
    (tmp_path / "password").chmod(0o600)
    for settings in (
        Settings(password="hush-hush"),
        Settings(password_file=tmp_path / "password"),
        load(environ={"PYTEST_VBOX_PASSWORD": "hush-hush"}),
    ):
        assert settings.login_password() == "hush-hush"
        assert repr([settings.login_password(), settings.password, settings]).count("hush-hush") == 0
    assert repr([Settings().login_password()]) == repr([Secret("hush-hush")])


def test_a_password_file_that_is_no_text_is_refused_without_showing_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes("hush-hush-ü".encode("latin-1") + b"\n")
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="no text in UTF-8") as caught:
        Settings(password_file=path).login_password()
    assert "hush-hush" not in shown(caught.value, __file__)


@pytest.mark.skipif(os.name != "posix", reason="has no modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_a_password_file_of_ours_that_others_may_read_is_refused_like_a_key_by_ssh(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "password"
    path.write_text("hush\n")
    path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"its mode is {mode:04o}.*chmod 600 {path}.*--vbox-insecure"):
        Settings(password_file=path).login_password()
    assert Settings(password_file=path, insecure=True).login_password() == "hush"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no FIFOs")
@pytest.mark.timeout(10)
def test_a_password_file_that_is_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "password", 0o600)
    assert Settings(password_file=tmp_path / "password").login_password() == ""


def test_no_function_that_a_failing_setting_goes_through_has_the_password_in_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTEST_VBOX_PASSWORD", "hush-hush")
    monkeypatch.setenv("PYTEST_VBOX_URL", "nonsense")
    monkeypatch.setenv("AN_UNRELATED_TOKEN", "tell-nobody")
    with pytest.raises(SettingsError) as caught:
        load()
    shown = "".join(repr(entry.frame.f_locals) for entry in caught.traceback[1:])
    assert "nonsense" in shown
    assert "hush-hush" not in shown
    assert "tell-nobody" not in shown
