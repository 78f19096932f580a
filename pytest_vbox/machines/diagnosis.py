"""What a machine shows when something went wrong: its state, screen, serial console and VBox.log."""

from __future__ import annotations

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines.configure.ports import SERIAL_LOGS
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.power import PATIENCE, console, settled_state
from pytest_vbox.printable import printable
from pytest_vbox.virtualbox import Machine, WebSession
from pytest_vbox.virtualbox.enums import MachineState
from pytest_vbox.virtualbox.errors import VirtualBoxError

logger = logging.getLogger(__name__)

_LOG_CHUNK: Final = 256 * 1024
_LOG_LIMIT: Final = 8 * 1024 * 1024
_SERIAL_LIMIT: Final = 8 * 1024 * 1024
_LINES: Final = 15
# A VDI becomes larger by whole blocks of so many bytes.
_VDI_GROWS: Final = 1024 * 1024
# In VBox.log: why VirtualBox stopped a machine by itself, and that it let it go on.
_STOPPED: Final = "VM runtime error: "
_WHY: Final = re.compile(r'errorID=(\S{1,100}) message="?(.*)')
_WENT_ON: Final = re.compile(r"Changing the VM state from '\w+' to 'RUNNING'")


@dataclass(frozen=True)
class Diagnosis:
    """What could be found out; what could not is empty."""

    state: str
    screenshot: bytes
    serial: str
    log: str

    def save(self, folder: Path) -> list[Path]:
        """Write what there is into a folder, and return the files; what cannot be written is left out."""
        files: list[Path] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in (
                ("screenshot.png", self.screenshot),
                ("serial.log", self.serial.encode()),
                ("VBox.log", self.log.encode()),
            ):
                if content:
                    (folder / name).write_bytes(content)
                    files.append(folder / name)
        except OSError as error:
            # What went wrong with the machine is what the reader has to see, not this.
            logger.warning("cannot save what a machine showed: %s", error)
        return files

    def text(self) -> str:
        """The last lines of each log, for an error message."""
        return "\n".join(
            (
                f"machine state: {self.state}",
                *_tail(
                    "serial console",
                    self.serial,
                    "it said nothing; does the guest have a console on its first port?",
                ),
                *_tail("VBox.log", self.log, "there is none"),
            )
        )


def diagnose(session: WebSession, machine: Machine, *, local: bool, booted_as: Machine | None = None) -> Diagnosis:
    """Find out what a machine shows. Never fails: what cannot be had is left empty.

    Args:
        session: The connection to VirtualBox.
        machine: A registered machine, in any state.
        local: Whether its files are on this computer.
        booted_as: The machine that its guest was booted in, if this is a fork of it.
    """
    try:
        state = settled_state(session, machine)
    except VirtualBoxError as error:
        return Diagnosis(f"unknown ({error})", b"", "", "")
    return Diagnosis(
        str(state),
        _try_screenshot(session, machine, state),
        serial_log(machine, booted_as) if local else "",
        vbox_log(machine).decode(errors="replace"),
    )


def screenshot(session: WebSession, machine: Machine) -> bytes:
    """A PNG of the first screen of a machine that runs.

    Raises:
        VirtualBoxError: There is no picture, for example since the machine is off.
    """
    with console(session, machine, Deadline(PATIENCE)) as running:
        display = running.display
        width, height = display.get_screen_resolution()
        return display.take_screen_shot_to_array(0, width, height)


def serial_log(machine: Machine, booted_as: Machine | None = None) -> str:
    """What the guest said on its first serial port, at most the last 8 MiB; control characters are shown.

    Args:
        machine: The machine, on this computer.
        booted_as: The machine that its guest was booted in, if this is a fork of it.
    """
    return (_serial_log(booted_as) if booted_as is not None else "") + _serial_log(machine)


def _serial_log(machine: Machine) -> str:
    try:
        folder = Path(machine.settings_file_path).parent
        path = next((log for name in SERIAL_LOGS if (log := folder / name).is_file()), folder / SERIAL_LOGS[0])
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, size - _SERIAL_LIMIT))
            raw = file.read(_SERIAL_LIMIT)
    except (OSError, VirtualBoxError):
        return ""
    return printable(raw.decode(errors="replace"))


def vbox_log(machine: Machine, offset: int = 0) -> bytes:
    """VBox.log of the newest start, from a byte on; empty if there is none."""
    log = bytearray()
    try:
        while len(log) < _LOG_LIMIT and (chunk := machine.read_log(0, offset + len(log), _LOG_CHUNK)):
            log += chunk
    except VirtualBoxError:
        logger.debug("no VBox.log", exc_info=True)
    return bytes(log)


def check_not_stopped(machine: Machine, state: MachineState, *, local: bool) -> None:
    """See that VirtualBox has not paused a machine by itself, as it does when it cannot write to its disk.

    Args:
        machine: A machine that runs.
        state: Its state.
        local: Whether its files are on this computer.

    Raises:
        MachineError: It has; with VirtualBox's own words.
    """
    if state is not MachineState.PAUSED:
        return
    # The guest can have lines written there, too.
    log = printable(vbox_log(machine).decode(errors="replace"))
    since = max((found.end() for found in _WENT_ON.finditer(log)), default=0)
    reasons = _reasons(log, since)
    if not reasons and local and _is_full(Path(machine.snapshot_folder)):
        # VBox.log is on the same disk, and ends before it would say so.
        reasons = ["No space left on device, not even for VBox.log"]
    if reasons:
        raise MachineError(
            f"VirtualBox has paused {machine.name} by itself: {reasons[-1]}. It goes on with resume(), once that "
            "is mended"
        )


def _reasons(log: str, since: int = 0) -> list[str]:
    """Why VirtualBox stopped the machine, in its own words, each time that it did.

    By lines, of which each is searched once: on one the guest may have written anything.
    """
    reasons = []
    for line in log[since:].split("\n"):
        why = _WHY.search(line.partition(_STOPPED)[2])
        if why is not None:
            words = why[2].removesuffix('"')
            reasons.append(f"{words} ({why[1]})")
    return reasons


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _VDI_GROWS
    except OSError:
        return False


def _try_screenshot(session: WebSession, machine: Machine, state: MachineState) -> bytes:
    if not state.is_online:
        return b""
    try:
        return screenshot(session, machine)
    except VirtualBoxError:
        logger.debug("no screenshot", exc_info=True)
        return b""


def _tail(name: str, text: str, otherwise: str) -> list[str]:
    # VirtualBox's own log has lines that the guest wrote, too.
    lines = [printable(line.rstrip()) for line in text.split("\n") if line.strip()]
    if not lines:
        return [f"{name}: {otherwise}"]
    return [f"{name}, last lines:", *(f"    {line[:200]}" for line in lines[-_LINES:])]
