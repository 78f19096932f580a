"""Every reader of what others wrote, with a few inputs of the many that `python -m tests.fuzz` gives it."""

from __future__ import annotations

import random
import tempfile
from functools import cache
from pathlib import Path

import pytest
from fuzz.mutations import mutated
from fuzz.targets import TARGETS, Target, load, words
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

# Not `qemu`, which starts a program for each input.
READERS = [name for name in TARGETS if name != "qemu"]


@cache
def _seeds(name: str) -> list[bytes]:
    return list(load(name).seeds())


def _give(target: Target, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target.run(data, Path(folder))


@pytest.mark.parametrize("name", READERS)
def test_what_is_valid_is_read(name: str) -> None:
    for seed in _seeds(name):
        _give(load(name), seed)


@pytest.mark.parametrize("name", READERS)
@given(dice=st.randoms(use_true_random=False))
def test_whatever_is_changed_of_it_raises_nothing_but_our_own_errors(name: str, dice: random.Random) -> None:
    seeds = _seeds(name)
    _give(load(name), mutated(dice.choice(seeds), seeds, words(load(name)), dice))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"\xff\xfe", b"[" * 5000, b'{"a":' * 5000, b"<a>" * 5000, b"\n" * 20_000, b"1" * 20_000],
    ids=["nothing", "nul", "noise", "lists", "mappings", "elements", "lines", "digits"],
)
def test_the_usual_suspects_raise_nothing_but_our_own_errors(name: str, data: bytes) -> None:
    _give(load(name), data)
