"""Where pytest-vbox keeps things of its own."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from pytest_vbox import places


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    return tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms have other places")
def test_places_are_those_of_the_platform(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.state_folder() == home / ".local/state/pytest-vbox"
    assert places.cache_folder() == home / ".cache/pytest-vbox"
    assert places.config_folder() == home / ".config/pytest-vbox"
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "elsewhere"))
    assert places.state_folder() == home / "elsewhere/pytest-vbox"


@pytest.mark.skipif(os.name != "posix", reason="has no modes")
def test_only_the_user_may_look_into_the_state_folder() -> None:
    folder = places.state_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert stat.S_IMODE(places.state_folder().stat().st_mode) == 0o700


def test_only_the_state_folder_is_made() -> None:
    assert places.state_folder().is_dir()
    assert not places.cache_folder().exists()
    assert not places.config_folder().exists()
