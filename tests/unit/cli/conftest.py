"""Projects for the command, on a computer without VirtualBox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pytest_vbox import places, service
from pytest_vbox.cli import main
from pytest_vbox.service import VirtualBoxNotFound, endpoint

MODELS = """
hardware:
  big: {extends: medium, memory: 8 GiB, network: [{attachment: nat}], description: for builds}
images:
  jammy: {disk: jammy.vdi, os_family: ubuntu, os_version: 22.04, password: secret, hardware: {cpus: 2}}
  cloud: {url: "https://example.org/cloud.img", sha256: %s, cloud_init: {}}
""" % ("a" * 64)

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise VirtualBoxNotFound("no VirtualBox found on this computer. Install it")

    for name, folder in (("state", "s"), ("cache", "c"), ("config", "f")):
        place = tmp_path / folder
        place.mkdir(mode=0o700)
        monkeypatch.setattr(places, f"{name}_folder", lambda place=place: place)
    for variable in ("PYTEST_VBOX_URL", "PYTEST_VBOX_PROFILES", "PYTEST_VBOX_PASSWORD_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(endpoint, "find_installation", nowhere)
    monkeypatch.setattr(service, "find_installation", nowhere)
    monkeypatch.setattr(endpoint, "answers", lambda *_: False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a profile and two images."""
    folder = tmp_path / "project"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "models.yaml").write_text(MODELS)
    return folder


@pytest.fixture
def command(project: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs the command in the project's folder."""
    monkeypatch.chdir(project)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))
