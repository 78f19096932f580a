"""The processes that machines run in, on this computer: for the few times when VirtualBox has lost hold of one."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psutil

_PATIENCE: Final = 10.0
# How VirtualBox starts a machine's process: the word before its UUID.
_START: Final = "--startvm"


def end(machine_id: str) -> int:
    """End what runs a machine, the hard way. Returns how many processes that were.

    A machine whose VirtualBox server died goes on running, and the next server does not know.
    """
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if _START in words and machine_id in words[words.index(_START) + 1 :]:
            found.append(process)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, _PATIENCE)
    return len(found)
