"""Names that are safe in paths, shells and terminals, whatever a test is called."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vbox.machines.plan import machine_name, safe_name


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ("test_install", "test_install"),
        ("test_install[debian-12]", "test_install-debian-12"),
        ("tests/test_a.py::TestB::test_c[x y]", "tests-test_a-py-TestB-test_c-x-y"),
        ("../../x", "x"),
        ("..\\..\\x", "x"),
        ("/etc/passwd", "etc-passwd"),
        ("-rf", "rf"),
        ("a\0b\x1b[2Jc\r\nd", "a-b-2Jc-d"),
        ("test_🦆_ü", "test_-_"),
        ("$(reboot); `x` 'y' \"z\" & | > < * ?", "reboot-x-y-z"),
        ("x" * 300, "x" * 48),
        ("a" * 300 + "-the-end", "a" * 40 + "-the-end"),
        ("", ""),
        ("...", ""),
        ("🦆", ""),
    ],
)
def test_as_much_of_a_wish_as_is_safe_is_kept(wish: str, kept: str) -> None:
    assert safe_name(wish) == kept


@given(st.text(max_size=400))
def test_any_text_becomes_one_part_of_a_path(wish: str) -> None:
    name = machine_name(wish)
    assert re.fullmatch(r"pytest-[A-Za-z0-9_][A-Za-z0-9_-]*-[0-9a-f]{8}", name)
    assert len(name) <= 64
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)


def test_the_same_wish_gives_another_name_each_time() -> None:
    assert len({machine_name("test_one") for _ in range(50)}) == 50


def test_a_wish_of_which_nothing_is_left_still_gives_a_name() -> None:
    assert machine_name("🦆").startswith("pytest-machine-")
