"""Which key of a model VirtualBox refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_vbox.machines.errors import HardwareRefused
from pytest_vbox.models import MachineModel
from pytest_vbox.virtualbox.errors import InvalidObjectReference, ServiceUnavailable, VirtualBoxError


class Keys:
    """The keys of a machine's model, and where they are written.

    Args:
        model: The model.
    """

    def __init__(self, model: MachineModel) -> None:
        self._model = model

    @contextmanager
    def of(self, *path: str | int) -> Iterator[None]:
        """Whatever VirtualBox refuses in the block is the fault of this key.

        Args:
            path: Leads to the key, such as ``"network", 0, "adapter_type"``.

        Raises:
            HardwareRefused: VirtualBox refused something.
        """
        try:
            yield
        except (ServiceUnavailable, InvalidObjectReference):
            raise  # that is nobody's key
        except VirtualBoxError as error:
            raise HardwareRefused(self._model.problem(path, f"VirtualBox refuses it: {error.text}")) from error
