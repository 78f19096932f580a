"""Lists of sums as the world writes them."""

from __future__ import annotations

import pytest

from pytest_vbox.images import ImageError
from pytest_vbox.images.checksums import sum_for

A, B = "a" * 64, "B" * 64


@pytest.mark.parametrize(
    "listed",
    [
        f"{A}  disk.img\n{B}  other.img\n",
        f"{B} *other.img\n{A} *disk.img\n",
        f"{A}  ./sub/disk.img\n",
        f"SHA256 (disk.img) = {A}\n",
        f"# a comment\n\nHash: SHA256\n\n{A}  disk.img\r\n-----BEGIN PGP SIGNATURE-----\n",
        f"{A}\n",
        A.upper(),
    ],
)
def test_the_sum_of_a_file(listed: str) -> None:
    assert sum_for("disk.img", listed, "SHA256SUMS") == A


def test_a_file_that_is_not_listed() -> None:
    with pytest.raises(ImageError, match=r"^SHA256SUMS has no sum for 'disk.img'; it has: one.img, two.img$"):
        sum_for("disk.img", f"{A}  two.img\n{B}  one.img\n", "SHA256SUMS")


def test_the_names_in_a_list_are_shown_harmless_and_not_at_any_length() -> None:
    listed = "".join(f"{A}  \x1b]0;{number}\x07{'x' * 10_000}\n" for number in range(30))
    with pytest.raises(ImageError, match=r"it has: \\x1b\]0;0\\x07xxx") as caught:
        sum_for("disk.img", listed, "SHA256SUMS")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize("listed", ["", "<html>", f"{A[:32]}  disk.img", f"{A}\n{B}\n"])
def test_what_is_no_list(listed: str) -> None:
    with pytest.raises(ImageError, match="is no list of SHA-256 sums"):
        sum_for("disk.img", listed, "SHA256SUMS")


def test_the_name_in_another_folder_of_the_list_is_another_file() -> None:
    listed = f"{B}  old/disk.img\n{A}  ./disk.img\n"
    assert sum_for("disk.img", listed, "SHA256SUMS") == A
    assert sum_for("disk.img", f"{A}  a/disk.img\n{A}  b/disk.img\n", "SHA256SUMS") == A
    with pytest.raises(
        ImageError, match=r"^SHA256SUMS has 2 different sums for 'disk.img'; write the sum itself$"
    ):
        sum_for("disk.img", f"{A}  a/disk.img\n{B}  b/disk.img\n", "SHA256SUMS")
