"""Folders of one process: gone with it, and, should it die, with whoever looks next."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from pytest_vbox.ownership import OwnFolder, remove_abandoned

LEAVE = """
import sys
from pathlib import Path
from pytest_vbox.ownership import OwnFolder
folder = OwnFolder(Path(sys.argv[1]), "keys", "run-1")
(folder.path / "key").write_text("secret")
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_it_is_made_when_it_is_asked_for_and_deleted_at_the_end(tmp_path: Path) -> None:
    folder = OwnFolder(tmp_path, "keys", "run-1")
    assert list(tmp_path.iterdir()) == []
    path = folder.path
    (path / "key").touch()
    assert folder.path == path
    assert path.name.startswith(f"run-1-{os.getpid()}-")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert remove_abandoned(tmp_path, "keys") == []
    folder.close()
    folder.close()
    assert list((tmp_path / "keys").iterdir()) == []


def test_a_process_has_as_many_as_it_likes(tmp_path: Path) -> None:
    one, two = OwnFolder(tmp_path, "keys", "run-1"), OwnFolder(tmp_path, "keys", "run-1")
    assert one.path != two.path
    one.close()
    assert two.path.is_dir()
    two.close()


def test_that_of_a_killed_process_is_deleted_and_of_a_living_one_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert remove_abandoned(tmp_path, "keys") == []
        assert (path / "key").exists()
        process.kill()
    assert remove_abandoned(tmp_path, "keys") == [path]
    assert list((tmp_path / "keys").iterdir()) == []
    assert remove_abandoned(tmp_path, "keys") == []


def test_nothing_is_there_to_be_deleted_at_first(tmp_path: Path) -> None:
    assert remove_abandoned(tmp_path, "keys") == []
    assert list(tmp_path.iterdir()) == []
