"""Reads the project's Markdown pages, as far as the tests need."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"

_FENCE = re.compile(r" *```(?P<language>[\w-]*)$")
_COMMENT = re.compile(r" *<!-- (?P<text>.*) -->$")
_HEADING = re.compile(r"#+ (?P<text>.+)$")
_LINK = re.compile(r"!?\[(?:[^][]|\[[^]]*\])*\]\((?P<target>[^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page it is on, from the root.
        line: The line its text begins at.
        language: The word after the fence.
        comment: What the HTML comment in the line before says, or an empty string.
        text: Its text, without the indentation that it has as a whole.
    """

    page: str
    line: int
    language: str
    comment: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[Path, ...]:
    """All pages."""
    return (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "examples/README.md", *sorted(DOCS.rglob("*.md")))


@cache
def blocks(language: str) -> tuple[Block, ...]:
    """All fenced blocks in a language."""
    return tuple(block for page in pages() for block in _blocks(page) if block.language == language)


def headings(page: Path) -> list[str]:
    """The texts of a page's headings, as they are written."""
    return [match["text"] for line in _prose(page) if (match := _HEADING.match(line))]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in headings(page):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(
            next(f"{name}{end}" for end in ("", *(f"-{n}" for n in range(1, 99))) if f"{name}{end}" not in found)
        )
    return found


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    return [match["target"] for line in _prose(page) for match in _LINK.finditer(line)]


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of whatever level."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.lstrip("#").strip() == heading and line.startswith("#"))
    end = next((i for i in range(start + 1, len(lines)) if _HEADING.match(lines[i])), len(lines))
    return "\n".join(lines[start + 1 : end])


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start, language = 0, None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if language is None:
            start, language = number, fence["language"]
            continue
        assert not fence["language"], f"{page}:{number + 1}: a block begins inside of a block"
        comment = _COMMENT.match(lines[start - 1])
        text = textwrap.dedent("".join(f"{inner}\n" for inner in lines[start + 1 : number]))
        name = page.relative_to(ROOT).as_posix()
        yield Block(name, start + 2, language, comment["text"] if comment else "", text)
        language = None
    assert language is None, f"{page}:{start + 1}: this block has no end"


def _prose(page: Path) -> Iterator[str]:
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield line
