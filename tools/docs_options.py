"""Write the table of options in docs/reference/options.md anew: python tools/docs_options.py

The table is made from ``pytest_vbox.settings.OPTIONS``; a unit test compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pytest_vbox.settings import OPTIONS, Option

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "options.md"
_MARKED: Final = re.compile(r"(<!-- options, generated -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(page: str) -> str:
    """The page with the table between its marks made anew."""
    return _MARKED.sub(lambda match: f"{match[1]}{table()}\n{match[2]}", page)


def table() -> str:
    """A Markdown table with a row for each option."""
    rows = ["| option | ini key | environment | meaning |", "|---|---|---|---|"]
    for option in OPTIONS:
        ini = f"`{option.ini}`" if option.flag is not None else "none"
        rows.append(f"| {_flag(option)} | {ini} | `{option.environment}` | {_escaped(option.help)} |")
    return "\n".join(rows)


def _flag(option: Option) -> str:
    if option.flag is None:
        return "none"
    value = "{" + ",".join(option.choices) + "}" if option.choices else option.metavar
    return f"`{option.flag}={value}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
