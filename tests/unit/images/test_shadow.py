"""SHA-512 crypt: its specification's test vector with the usual number of rounds, and glibc's answers."""

from __future__ import annotations

import pytest

from pytest_vbox.images.shadow import hashed_password


@pytest.mark.parametrize(
    ("password", "salt", "expected"),
    [
        (
            "Hello world!",
            "saltstring",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "",
            "a",
            "$6$a$Z6IPkDduHdwavesVY2NFMpOHkigshxPYdhfLg0D3A7/XFQcso9RV2E8qczyJ2su.dj6RRLaTpvgwN1rZfK0I9.",
        ),
        (
            "x" * 200,
            "abcdefghijklmnopq",
            "$6$abcdefghijklmnop$NQmdZYyTZiBzxauWT51pbz4CykfZ5QuZjUyYs6SQHccQfiPrjNLaM6yE6kW1wImO/6eb0E1euwuEI0mUEI7IE0",
        ),
        (
            "päss",
            "..",
            "$6$..$eHnoZ93STYDZb6J0cPWUhxQ3Pl3P23Y0Gg4f.WNZnl9dcXbyKMuseX/5QE/1tMKgafsIt0A6/0wXNL1lm7Qr7/",
        ),
    ],
)
def test_hashes(password: str, salt: str, expected: str) -> None:
    assert hashed_password(password, salt) == expected


def test_each_hash_has_a_salt_of_its_own() -> None:
    first, second = hashed_password("same"), hashed_password("same")
    assert first != second
    assert hashed_password("same", first.split("$")[2]) == first
