"""The page of promises is true to its data, and names tests that exist."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from .pages import ROOT


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reliability", ROOT / "tools" / "reliability.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reliability"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_data_say(tool: ModuleType) -> None:
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(tool.load())


def test_each_promise_was_tried_by_tests_that_exist_and_nothing_was_left(tool: ModuleType) -> None:
    promises = tool.load()
    assert len(promises) > 10
    for promise in promises:
        assert promise["times"] > 0, promise
        assert promise["left"] == 0, promise
        assert promise["tests"], promise
        for test in promise["tests"]:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test
