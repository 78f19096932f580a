"""Text as key strokes."""

from __future__ import annotations

import string
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vbox.machines.keyboard import scancodes

TYPABLE: Final = string.ascii_letters + string.digits + string.punctuation + " \n\t"


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("", []),
        ("a", [0x1E, 0x9E]),
        ("A", [0x2A, 0x1E, 0x9E, 0xAA]),
        ("\n", [0x1C, 0x9C]),
        ("\r", [0x1C, 0x9C]),
        ("\t", [0x0F, 0x8F]),
        ("\b", [0x0E, 0x8E]),
        ("\x1b", [0x01, 0x81]),
        (" ", [0x39, 0xB9]),
        ("1!", [0x02, 0x82, 0x2A, 0x02, 0x82, 0xAA]),
        ("0)", [0x0B, 0x8B, 0x2A, 0x0B, 0x8B, 0xAA]),
        ("=+", [0x0D, 0x8D, 0x2A, 0x0D, 0x8D, 0xAA]),
        ("[p", [0x1A, 0x9A, 0x19, 0x99]),
        ("`'", [0x29, 0xA9, 0x28, 0xA8]),
        ("\\|", [0x2B, 0xAB, 0x2A, 0x2B, 0xAB, 0xAA]),
        ("z/?", [0x2C, 0xAC, 0x35, 0xB5, 0x2A, 0x35, 0xB5, 0xAA]),
    ],
)
def test_codes_are_those_of_a_us_keyboard(text: str, codes: list[int]) -> None:
    assert list(scancodes(text)) == codes


def test_everything_on_a_us_keyboard_can_be_typed_and_is_another_key() -> None:
    assert len({tuple(scancodes(letter)) for letter in TYPABLE}) == len(TYPABLE)


@given(st.text(TYPABLE))
def test_every_key_that_is_pressed_is_let_go(text: str) -> None:
    pressed: list[int] = []
    for code in scancodes(text):
        if code & 0x80:
            pressed.remove(code & 0x7F)
        else:
            pressed.append(code)
    assert pressed == []


@pytest.mark.parametrize("text", ["ü", "a🦆", "\x00", "\x7f"])
def test_what_cannot_be_typed_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="cannot type") as caught:
        list(scancodes(text))
    assert repr(text[-1]) in str(caught.value)
