"""A rig of a test's own, whose processes may be killed without harm to other tests."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import pytest
from machine_support import set_uuid

from pytest_vbox.hosts import connect_host
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.settings import load
from pytest_vbox.virtualbox.errors import LogonRefused

_RIG = Path(__file__).parents[2] / "tools" / "rig" / "rig"


#: On a test: it needs a VirtualBox of its own, whose processes are only ours to kill in the rig.
rig_only = pytest.mark.skipif("PYTEST_VBOX_RIG" not in os.environ, reason="needs a VirtualBox of its own")


#: One that gets to know its user by cloud-init, and one that VirtualBox can be made to forget.
_MORE_IMAGES: Final = """
images:
  keyed: {{extends: tiny, user: deploy, password: null, private_key: null, cloud_init: {{}}}}
  fresh: {{extends: tiny, disk: "{fresh}"}}
"""


class OwnRig:
    """Another VirtualBox beside the one that the tests use.

    Args:
        name: The rig's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        #: The rig is looked for where it was started, whatever the tests set since.
        self._outside = dict(os.environ)
        self.environ: dict[str, str] = {}
        #: The calls of each life that was led there; see `lives.Stage.steps`.
        self.steps: dict[tuple[str, bool], list[tuple[str, int]]] = {}
        #: Where those who use it keep their state, if not where everybody does.
        self.state: Path | None = None

    def up(self) -> None:
        """Start it, or what of it has ended; at the same address as before."""
        for last in (False, False, True):
            # Right after its server died, VirtualBox's service ends with NS_ERROR_FACTORY_NOT_REGISTERED.
            done = subprocess.run(
                [_RIG, "up", "--name", self._name], env=self._outside, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
            if last or not self.environ:
                raise AssertionError(f"the rig does not start: {done.stdout}{done.stderr}")
            # Machines that hang since their server died sometimes keep the next one from starting.
            self.kill("--startvm")
        text = Path(done.stdout.split()[-1]).read_text(encoding="utf-8")
        self.environ = dict(re.findall(r"^export (PYTEST_VBOX_\w+)=(.*)$", text, re.MULTILINE))
        self.environ["PYTEST_VBOX_PROFILES"] = str(self._images_of_its_own())
        if self.state is not None:
            self.environ["XDG_STATE_HOME"] = str(self.state)

    def _images_of_its_own(self) -> Path:
        """Copies of the images: VirtualBox changes a file's time, and golden machines of others hang on that."""
        folder = Path(self.environ["PYTEST_VBOX_RIG"]) / "own-images"
        if not folder.exists():
            folder.mkdir()
            for described in Path(self.environ["PYTEST_VBOX_PROFILES"]).glob("*.yaml"):
                text = described.read_text(encoding="utf-8")
                for disk in re.findall(r"disk: *[\"']?([^\s\"',}]+)", text):
                    copy = folder / Path(disk).name
                    shutil.copy(described.parent / disk, copy)
                    text = text.replace(disk, str(copy))
                (folder / described.name).write_text(text, encoding="utf-8")
            fresh = folder / "fresh.vdi"
            shutil.copy(next(folder.glob("tiny.vdi")), fresh)
            set_uuid(fresh)
            (folder / "more.yaml").write_text(_MORE_IMAGES.format(fresh=fresh), encoding="utf-8")
        return folder

    def connect(self) -> VirtualBoxHost:
        """Its VirtualBox, connected; what others have left in it stays."""
        return connect_host(load(environ={**os.environ, **self.environ}), clean_up=False)

    def down(self) -> None:
        """End it, and delete what it has."""
        subprocess.run(
            [_RIG, "down", "--name", self._name, "--delete"], env=self._outside, capture_output=True, check=True
        )

    def processes(self) -> list[psutil.Process]:
        """All its processes."""
        inside = self._inside()
        return [process for process in psutil.process_iter() if _namespace(process.pid) == inside]

    def kill(self, *words: str) -> int:
        """SIGKILL its processes that have one of some words in their command line. Returns how many."""
        inside = self._inside()
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(word in part for part in process.info["cmdline"] or [] for word in words)
            and _namespace(process.pid) == inside
        ]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, 10)
        return len(found)

    def _inside(self) -> str:
        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [""])[0] == f"pytest-vbox-rig-{self._name}":
                return _namespace(process.pid)
        raise AssertionError("the rig is not up")


@contextmanager
def own_rig(name: str) -> Iterator[OwnRig]:
    """A rig for the length of the block.

    Args:
        name: Its name; another worker's, and another checkout's, is another rig.
    """
    checkout = hashlib.sha256(str(_RIG).encode()).hexdigest()[:4]
    rig = OwnRig(f"{name}-{checkout}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}")
    # A state folder of its own too: what is left in it is of whoever uses the rig. A socket needs a short path.
    with (
        tempfile.TemporaryDirectory(prefix="vbox-", ignore_cleanup_errors=True) as state,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_STATE_HOME", state)
        rig.state = Path(state)
        rig.up()
        try:
            yield rig
        finally:
            rig.down()


def _namespace(pid: int) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    return ""


def restart_web_service(rig: OwnRig) -> None:
    """Kill the web service; another one takes its place."""
    rig.kill("vboxwebsrv")
    rig.up()


def restart_server(rig: OwnRig) -> None:
    """Kill VirtualBox's server, and what depends on it."""
    # The web service takes nobody any more when the server behind it has died, until it is started anew.
    rig.kill("VBoxSVC")
    for _ in range(3):
        rig.kill("vboxwebsrv")
        rig.up()
        # Nor does the new one, if it met the server that the old one had started in its last moment.
        with suppress(LogonRefused), rig.connect():
            return
    raise AssertionError("VirtualBox takes nobody since its server died")


def kill_machines(rig: OwnRig) -> None:
    """Kill the processes of all machines that run."""
    rig.kill("--startvm")


#: How each of VirtualBox's processes dies.
VICTIMS: Final = {"web-service": restart_web_service, "server": restart_server, "machine": kill_machines}
