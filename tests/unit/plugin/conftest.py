"""Suites as a user writes them, run with and without a VirtualBox that is made up."""

from __future__ import annotations

import os

import pytest

# Imported here since pytester forgets what was first imported in an inner run, which would have to load it again.
from pytest_vbox import hosts
from pytest_vbox.service import VirtualBoxNotFound, endpoint

from .fake_host import FakeHost

BROKEN = "hardware:\n  small: {memory: 512}\n  large:\n    memroy: 4096\n"


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty suite on a computer that has no VirtualBox."""
    for variable in os.environ:
        if variable.startswith("PYTEST_XDIST"):
            monkeypatch.delenv(variable)
    # Hypothesis' own plugin would be loaded, whole, in every inner run.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")

    def nowhere() -> None:
        raise VirtualBoxNotFound("no VirtualBox found on this computer. Install it")

    monkeypatch.setattr(endpoint, "find_installation", nowhere)
    monkeypatch.setattr(endpoint, "answers", lambda *_: False)
    return pytester


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A VirtualBox that lets everything happen."""
    made = FakeHost()
    monkeypatch.setattr(hosts, "connect_host", made.connect)
    return made


@pytest.fixture
def broken_yaml(suite: pytest.Pytester) -> str:
    """A file in ``profiles/`` with a mistake in line 4. What the complaint begins with."""
    folder = suite.mkdir("profiles")
    (folder / "models.yaml").write_text(BROKEN)
    return f"{folder / 'models.yaml'}:4"
