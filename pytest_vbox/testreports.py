"""The last net: whatever a guest got into the report of a test, no terminal obeys it."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

from pytest_vbox.printable import printable

# What colours and underlines, as pytest's own differences are where it uses colours; but for hidden text.
_COLOUR: Final = re.compile(r"(\x1b\[(?!(?:[0-9;]*;)?0*8[;m])[0-9;]{0,20}m)")


def make_printable(report: pytest.TestReport, *, colours: bool) -> None:
    """Replace control characters by escapes in all that is shown of a test; nothing is left out.

    The objects that pytest shows a failure with stay, since it looks at their types; the texts in them change.

    Args:
        report: What pytest reports.
        colours: Whether pytest may have coloured it.
    """
    report.longrepr = _made_printable(report.longrepr, colours)
    report.sections = _made_printable(report.sections, colours)


def _made_printable(shown: Any, colours: bool) -> Any:
    if isinstance(shown, str):
        parts = _COLOUR.split(shown) if colours else [shown]
        # Every other part is a colour.
        return "".join(part if place % 2 else printable(part) for place, part in enumerate(parts))
    if type(shown) in {list, tuple}:
        return type(shown)(_made_printable(part, colours) for part in shown)
    if hasattr(shown, "toterminal"):
        # Past what a class may have against changes.
        fields = getattr(shown, "__dict__", {})
        fields |= {name: _made_printable(value, colours) for name, value in fields.items()}
    return shown
