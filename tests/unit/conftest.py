"""For all unit tests: nothing of this computer's VirtualBox, nothing of its user's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from unit.kit.descriptions import NEWEST
from unit.kit.service import FakeService

# The same few examples in every run. Many, and others each time: `make fuzz`, or --hypothesis-profile=fuzz.
settings.register_profile(
    "quick",
    max_examples=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", max_examples=5000, derandomize=False, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True, scope="session")
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of its own for the tests, and no setting from outside."""
    with pytest.MonkeyPatch.context() as patch:
        home = str(tmp_path_factory.mktemp("home"))
        for variable in ("HOME", "USERPROFILE"):
            patch.setenv(variable, home)
        for variable in os.environ:
            if variable.startswith(("PYTEST_VBOX_", "XDG_")):
                patch.delenv(variable)
        yield


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def _services() -> Iterator[Callable[[str], FakeService]]:
    running: dict[str, FakeService] = {}
    with ExitStack() as stack:

        def service(version: str) -> FakeService:
            if version not in running:
                running[version] = stack.enter_context(FakeService(version))
            return running[version]

        yield service


@pytest.fixture
def service_of(_services: Callable[[str], FakeService]) -> Callable[[str], FakeService]:
    """Gives VirtualBox's web service, of some version, to be filled by the test."""

    def service(version: str) -> FakeService:
        found = _services(version)
        found.reset()
        return found

    return service


@pytest.fixture
def service(service_of: Callable[[str], FakeService]) -> FakeService:
    """The web service of the newest VirtualBox."""
    return service_of(NEWEST)
