"""Steps that are run in a guest before a test gets it: an image's ``provision`` and ``on_fork``."""

from __future__ import annotations

from typing import Final

from pytest_vbox.files import check_regular
from pytest_vbox.guest import CommandError, CommandTimeout, GuestError
from pytest_vbox.machines.errors import StepError
from pytest_vbox.machines.machine import Machine
from pytest_vbox.models import ProvisionStep

_SCRIPT: Final = "/tmp/pytest-vbox-step"  # noqa: S108 - in a guest that nobody else is in


def run_step(
    machine: Machine, number: int, step: ProvisionStep, what_for: str, failure: type[StepError] = StepError
) -> None:
    """Run one step.

    Args:
        machine: Where; connected.
        number: Which one it is, from 1.
        step: What to run.
        what_for: ``provisioning``, or the image's key that it stands under, for the error.
        failure: The error to raise.

    Raises:
        StepError: It failed.
    """
    what = step.run if step.run is not None else f"the script {step.script}"
    command = step.run
    try:
        if step.script is not None:
            check_regular(step.script)
            machine.put(step.script, _SCRIPT)
            machine.run(f"chmod +x {_SCRIPT}")
            command = _SCRIPT
        machine.run(command or "", sudo=step.sudo, env=step.env, timeout=step.timeout)
        if step.script is not None:
            machine.run(f"rm -f {_SCRIPT}", sudo=step.sudo)
    except (CommandError, CommandTimeout, GuestError, OSError) as error:
        raise failure(
            f"image {machine.image}: step {number} of its {what_for} failed ({what}): {error}", number
        ) from error
