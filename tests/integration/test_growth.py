"""Many machines one after the other: nothing grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from own_rig import OwnRig, own_rig, rig_only

from pytest_vbox import places
from pytest_vbox.machines import VirtualBoxHost

pytestmark = rig_only
#: By how much something may be more at the end: connections come and go by one or two.
_SLACK = {"handles of this process": 3, "handles of VirtualBox": 12, "threads": 3}


@pytest.fixture(scope="module")
def rig() -> Iterator[OwnRig]:
    with own_rig("growth") as rig:
        yield rig


@pytest.fixture
def host(rig: OwnRig) -> Iterator[VirtualBoxHost]:
    with rig.connect() as host:
        yield host


def _sizes(host: VirtualBoxHost, rig: OwnRig) -> dict[str, int]:
    folder = Path(host.api.home_folder)
    machines = Path(host.api.system_properties.default_machine_folder)
    virtualbox = [process for process in rig.processes() if not _is_machine(process)]
    return {
        "bytes of VirtualBox.xml": (folder / "VirtualBox.xml").stat().st_size,
        "machines": len(host.api.machines),
        "disks, discs and floppies": sum(
            len(media) for media in (host.api.hard_disks, host.api.dvd_images, host.api.floppy_images)
        ),
        "files of machines": sum(1 for _ in machines.rglob("*")),
        "files of the run": sum(1 for _ in (places.state_folder() / "runs").glob(f"{host.run}/*")),
        "keys": sum(1 for _ in (places.state_folder() / "keys").glob(f"{host.run}*")),
        "handles of this process": psutil.Process().num_fds(),
        "handles of VirtualBox": sum(_handles(process) for process in virtualbox),
        "processes of VirtualBox": len(rig.processes()),
        "threads": threading.active_count(),
    }


def _is_machine(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "--startvm" in process.cmdline()
    return True


def _handles(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.num_fds()
    return 0


def _cold(host: VirtualBoxHost) -> None:
    host.remove(host.machine(start=False))


def _fork(host: VirtualBoxHost) -> None:
    machine = host.machine()
    machine.run("true")
    host.remove(machine)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("use", "times"),
    [
        pytest.param(_cold, 20, id="20-cold"),
        pytest.param(_fork, 4, id="4-forks"),
        pytest.param(_cold, 200, id="200-cold", marks=pytest.mark.soak),
        pytest.param(_fork, 30, id="30-forks", marks=pytest.mark.soak),
    ],
)
def test_nothing_grows_over_many_machines(
    use: Callable[[VirtualBoxHost], None],
    times: int,
    host: VirtualBoxHost,
    rig: OwnRig,
    record_property: Callable[[str, object], None],
) -> None:
    for _ in range(3):  # what is made once: an anchor, a golden machine, connections
        use(host)
    before = _sizes(host, rig)
    for _ in range(times):
        use(host)
    after = _sizes(host, rig)
    record_property("times", times)
    grown = {
        what: (before[what], after[what]) for what in before if after[what] > before[what] + _SLACK.get(what, 0)
    }
    assert grown == {}
