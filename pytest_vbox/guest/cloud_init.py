"""Waiting until cloud-init has done in a guest what it was told.

What it says of itself is in files, whose format has been the same since cloud-init 0.7: ``status.json`` while it
works, ``result.json`` at the end. Asking the ``cloud-init`` command instead would start Python in the guest with
every look.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.connection import Connection
from pytest_vbox.guest.errors import CloudInitFailed, GuestError, WaitTimeout, excerpt
from pytest_vbox.guest.readiness import Check
from pytest_vbox.guest.run import run
from pytest_vbox.printable import short

logger = logging.getLogger(__name__)

OUTPUT_LOG: Final = "/var/log/cloud-init-output.log"
_DONE, _DISABLED, _WORKING, _MISSING, _NOT_BEGUN = 10, 11, 12, 13, 14
_LOOK: Final = f"""
cd /run/cloud-init 2>/dev/null
if [ -s result.json ]; then cat result.json; echo; cat status.json 2>/dev/null; exit {_DONE}; fi
if [ -e disabled ]; then exit {_DISABLED}; fi
if [ -s status.json ]; then cat status.json; exit {_WORKING}; fi
command -v cloud-init >/dev/null 2>&1 || [ -e /usr/bin/cloud-init ] || exit {_MISSING}
exit {_NOT_BEGUN}
"""
_SHOWN_LINES: Final = 40
# The result and the status.
_MOST_DOCUMENTS: Final = 2
_BLANK: Final = re.compile(r"\s*")
# Seconds for fetching the log, once it is clear that something failed.
_LAST_WORDS: Final = 20.0

_WITHOUT: Final = (
    "there is no cloud-init in the guest. Use a cloud image, or take cloud_init out of the image and say how to "
    "log in"
)
_SWITCHED_OFF: Final = (
    "cloud-init is switched off in the guest: it is configured so (/etc/cloud/cloud-init.disabled, the kernel's "
    "command line), or it found no data source (the NoCloud one has to be in its datasource_list)"
)


@dataclass(frozen=True)
class CloudInitDone(Check):
    """cloud-init has finished, without errors.

    Fails at once where it has failed, or cannot finish. What it got over by itself (it calls that "degraded",
    such as a deprecated key in the user-data) is logged as a warning.

    Raises:
        CloudInitFailed: It has errors, or there is no cloud-init in the guest.
    """

    def __str__(self) -> str:
        return "cloud-init to be done"

    def wait(self, connection: Connection, deadline: Deadline) -> None:
        """Look until it is done, with pauses.

        Raises:
            CloudInitFailed: It failed.
            WaitTimeout: It was not done by the deadline; shows the end of its log.
        """
        try:
            super().wait(connection, deadline)
        except WaitTimeout as error:
            log = excerpt(OUTPUT_LOG, _end_of_log(connection))
            raise WaitTimeout(error.description, elapsed=error.elapsed, last=f"{error.last}\n{log}") from None

    def look(self, connection: Connection, deadline: Deadline) -> str | None:
        done = run(connection, ["sh", "-c", _LOOK], check=False, timeout=deadline.remaining)
        if done.returncode == _MISSING:
            raise CloudInitFailed([_WITHOUT])
        if done.returncode == _DISABLED:
            raise CloudInitFailed([_SWITCHED_OFF])
        if done.returncode == _NOT_BEGUN:
            return "it has not begun"
        reports = _documents(done.stdout)
        errors = [error for report in reports for error in _errors(report)]
        if errors:
            # Each is in the result and in the status.
            raise CloudInitFailed(list(dict.fromkeys(errors)), log=_end_of_log(connection))
        if done.returncode == _DONE:
            _warn(reports)
            return None
        stage = reports[0].get("stage") if reports else None
        return (
            f"it is in its stage {stage}" if stage else f"between two of its stages {done.stderr.strip()}".strip()
        )


def _documents(text: str) -> list[Mapping[str, Any]]:
    """The reports, one JSON document after the other; one that is being written is passed over."""
    decoder, found, place = json.JSONDecoder(), [], 0
    for _ in range(_MOST_DOCUMENTS):
        place = _after_blanks(text, place)
        try:
            document, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        if isinstance(document, dict) and isinstance(document.get("v1"), dict):
            found.append(document["v1"])
    return found


def _after_blanks(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _errors(report: Mapping[str, Any]) -> list[str]:
    """The errors of a result, or of all stages of a status."""
    return [str(error) for part in _parts(report) for error in _listed(part.get("errors"))]


def _warn(reports: list[Mapping[str, Any]]) -> None:
    for part in (part for report in reports for part in _parts(report)):
        recovered = part.get("recoverable_errors")
        if recovered and isinstance(recovered, dict):
            said = "; ".join(f"{level}: {text}" for level, texts in recovered.items() for text in _listed(texts))
            logger.warning("cloud-init is done, but had something to complain of: %s", short(said))


def _listed(value: object) -> list[object]:
    """A list, as cloud-init has them; of anything else that a guest says, one of that."""
    return value if isinstance(value, list) else [value] if value else []


def _parts(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [report, *(part for part in report.values() if isinstance(part, dict))]


def _end_of_log(connection: Connection) -> str:
    """The last lines of what cloud-init's programs wrote, or why they can't be had."""
    command = ["tail", "-n", str(_SHOWN_LINES), OUTPUT_LOG]
    try:
        # On most distributions only root may read it.
        read = run(connection, command, check=False, sudo=True, timeout=_LAST_WORDS)
        if read.returncode:
            read = run(connection, command, check=False, timeout=_LAST_WORDS)
    except GuestError as error:
        return f"(can't be read: {error})"
    return read.stdout or f"({read.stderr.strip()})" * bool(read.stderr)
