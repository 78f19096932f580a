"""What can go wrong with an image's disk."""

from __future__ import annotations

from pytest_vbox.printable import printable


class ImageError(Exception):
    """An image cannot be used. Says which file, why, and the way out."""

    def __str__(self) -> str:
        return printable(super().__str__())
