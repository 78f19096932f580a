"""Links between pages lead somewhere, and every page can be found."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from .pages import DOCS, ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_and_a_heading_in_it(page: Path) -> None:
    wrong = [link for link in links(page) if not urlsplit(link).scheme and not _leads_somewhere(page, link)]
    assert wrong == []


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target)


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_readme_leads_to_each_page(page: Path) -> None:
    assert page.relative_to(ROOT).as_posix() in links(ROOT / "README.md")


def test_the_picture_has_words_for_those_who_do_not_see_it_and_colours_for_dark_pages() -> None:
    svg = "{http://www.w3.org/2000/svg}"
    picture = ElementTree.parse(DOCS / "picture.svg").getroot()  # noqa: S314 - our own file
    assert picture.findtext(f"{svg}title")
    assert picture.findtext(f"{svg}desc")
    assert "prefers-color-scheme: dark" in (picture.findtext(f"{svg}style") or "")
