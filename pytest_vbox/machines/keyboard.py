"""Text as the key strokes of a US keyboard: scan codes of set 1, each key pressed and let go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

_BREAK: Final = 0x80
_SHIFT: Final = 0x2A
_ROWS: Final = (
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1E, "asdfghjkl;'`", 'ASDFGHJKL:"~'),
    (0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
)
_CONTROLS: Final[Mapping[str, int]] = {"\n": 0x1C, "\r": 0x1C, "\t": 0x0F, "\b": 0x0E, "\x1b": 0x01, " ": 0x39}


def _keys() -> dict[str, tuple[int, bool]]:
    keys = {letter: (code, False) for letter, code in _CONTROLS.items()}
    for first, plain, shifted in _ROWS:
        for offset, (low, high) in enumerate(zip(plain, shifted, strict=True)):
            keys[low] = (first + offset, False)
            keys[high] = (first + offset, True)
    return keys


_KEYS: Final = _keys()


def scancodes(text: str) -> Iterator[int]:
    """The scan codes that type a text.

    Raises:
        ValueError: The text has a character that a US keyboard cannot type.
    """
    for letter in text:
        if letter not in _KEYS:
            raise ValueError(f"a US keyboard cannot type {letter!r}")
        code, shifted = _KEYS[letter]
        if shifted:
            yield _SHIFT
        yield code
        yield code | _BREAK
        if shifted:
            yield _SHIFT | _BREAK
