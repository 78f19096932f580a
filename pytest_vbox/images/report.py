"""How far something that takes long has come."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Is told of progress, often."""

    def __call__(self, what: str, done: int, total: int | None, /) -> None:
        """Take note.

        Args:
            what: What is being done, such as ``download ubuntu.img``.
            done: How many bytes of it are done.
            total: How many there are, if that is known.
        """


def silent(what: str, done: int, total: int | None) -> None:
    """Take no note."""
