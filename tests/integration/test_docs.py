"""The pages' examples that are marked ``<!-- run -->``, as a reader runs them: one boot each."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    page.relative_to(ROOT).as_posix(): example
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for example in re.findall(r"<!-- run -->\n```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.usefixtures("vbox_host")
@pytest.mark.parametrize("page", EXAMPLES)
def test_an_example_does_what_its_page_says(suite: pytest.Pytester, page: str) -> None:
    example = EXAMPLES[page]
    path = suite.path / "test_example.py"
    path.write_text(example, encoding="utf-8")
    tests = example.count("def test_")
    if tests:
        suite.runpytest_subprocess("--vbox=require", "-W", "error").assert_outcomes(passed=tests)
    else:
        done = suite.run(sys.executable, "-W", "error", path)
        assert (done.ret, done.outlines[0]) == (0, "Linux")
