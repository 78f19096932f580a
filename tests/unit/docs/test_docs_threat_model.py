"""Each promise of the threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from .pages import DOCS, ROOT

PAGE = (DOCS / "explanation" / "threat-model.md").read_text(encoding="utf-8")
_TEST = re.compile(r"`(tests/[\w/.-]+\.py)::(test_\w+)`")


def _promises() -> list[tuple[str, str]]:
    """The rows of the tables of promises: what, and the cell with the tests."""
    rows = []
    for table in re.findall(r"^\| promise \| shown by \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for line in table.splitlines():
            promise, tests = line.strip("|").rsplit("|", 1)
            rows.append((promise.strip(), tests.strip()))
    return rows


def test_each_promise_names_a_test() -> None:
    promises = _promises()
    assert len(promises) > 20
    assert [promise for promise, tests in promises if not _TEST.search(tests)] == []
    # Nothing in those cells but tests: a word that was misspelled would be taken for none.
    assert [tests for _, tests in promises if _TEST.sub("", tests).strip(", ")] == []


def test_each_test_that_is_named_exists() -> None:
    assert [f"{file}::{name}" for file, name in _TEST.findall(PAGE) if not _is_there(ROOT / file, name)] == []


def _is_there(file: Path, name: str) -> bool:
    return file.is_file() and f"\ndef {name}(" in file.read_text(encoding="utf-8")
