"""What can go wrong with a machine as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class MachineError(Exception):
    """Something a machine was asked for cannot be done. Says what to do instead."""


class BootError(MachineError):
    """A machine did not come up.

    Attributes:
        machine: Its name.
        phase: How far it came: ``launch``, ``forward``, ``network``, ``ssh`` or ``cloud-init``.
        seconds: How long that took.
        report: Everything that is known, for people.
        screenshot: Where its last picture was saved, if it could be taken.
    """

    def __init__(
        self, machine: str, phase: str, seconds: float, report: str, screenshot: Path | None = None
    ) -> None:
        super().__init__(report)
        self.machine = machine
        self.phase = phase
        self.seconds = seconds
        self.report = report
        self.screenshot = screenshot

    def __reduce__(self) -> tuple[Callable[..., BootError], tuple[object, ...]]:
        return type(self), (self.machine, self.phase, self.seconds, self.report, self.screenshot)
