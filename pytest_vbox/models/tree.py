"""Data that remembers where each part of it was written, through inheritance and merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pytest_vbox.models.problems import ModelError, Problem

MAX_DEPTH = 20
"""Levels of mappings and lists in each other; no model comes near it, and it ends what refers to itself."""

_ONE_VALUE = 100
"""Characters of text that count as one value."""

_LONGEST_PART = 100
"""Characters of one key in a key path, as it is shown."""


@dataclass(frozen=True)
class Origin:
    """Where something was written.

    Args:
        file: The YAML file, or ``None`` for what came from Python.
        line: Line in the file, from 1.
        key: Path of the key there.
    """

    file: Path | None
    line: int | None
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else self.key

    def child(self, part: str | int, line: int | None) -> Origin:
        """The origin of a key, or of a position in a list, below this one."""
        return Origin(self.file, line, join(self.key, part))

    def problem(self, message: str, hint: str = "", below: Sequence[str | int] = ()) -> Problem:
        """A problem at this place.

        Args:
            message: What is wrong.
            hint: The way out.
            below: Names the key meant, where it isn't written at all: parts of a path from here.
        """
        key = self.key
        for part in below:
            key = join(key, part)
        return Problem(self.file, self.line, key.removesuffix(": "), message, hint)


@dataclass(frozen=True)
class Node:
    """A value and its origin.

    Args:
        value: A ``dict`` of nodes, a ``list`` of nodes, or a scalar.
        origin: Where the key (in a list: the value) is.
    """

    value: object
    origin: Origin

    def child(self, part: str | int) -> Node | None:
        """The node under a key or at a position, ``None`` if there is none."""
        if isinstance(self.value, dict):
            found = self.value.get(part)
        elif isinstance(self.value, list) and isinstance(part, int) and part < len(self.value):
            found = self.value[part]
        else:
            found = None
        return found if isinstance(found, Node) else None

    def nearest(self, path: Sequence[str | int]) -> tuple[Node, Sequence[str | int]]:
        """The deepest node on the way down ``path``, and the part of the path that is missing below it."""
        node = self
        for position, part in enumerate(path):
            below = node.child(part)
            if below is None:
                return node, path[position:]
            node = below
        return node, ()


class FileText(str):
    """Text from a file, which remembers the folder: a relative path in it is resolved after merging."""

    __slots__ = ("folder",)
    folder: Path

    def __new__(cls, text: str, folder: Path) -> Self:
        self = super().__new__(cls, text)
        self.folder = folder
        return self


def join(key: str, part: str | int) -> str:
    """A key path with one more part: ``a.b``, ``a[0]``."""
    if isinstance(part, int):
        return f"{key}[{part}]"
    # A key can be any text; what would break the line or move the cursor is shown escaped.
    part = part if part and part.isprintable() else repr(part)
    part = part if len(part) <= _LONGEST_PART else f"{part[:_LONGEST_PART]}…"
    return f"{key}.{part}" if key and not key.endswith(": ") else f"{key}{part}"


def merge(base: Node, over: Node) -> Node:
    """``over`` laid over ``base``: mappings are merged key by key, anything else is replaced.

    A null stays in the result; ``plain`` is what drops it. So a null over a value takes the value back.
    """
    if not (isinstance(base.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, over.origin)


def size(node: Node) -> int:
    """How many keys and values there are in a tree; long text counts as several."""
    value = node.value
    if isinstance(value, dict):
        return 1 + sum(map(size, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(size, value))
    return 1 + len(value) // _ONE_VALUE if isinstance(value, str) else 1


def plain(node: Node) -> object:
    """The data alone, for validation; keys whose value is null are left out.

    Inside lists nulls stay: nothing is merged into a list, and there they have a meaning (an unused slot).
    """
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items() if child.value is not None}
    return _bare(node)


def from_python(value: object, origin: Origin) -> Node:
    """A tree for a value given in Python, such as overrides.

    Args:
        value: Mappings with text as keys, lists or tuples, and anything else as a scalar.
        origin: Where the value stands.

    Raises:
        ModelError: A key is not text, or the value is nested too deeply.
    """
    return _grown(value, origin, MAX_DEPTH)


def _grown(value: object, origin: Origin, depth: int) -> Node:
    if depth == 0:
        raise ModelError([origin.problem(f"nested more than {MAX_DEPTH} levels deep")])
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ModelError([origin.problem(f"a key must be text, not {key!r}")])
        children = {str(key): _grown(child, origin.child(key, None), depth - 1) for key, child in value.items()}
        return Node(children, origin)
    if isinstance(value, list | tuple):
        items = [_grown(child, origin.child(index, None), depth - 1) for index, child in enumerate(value)]
        return Node(items, origin)
    return Node(value, origin)


def _bare(node: Node) -> object:
    value = node.value
    if isinstance(value, dict):
        return {key: _bare(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_bare(child) for child in value]
    if isinstance(value, str) and node.origin.file is not None:
        return FileText(value, node.origin.file.parent.absolute())
    return value
