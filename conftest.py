"""What all tests share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down what passed, and how many times it tried what it is about; see tools/reliability.py."""
    record = os.environ.get("RELIABILITY")
    if record is None or report.when != "call" or not report.passed or "PYTEST_XDIST_WORKER" in os.environ:
        return
    times = dict(report.user_properties).get("times", 1)
    with Path(record).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test": report.nodeid, "times": times}) + "\n")
