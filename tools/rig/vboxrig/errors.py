"""What can go wrong, as one line for a person and an exit code for a script."""

from __future__ import annotations


class RigError(Exception):
    """Something failed; the message is one line, `details` are lines shown under it (a log's tail)."""

    exit_code = 1

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details.rstrip()


class NotUsableError(RigError):
    """This computer cannot carry a rig as it is: not root, not Debian, no disk, no right to mount."""

    exit_code = 3


class BuildError(RigError):
    """A step of a recipe failed: a package that cannot be fetched, a compiler error."""

    exit_code = 4


class ProcessDiedError(RigError):
    """A process of the rig ended, or did not come up in time."""

    exit_code = 5


class RigDownError(RigError):
    """The command needs a rig that is up."""

    exit_code = 6
