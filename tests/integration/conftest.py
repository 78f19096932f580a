"""Tests against real VirtualBox: `make test` provides one, with an image and a profile that are both "tiny"."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import platformdirs
import pytest
from fault_proxy import FaultProxy
from lives import Stage
from machine_support import disk_of, forget, set_uuid
from own_rig import OwnRig, own_rig
from second_account import SecondUser, second_account, why_not
from tls import Authority, WebServices

from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Catalogue, Image


@pytest.fixture
def tiny(vbox_host: VirtualBoxHost) -> Image:
    """The model of the image that the tests run on."""
    return vbox_host.catalogue.images["tiny"]


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest) -> Iterator[OwnRig]:
    """A VirtualBox of the module's own: what dies in its middle may take machines of others with it."""
    with own_rig(request.path.stem.removeprefix("test_").replace("_", "-")) as rig:
        yield rig


@pytest.fixture
def stage(rig: OwnRig) -> Iterator[Stage]:
    """Lives are led in the module's own VirtualBox, through a proxy."""
    with rig.connect() as host, FaultProxy(host.url) as proxy:
        yield Stage(proxy, host, rig)


@pytest.fixture
def own_image(tiny: Image, vbox_host: VirtualBoxHost, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes copies of the base with UUIDs of their own, which VirtualBox forgets afterwards."""
    made: list[Path] = []

    def copy(name: str) -> Path:
        path = tmp_path / name
        shutil.copy(disk_of(tiny), path)
        set_uuid(path)
        made.append(path)
        return path

    yield copy
    forget(vbox_host, made)


@pytest.fixture
def yaml_images(vbox_host: VirtualBoxHost, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Adds images to the host's catalogue for one test; takes what stands below ``images:``."""
    before = vbox_host.catalogue
    folders: list[Path] = []

    def add(text: str) -> None:
        # Each in a folder of its own, so that a later one may come over an earlier one.
        folder = tmp_path / f"yaml-{len(folders)}"
        folder.mkdir()
        folders.append(folder)
        (folder / "images.yaml").write_text("images:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
        vbox_host.catalogue = Catalogue.load([*before.folders, *folders])

    yield add
    vbox_host.catalogue = before


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a suite as a user has it, to be run in a process of its own with the same VirtualBox.

    pytester gives that process a home of its own; locks, ledgers and caches have to be the same ones.
    """
    for variable in (
        "PYTEST_XDIST_WORKER",
        "PYTEST_XDIST_WORKER_COUNT",
        "PYTEST_XDIST_TESTRUNUID",
        "PYTEST_ADDOPTS",
    ):
        monkeypatch.delenv(variable, raising=False)
    return pytester


@pytest.fixture(autouse=True, scope="session")
def _same_places() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", platformdirs.user_state_dir())
        patch.setenv("XDG_CACHE_HOME", platformdirs.user_cache_dir())
        yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder into which every user of this computer may look, as they may not into `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="pytest-vbox-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def second_user(open_folder: Path) -> Iterator[SecondUser]:
    """Another account on this computer; without one the test is skipped."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            user = stack.enter_context(second_account(open_folder))
        except RuntimeError as error:
            pytest.skip(f"useradd does not work here: {error}")
        yield user


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def web_services() -> Iterator[WebServices]:
    """Starts web services on an address that is not loopback, and ends them."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = int(probe.getsockname()[1])
    services = WebServices(port)
    yield services
    services.stop()
