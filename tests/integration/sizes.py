"""How much there is of everything that could grow: what VirtualBox keeps, files, handles, threads."""

from __future__ import annotations

import gc
import threading
from contextlib import suppress
from pathlib import Path

import psutil
from own_rig import OwnRig

from pytest_vbox import places
from pytest_vbox.machines import VirtualBoxHost

#: By how much something may be more at the end: connections come and go by one or two.
_SLACK = {"handles of this process": 3, "handles of VirtualBox": 12, "threads": 3}


def sizes(host: VirtualBoxHost, rig: OwnRig) -> dict[str, int]:
    """How much there is of everything that machines, runs and connections use."""
    gc.collect()  # what nobody holds any more is closed then
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


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What is more than it was."""
    return {
        what: (before[what], after[what]) for what in before if after[what] > before[what] + _SLACK.get(what, 0)
    }


def _is_machine(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "--startvm" in process.cmdline()
    return True


def _handles(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.num_fds()
    return 0
