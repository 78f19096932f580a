"""What an image may say, and what is said of a wrong one."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import SecretStr

from pytest_vbox.models import Catalogue, Hardware, Image, ModelError

from .models_kit import complaints_of, failure, load, write

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


def image(folder: Path, keys: str) -> Image:
    return load(folder, f"images:\n  x: {{disk: x.vdi, {keys}}}\n").images["x"]


def test_a_bare_disk_is_an_image(tmp_path: Path) -> None:
    bare = image(tmp_path, "")
    assert bare.disk == tmp_path / "x.vdi"
    assert (bare.os_type, bare.user, bare.ssh_port, bare.attach) == ("Linux26_64", "vagrant", 22, "multiattach")
    assert (bare.password, bare.sudo_password, bare.private_key) == (None, None, None)
    assert (bare.host_key, bare.boot_timeout, bare.hardware) == (None, None, Hardware())


@pytest.mark.parametrize(
    ("keys", "attribute", "value"),
    [
        ("os_type: Windows11_64", "os_type", "Windows11_64"),
        ("user: 1000", "user", "1000"),
        ("attach: Immutable", "attach", "immutable"),
        ("attach: multi-attach", "attach", "multiattach"),
        ("boot_timeout: 12.5", "boot_timeout", 12.5),
        ("ssh_port: 2222", "ssh_port", 2222),
        (f"host_key: {KEY}", "host_key", KEY),
        (f"host_key: {KEY} root@example", "host_key", KEY),
        ("hardware: {cpus: 3}", "hardware", Hardware(cpus=3)),
    ],
)
def test_a_key_and_what_becomes_of_it(tmp_path: Path, keys: str, attribute: str, value: object) -> None:
    assert getattr(image(tmp_path, keys), attribute) == value


@pytest.mark.parametrize("password", ["hunter2", "0123", "1.50", "no", "'true'", "0x1f", "2001-01-01", "12:30"])
def test_a_password_is_what_was_written(tmp_path: Path, password: str) -> None:
    found = image(tmp_path, f"password: {password}").password
    assert found is not None
    assert found.get_secret_value() == password.strip("'")


def test_sudo_takes_the_password_unless_it_has_its_own(tmp_path: Path) -> None:
    assert image(tmp_path, "password: a").sudo_password == SecretStr("a")
    assert image(tmp_path, "password: a, sudo_password: b").sudo_password == SecretStr("b")
    assert Image(disk=Path("x"), password=SecretStr("a")).sudo_password == SecretStr("a")


def test_paths_start_at_the_file_that_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    write(tmp_path / "a", "images: {one: {disk: sub/one.vdi, private_key: ~/.ssh/key}}")
    write(tmp_path / "b", "images: {two: {extends: one, private_key: key}, three: {disk: ../three.vdi}}")
    images = Catalogue.load([tmp_path / "a", tmp_path / "b"]).images
    assert images["one"].private_key == tmp_path / "home" / ".ssh" / "key"
    assert images["two"].disk == tmp_path / "a" / "sub" / "one.vdi"
    assert images["two"].private_key == tmp_path / "b" / "key"
    assert images["three"].disk == tmp_path / "b" / ".." / "three.vdi"


def test_paths_are_absolute_for_a_relative_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path / "p", f"images: {{one: {{disk: one.vdi}}, two: {{disk: {(tmp_path / 'two.vdi').as_posix()}}}}}"
    )
    monkeypatch.chdir(tmp_path)
    images = Catalogue.load([Path("p")]).images
    assert images["one"].disk == tmp_path / "p" / "one.vdi"
    assert images["two"].disk == tmp_path / "two.vdi"


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("password: x", "x: the image needs one of the keys disk, url and vagrant"),
        ("disk: x, pasword: x", "x.pasword: unknown key 'pasword'; did you mean 'password'?"),
        ("disk: x, memory: 5", "x.memory: unknown key 'memory'; it belongs under 'hardware:'"),
        ("disk: ''", "x.disk: must be the path of a file, not ''"),
        ("disk: [x]", "x.disk: must be the path of a file"),
        ("disk: ~nosuchuser/x", "x.disk: there is no such home folder: '~nosuchuser/x'"),
        (r'disk: "a\0b"', r"x.disk: must be the path of a file, not 'a\x00b'"),
        ("disk: x, user: ''", "x.user: must not be empty"),
        (r'disk: x, user: "a\nb"', "x.user: must be one line of printable text"),
        (r'disk: x, description: "a\eb"', "x.description: must be printable text"),
        (
            "disk: x, attach: imutable",
            "x.attach: must be multiattach or immutable, not 'imutable'; did you mean 'immutable'?",
        ),
        ("disk: x, ssh_port: 0", "x.ssh_port: must be at least 1, not '0'"),
        ("disk: x, boot_timeout: 0", "x.boot_timeout: must be more than 0, not '0'"),
        ("disk: x, boot_timeout: inf", "x.boot_timeout: must be a number, not 'inf'"),
        ("disk: x, boot_timeout: soon", "x.boot_timeout: must be a number, not 'soon'"),
        ("disk: x, boot_timeout: true", "x.boot_timeout: must be a number, not true"),
        ("disk: x, hardware: 5", "x.hardware: must be a mapping of keys to values, not '5'"),
        ("disk: x, hardware: {memry: 5}", "x.hardware.memry: unknown key 'memry'; did you mean 'memory'?"),
    ],
)
def test_what_is_wrong_is_said_with_line_key_and_way_out(tmp_path: Path, keys: str, complaint: str) -> None:
    assert complaints_of(tmp_path, f"images:\n\n  x: {{{keys}}}\n") == [f"3: images.{complaint}"]


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519",
        "example.org ssh-ed25519 AAAA",
        f"{KEY[:-8]}",
        KEY.replace("25519", "25591"),
        "a b",
        "ssh-rsa ÄÖ",
    ],
)
def test_a_host_key_that_is_none(tmp_path: Path, key: str) -> None:
    (complaint,) = complaints_of(tmp_path, f"images: {{x: {{disk: x, host_key: '{key}'}}}}")
    assert complaint.startswith("1: images.x.host_key: must be a public host key, such as 'ssh-ed25519 AAAA…'")


def test_passwords_are_in_no_repr_and_no_dump(tmp_path: Path) -> None:
    catalogue = load(tmp_path, "images: {x: {disk: x, password: hunter2, sudo_password: hunter3}}")
    machine = catalogue.machine()
    for text in (repr(catalogue), repr(catalogue.images["x"]), str(machine), machine.image.model_dump_json()):
        assert "hunter" not in text


@pytest.mark.parametrize(
    "keys",
    [
        "password: hunter2",
        "disk: x, password: [hunter2]",
        "disk: x, password: {hunter: hunter2}",
        "disk: x, password: !hunter2",
        "disk: x, password: !hunter2!x",
        "disk: x, password: *hunter2",
        "disk: x, password: &hunter2",
        "disk: x, password: 'hunter2', attach: x",
        "disk: x, passwrd: hunter2",
        "disk: x, password: hunter2, password: hunter2",
        "disk: x, password: 'hunter2",
        'disk: x, password: "hunter2\\q"',
        "disk: x, password: %hunter2",
        "disk: x, password: @hunter2",
        "disk: x, password: `hunter2",
    ],
)
def test_no_error_shows_a_password(tmp_path: Path, keys: str) -> None:
    write(tmp_path, f"images: {{x: {{{keys}}}}}")
    error = failure(tmp_path)
    if error is not None:
        assert "hunter2" not in str(error)
        # Nor does what the error came from, as a traceback shows that too.
        assert error.__cause__ is None
        assert error.__context__ is None


@pytest.mark.parametrize(
    "keys",
    [
        "url: 'http://me:hush@host/disk.vdi'",
        "url: 'http://me:hu/sh@host/disk.vdi'",
        "url: 'me:hush@host/disk.vdi'",
        "url: 'http://h/d.vdi', sha256: 'https://me:hu/sh@host/sums'",
        "vagrant: 'https://me:hush@host/box'",
    ],
)
def test_no_error_shows_the_password_in_an_address(tmp_path: Path, keys: str) -> None:
    write(tmp_path, f"images: {{a: {{{keys}}}}}")
    error = failure(tmp_path)
    assert error is not None
    assert "hu" not in str(error)


def test_an_error_survives_pickling(tmp_path: Path) -> None:
    write(tmp_path, "images: {x: {}}")
    with pytest.raises(ModelError) as caught:
        Catalogue.load([tmp_path])
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems
