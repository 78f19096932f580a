"""Text from a guest, a server or a file, made safe for the terminal of whoever reads it."""

from __future__ import annotations

import re
import traceback
from typing import Final

# All that a terminal might act on, or that shows another text than there is: control characters but for tab and
# newline, the separators of lines and paragraphs, and those that turn the direction of writing or show nothing.
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_MOST: Final = 1000
# Links of a chain of causes that are looked at; no real one comes near it.
_LONGEST_CHAIN: Final = 50


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


class Foreign(Exception):
    """Stands for an exception of another library; its text is that one's type and text, made printable."""

    def __str__(self) -> str:
        return printable(super().__str__())


def stand_in(error: BaseException) -> Foreign:
    """An exception of ours that says what another one says, with its traceback.

    Args:
        error: Any exception.
    """
    notes = [str(note) for note in getattr(error, "__notes__", ())]
    told = Foreign("\n".join([f"{type(error).__name__}: {error}", *notes]))
    return told.with_traceback(error.__traceback__)


def harmless(error: BaseException) -> BaseException:
    """An exception as it may be the cause of another one, for pytest prints causes as they are.

    Where a text in the chain has something that a terminal would obey, that link is replaced by one with the same
    type's name, text and traceback; all the others stay what they are.

    Args:
        error: What is to stand behind ``from``.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain and len(chain) < _LONGEST_CHAIN:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    behind: BaseException | None = None
    for link in reversed(chain):
        told = "".join(traceback.format_exception_only(link))
        shown = link if printable(told) == told else stand_in(link)
        if link.__cause__ is not None:
            shown.__cause__ = behind
        elif behind is not None:
            shown.__context__ = behind
        behind = shown
    return behind or error


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
