"""What can go wrong with a machine as a whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_vbox.models import Problem
from pytest_vbox.printable import printable


class MachineError(Exception):
    """Something a machine was asked for cannot be done. Says what to do instead."""

    def __str__(self) -> str:
        return printable(super().__str__())


class StepError(MachineError):
    """A step that is run in a guest before a test gets it failed.

    Attributes:
        step: Which one, from 1.
    """

    def __init__(self, message: str, step: int = 0) -> None:
        super().__init__(message, step)
        self.step = step

    def __str__(self) -> str:
        return printable(str(self.args[0]))


class HardwareRefused(MachineError):
    """VirtualBox refused the value of a key of the hardware model. The machine is gone again.

    Attributes:
        problem: The key, where it is written, and what VirtualBox says.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


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
