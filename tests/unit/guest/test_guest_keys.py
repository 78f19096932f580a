"""Logins, private key files, host keys as text."""

from __future__ import annotations

import base64
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from pytest_vbox.guest import KeyUnusable, Login, load_key, new_key, public_key
from pytest_vbox.guest.keys import fingerprint, host_key_text, parse_host_key
from unit.kit.tracebacks import shown

PEM, OPENSSH, PKCS8 = (
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.PrivateFormat.OpenSSH,
    serialization.PrivateFormat.PKCS8,
)
PLAIN = serialization.NoEncryption()
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _write(path: Path, key: Private, kind: serialization.PrivateFormat, password: str = "") -> Path:
    how = serialization.BestAvailableEncryption(password.encode()) if password else PLAIN
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, how))
    return path


@pytest.mark.parametrize(
    ("key", "kind", "name"),
    [
        (RSA, PEM, "ssh-rsa"),
        (RSA, OPENSSH, "ssh-rsa"),
        (RSA, PKCS8, "ssh-rsa"),
        (EC, PEM, "ecdsa-sha2-nistp256"),
        (EC, OPENSSH, "ecdsa-sha2-nistp256"),
        (EC, PKCS8, "ecdsa-sha2-nistp256"),
        (ED, OPENSSH, "ssh-ed25519"),
        (ED, PKCS8, "ssh-ed25519"),
    ],
)
def test_kinds_of_keys(tmp_path: Path, key: Private, kind: serialization.PrivateFormat, name: str) -> None:
    loaded = load_key(_write(tmp_path / "key", key, kind))
    assert loaded.get_name() == name
    assert loaded.can_sign()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert host_key_text(loaded) == public.decode()


def test_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    _write(tmp_path / "key", ED, OPENSSH)
    assert load_key(Path("~/key")).get_name() == "ssh-ed25519"


@pytest.mark.parametrize("kind", [PEM, OPENSSH, PKCS8])
def test_encrypted_keys(tmp_path: Path, kind: serialization.PrivateFormat) -> None:
    path = _write(tmp_path / "key", RSA, kind, "passphrase")
    with pytest.raises(KeyUnusable, match="it is encrypted") as caught:
        load_key(path)
    assert str(path) in str(caught.value)


def test_an_old_dsa_key(tmp_path: Path) -> None:
    key = dsa.generate_private_key(1024)  # noqa: S505
    path = tmp_path / "key"
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, PEM, PLAIN))
    with pytest.raises(KeyUnusable, match="DSA key"):
        load_key(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not a private key"),
        ("hello\n", "it is not a private key"),
        ("ssh-rsa AAAA me@there\n", "public half"),
        ("-----BEGIN PUBLIC KEY-----\n", "public half"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "damaged"),
        ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "damaged"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged"),
    ],
)
def test_what_is_no_private_key(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(KeyUnusable, match=reason) as caught:
        load_key(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match=r"none can't be used: No such file"):
        load_key(tmp_path / "none")
    with pytest.raises(KeyUnusable, match="Is a directory"):
        load_key(tmp_path)


def test_host_keys_as_text(tmp_path: Path) -> None:
    key = load_key(_write(tmp_path / "key", ED, OPENSSH))
    text = host_key_text(key)
    assert parse_host_key(f"  {text}  root@guest\n") == text
    assert fingerprint(text) == f"ssh-ed25519 {key.fingerprint}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + base64.b64encode(b"\0\0\0\3abc").decode(),
    ],
)
def test_what_is_no_host_key(text: str) -> None:
    with pytest.raises(ValueError, match="not a public host key"):
        Login("u", host_key=text)


def test_login_hides_its_passwords() -> None:
    login = Login("u", password="hush", sudo_password="psst")
    assert "hush" not in repr(login)
    assert "psst" not in repr(login)
    assert login == Login("u", password="hush", sudo_password="psst")


def test_passwords_taken_from_a_login_are_not_shown() -> None:
    login = Login("u", password="hush", sudo_password="psst")
    pickled = pickle.loads(pickle.dumps(login))  # noqa: S301 - our own
    for copy in (login, replace(login, user="v"), pickled):
        assert (copy.password, copy.password_for_sudo) == ("hush", "psst")
        assert repr([copy.password, copy.sudo_password, copy.password_for_sudo]) == "['…', '…', '…']"
    assert Login("u", password="hush").password_for_sudo == "hush"
    assert repr(Login("u", password="hush").password_for_sudo) == "'…'"


@pytest.mark.parametrize("wrong", [{"user": ""}, {"host_key": "none"}])
def test_a_login_that_is_refused_has_the_passwords_in_no_variable_of_its_traceback(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"needs a user|not a public host key") as caught:
        Login(**{"user": "u", "password": "hush-hush", "sudo_password": "psst-psst", **wrong})  # type: ignore[arg-type]
    text = shown(caught.value, __file__)
    assert "Login.__init__: user=" in text
    assert "hush-hush" not in text
    assert "psst-psst" not in text


def test_password_for_sudo() -> None:
    assert Login("u").password_for_sudo is None
    assert Login("u", password="a").password_for_sudo == "a"
    assert Login("u", password="a", sudo_password="").password_for_sudo == ""


def test_a_login_needs_a_user() -> None:
    with pytest.raises(ValueError, match="needs a user"):
        Login("")


def test_keys_are_paramikos(tmp_path: Path) -> None:
    assert isinstance(load_key(_write(tmp_path / "key", ED, OPENSSH)), paramiko.PKey)


def test_a_new_key_is_its_owners_alone_and_lets_in(tmp_path: Path) -> None:
    path = tmp_path / "id_ed25519"
    public = new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public.startswith("ssh-ed25519 AAAA")
    assert len(public.split()) == 2
    assert public_key(path) == public
    assert load_key(path).can_sign()
    assert new_key(tmp_path / "other") != public


def test_a_new_key_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("mine")
    with pytest.raises(FileExistsError):
        new_key(tmp_path / "key")
    assert (tmp_path / "key").read_text() == "mine"
