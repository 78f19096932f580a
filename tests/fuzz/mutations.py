"""Inputs made from others, where atheris is not installed: without looking at which branches they reach."""

from __future__ import annotations

import random
from collections.abc import Sequence

_NUMBERS = (
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_LONGEST = 64 * 1024


def mutated(data: bytes, others: Sequence[bytes], words: Sequence[bytes], dice: random.Random) -> bytes:
    """An input with a few changes.

    Args:
        data: The input.
        others: More inputs, of which parts may be taken.
        words: What stands in inputs.
        dice: Decides.
    """
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 5, 8))):
        _change(changed, others, words, dice)
    return bytes(changed[:_LONGEST])


def _change(data: bytearray, others: Sequence[bytes], words: Sequence[bytes], dice: random.Random) -> None:
    begin = dice.randint(0, len(data))
    end = min(len(data), begin + dice.choice((0, 1, 2, 4, 8, 32, 512)))
    match dice.randrange(8):
        case 0 if data:
            data[begin % len(data)] ^= 1 << dice.randrange(8)
        case 1:
            data[begin:end] = b""
        case 2:
            data[begin:begin] = data[begin:end] * dice.choice((1, 2, 30, 1000))
        case 3 if words:
            data[begin : dice.choice((begin, end))] = dice.choice(words)
        case 4:
            size = dice.choice((1, 2, 4, 8))
            number = dice.choice(_NUMBERS) % 256**size
            data[begin : begin + size] = number.to_bytes(size, dice.choice(("big", "little")))
        case 5:
            number = dice.choice((*_NUMBERS, -1))
            data[begin:end] = (b"%o" if dice.random() < 0.3 else b"%d") % number
        case 6 if others:
            other = dice.choice(others)
            start = dice.randint(0, len(other))
            data[begin:end] = other[start : start + dice.choice((1, 16, 512, 4096))]
        case _:
            data[begin:end] = dice.randbytes(max(1, end - begin))
