"""Where pytest-vbox keeps things of its own."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
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
@pytest.mark.parametrize("get", [places.state_folder, places.cache_folder])
def test_only_the_user_may_look_into_the_folders(get: Callable[[], Path]) -> None:
    folder = get()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    assert stat.S_IMODE(get().stat().st_mode) == 0o700


def test_the_folders_for_our_own_files_are_made() -> None:
    assert places.state_folder().is_dir()
    assert places.cache_folder().is_dir()
    assert not places.config_folder().exists()


@pytest.fixture
def permissive() -> Iterator[None]:
    """A umask that forbids nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="has no modes")
@pytest.mark.usefixtures("permissive")
def test_folders_are_made_for_the_user_alone_whatever_the_umask(home: Path) -> None:
    places.state_folder()
    places.cache_folder()
    made = [path for path in home.rglob("*") if path.is_dir()]
    assert len(made) >= 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_a_cache_that_can_not_be_made_is_somebody_elses_trouble(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(home / "file" / "pytest-vbox"))
    assert places.cache_folder() == home / "file" / "pytest-vbox"


needs_accounts = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can make files of another user"
)
NOBODY = 65534


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms have other places")
@needs_accounts
@pytest.mark.parametrize("get", [places.state_folder, places.cache_folder])
@pytest.mark.parametrize("kind", ["folder", "link", "target", "parent", "parent-of-the-target", "open-parent"])
def test_a_folder_in_another_users_hands_is_refused_and_left_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, get: Callable[[], Path], kind: str
) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(home / "there"))
    folder, other = home / "there" / "pytest-vbox", home / "other" / "folder"
    other.mkdir(parents=True)
    folder.parent.mkdir()
    words = "belongs to the user nobody.*set XDG_(STATE|CACHE)_HOME"
    if kind in {"link", "target", "parent-of-the-target"}:
        folder.symlink_to(other)
    else:
        folder.mkdir(mode=0o755)
    theirs = {
        "folder": folder,
        "link": folder,
        "target": other,
        "parent": folder.parent,
        "parent-of-the-target": other.parent,
    }
    if kind == "open-parent":
        folder.parent.chmod(0o777)
        words = "everybody may rename what is in .*chmod o-w"
    else:
        os.chown(theirs[kind], NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(places.UnsafeFolder, match=words):
        get()
    assert list(other.iterdir()) == []
    if kind == "folder":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755
