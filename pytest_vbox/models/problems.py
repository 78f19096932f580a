"""What is wrong with a model: where, which key, what, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_vbox.printable import printable, short
from pytest_vbox.secret import without_credentials

_LONGEST_PATH = 4096

_LONGEST_SHOWN = 60
"""Characters of a user's own text repeated in a message."""

MOST_PROBLEMS = 100
"""Problems that are looked for; nobody reads more at once, and each has a hint that is sought among all names."""

_MOST_LISTED = 30
"""Candidates that are listed in a message."""

_SHORTEST_STEM = 3
"""Characters of a word that is taken for the beginning of a longer one, such as ``mac`` for ``mac_address``."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        file: The YAML file, or ``None`` where no file is to blame (an override, an unknown name).
        line: Line in the file, from 1.
        key: Path of the key, such as ``images.ubuntu.disk`` or ``hardware.a.network[0].enabled``; may be empty.
        message: What is wrong, in one line.
        hint: What to do about it; may be empty.
        column: Column in the line, from 1; only for YAML syntax errors.
    """

    file: Path | None
    line: int | None
    key: str
    message: str
    hint: str = ""
    column: int | None = None

    def __str__(self) -> str:
        # A file has any name, and what is wrong with a key may be told by somebody else.
        file = short(str(self.file), _LONGEST_PATH) if self.file is not None else None
        place = ":".join(str(part) for part in (file, self.line, self.column) if part is not None)
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        return printable(f"{text}; {self.hint}" if self.hint else text)


class ModelError(Exception):
    """The models can't be used as they are written.

    Args:
        problems: All that was found wrong, in the order in which it is to be shown; at least one.
    """

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        # The problems are the only argument, so that the error survives the way from an xdist worker.
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = [f"{len(self.problems)} problems in the hardware and image models:"]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant, or ``None``.

    Args:
        word: What was written.
        candidates: What may be written.
    """
    # Beyond any real name, and comparing costs the product of the lengths.
    if len(word) > _LONGEST_SHOWN:
        return None
    folded, by_folded = _folded(word), {_folded(candidate): candidate for candidate in candidates}
    close = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    if not close and len(folded) >= _SHORTEST_STEM:
        close = [candidate for candidate in by_folded if candidate.startswith(folded)][:1]
    return by_folded[close[0]] if close else None


def suggestion(word: str, candidates: Iterable[str], otherwise: str) -> str:
    """A hint for a word that is none of the candidates: the nearest one, else all of them.

    Args:
        word: What was written.
        candidates: What may be written.
        otherwise: Introduces the list of all candidates, where none is near.
    """
    names = list(candidates)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean '{near}'?"
    if len(names) > _MOST_LISTED:
        return f"there are {len(names)}; `pytest-vbox schema` and the reference page list them"
    return f"{otherwise} {', '.join(names)}" if names else ""


def shown(value: object) -> str:
    """A user's value as it is repeated in a message: on one line, quoted, and not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str) and "://" in value:
        value = without_credentials(value)
    # str() first: a subclass of str may have a repr of its own.
    text = repr(str(value)) if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _folded(name: str) -> str:
    return name.casefold().replace("_", "-")
