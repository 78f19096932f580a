"""Text from a guest, made safe for the terminal of whoever reads it."""

from __future__ import annotations

import re
from typing import Final

# All that a terminal might act on, or that shows another text than there is: control characters but for tab and
# newline, the separators of lines and paragraphs, and those that turn the direction of writing or show nothing.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_MOST: Final = 1000


def printable(text: str) -> str:
    """A text with its control characters as escapes (``\\x1b``); lines and tabs stay.

    Args:
        text: Any text, of any length.
    """
    return _CONTROL.sub(_escape, text.replace("\r\n", "\n"))


def short(text: str, most: int = _MOST) -> str:
    """The same on one line and of a bounded length.

    Args:
        text: Any text.
        most: How many characters of it are shown at most.
    """
    shown = printable(text[:most]).replace("\n", "\\n").replace("\t", "\\t")
    left = len(text) - most
    return f"{shown}… ({left} more characters)" if left > 0 else shown


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
