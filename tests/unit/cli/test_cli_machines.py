"""Entering machines: with which key, and with none that somebody else chose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pytest_vbox import guest, places
from pytest_vbox.cli.machines import Ours, _logged_in
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Catalogue
from pytest_vbox.virtualbox import Machine

NAME = "pytest-one-0123abcd"

Key = Callable[..., Path | None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The machine's folder."""
    return tmp_path / "vms" / "pytest-vbox" / NAME


@pytest.fixture
def logs_in_with(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Key:
    """Enters a machine that names a key. Gives what it was logged in with."""
    logins: list[guest.Login] = []
    monkeypatch.setattr(guest, "connect", lambda _, login, __: logins.append(login))
    monkeypatch.setattr(Ours, "port", lambda _: 20022)
    (tmp_path / "models.yaml").write_text("images: {tiny: {disk: tiny.vdi, private_key: image.key}}\n")
    catalogue = Catalogue.load([tmp_path])

    def enter(key: object, *, local: bool = True, name: str = NAME, image: str = "tiny") -> Path | None:
        host = SimpleNamespace(
            catalogue=catalogue,
            local=local,
            address="there",
            context=SimpleNamespace(state=places.state_folder()),
        )
        machine = SimpleNamespace(settings_file_path=str(folder / f"{NAME}.vbox"))
        ours = Ours(cast("Machine", machine), name, {"image": image, "user": "me", "key": key})
        _logged_in(cast("VirtualBoxHost", host), ours)
        return logins.pop().private_key

    return enter


@pytest.mark.parametrize("local", [True, False])
def test_the_images_key_and_those_in_folders_of_our_own_are_used(
    logs_in_with: Key, tmp_path: Path, local: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in (
        tmp_path / "image.key",
        places.state_folder() / "golden" / "keys" / "one",
        places.cache_folder() / "images" / "box" / "vagrant_insecure_key",
    ):
        assert logs_in_with(str(key), local=local) == key
    assert logs_in_with(None) is None
    assert capsys.readouterr().err == ""


def test_the_copy_in_the_folder_of_a_kept_machine_is_used_if_that_is_on_this_computer(
    logs_in_with: Key, folder: Path
) -> None:
    key = folder / "id_ed25519"
    assert logs_in_with(str(key)) == key
    assert logs_in_with(str(key), local=False) is None
    assert logs_in_with(str(key), name="pytest-two-0123abcd") is None


@pytest.mark.parametrize(
    "key", ["{tmp}/.ssh/id_ed25519", "{state}/../.ssh/id_ed25519", "{state}/a\0b", "{tmp}/image.key", "\x1b[2J", 7]
)
def test_no_other_key_is_used_and_that_is_said(
    logs_in_with: Key, tmp_path: Path, key: object, capsys: pytest.CaptureFixture[str]
) -> None:
    named = key.format(tmp=tmp_path, state=places.state_folder()) if isinstance(key, str) else key
    assert logs_in_with(named, image="unknown") is None
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert ("is not used" in told) is isinstance(key, str)
