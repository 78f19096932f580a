"""The reaper's process: ``python -m pytest_vbox.reaper STATE RUN``; see `pytest_vbox.ownership.reaper`.

What it imports while it only watches is little; the way to VirtualBox comes in when there is something to do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pytest_vbox.ownership.lockfiles import Busy
from pytest_vbox.ownership.reaping import serve
from pytest_vbox.ownership.reports import report

# Seconds between attempts while VirtualBox's service does not answer: it may be starting again; or while somebody
# else cleans up: he may have looked before the process died.
_PAUSES: Final = (1.0, 5.0, 15.0)


def clean_up(state: Path, run: str, ledger: Path, pid: int, access: Mapping[str, Any]) -> None:
    """Clean up after a process of the run.

    Args:
        state: The state folder.
        run: The run.
        ledger: The process's part of the ledger.
        pid: Its number.
        access: How VirtualBox is reached.
    """
    from pytest_vbox.hosts import clean_up_as
    from pytest_vbox.service import VirtualBoxUnusable
    from pytest_vbox.virtualbox.errors import ServiceUnavailable

    for pause in (*_PAUSES, None):
        try:
            clean_up_as(access, ledger)
        # The second is what a service says that is started right after VirtualBox's server died.
        except (ServiceUnavailable, VirtualBoxUnusable, Busy) as error:
            if pause is None:
                report(state, run, [f"process {pid} died: {error}; the next run cleans up"])
                return
            threading.Event().wait(pause)
        except Exception as error:  # noqa: BLE001 - there is nobody else to hear of it
            report(state, run, [f"process {pid} died: cleaning up failed: {error!r}; the next run tries again"])
            return
        else:
            return


def main() -> int:
    state, run = Path(sys.argv[1]), sys.argv[2]
    return serve(state, run, lambda ledger, pid, access: clean_up(state, run, ledger, pid, access))


if __name__ == "__main__":
    sys.exit(main())
