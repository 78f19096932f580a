"""Reads one YAML file into a tree that knows the line of every key.

All scalars stay the text that was written, except null, true and false: what a text means is decided by the field
of the model. So a MAC address, a version or a password of digits loses no zero, and a password may be ``no``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from pytest_vbox.models.bounded_yaml import BoundedLoader, TooMuchError
from pytest_vbox.models.problems import Problem, shown
from pytest_vbox.models.tree import MAX_DEPTH, Node, Origin

MAX_BYTES = 1024 * 1024
"""Size of a file."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_SCALARS = {_TAG + name for name in ("str", "int", "float", "bool", "null")}
_BOOLEANS = {"true": True, "false": False}


class _Loader(BoundedLoader):
    """PyYAML's loader with YAML 1.2's short list of words that are not text, and with bounds."""

    most_levels = MAX_DEPTH
    # Empty, so that 1.1's resolvers (yes, no, 12:30, 0777, dates) are not inherited.
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own attribute, filled below


_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(_MERGE, re.compile(r"<<\Z"), ["<"])


def read(file: Path) -> tuple[Node | None, list[Problem]]:
    """Reads a file.

    Args:
        file: The YAML file; it is the origin of every node.

    Returns:
        The tree (``None`` if there is none to speak of), and what was wrong.
    """
    top = Origin(file, 1, "")
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return None, [Problem(file, None, "", f"can't be read: {error.strerror or error}")]
    if len(raw) > MAX_BYTES:
        return None, [Problem(file, None, "", f"larger than {MAX_BYTES // 1024} KiB")]
    try:
        return _parse(raw.decode("utf-8-sig"), top)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [Problem(file, line, "", "not UTF-8 text", "save the file as UTF-8")]


def _parse(text: str, top: Origin) -> tuple[Node | None, list[Problem]]:
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            return None, []
        builder = _Builder()
        return builder.build(root, top), builder.problems
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        return None, [Problem(top.file, line, "", message)]
    except yaml.MarkedYAMLError as error:
        return None, [_syntax_problem(error, top)]
    except (ValueError, OverflowError):
        # PyYAML's scanner trips over a few things itself, such as the escape "\U00110000" or a huge %YAML version.
        return None, [
            Problem(top.file, None, "", "not valid YAML: an escape or a directive with a number too large")
        ]


def _syntax_problem(error: yaml.MarkedYAMLError, top: Origin) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = error.problem or error.context or "not understood"
    message, hint = f"not valid YAML: {said}", ""
    if isinstance(error, TooMuchError):
        message = said
    elif "alias" in said or " tag " in said or "anchor" in said:
        # PyYAML repeats the name here, which may be the rest of a password that begins with *, ! or &.
        message = "not valid YAML: an alias, anchor or tag that isn't known or is there twice"
        hint = "put text that begins with *, & or ! in quotes"
    elif r"'\t'" in said:
        hint = "indent with spaces, not tabs"
    elif error.context and error.context_mark:
        message = f"{message} ({error.context} that began on line {error.context_mark.line + 1})"
    if mark is None:
        return Problem(top.file, None, "", message, hint)
    return Problem(top.file, mark.line + 1, "", message, hint, column=mark.column + 1)


class _Builder:
    """Makes the tree from PyYAML's nodes, and collects what is wrong on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, origin: Origin) -> Node:
        """The tree under one node; ``origin`` is that of its key."""
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return Node(self._mapping(node, origin), origin)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            items = enumerate(node.value)
            children = [self.build(item, origin.child(i, item.start_mark.line + 1)) for i, item in items]
            return Node(children, origin)
        if isinstance(node, ScalarNode) and (node.tag in _SCALARS or node.tag == _MERGE):
            return Node(self._scalar(node, origin), origin)
        # The tag isn't repeated: it may be the beginning of a password that was meant as text.
        message = "tags are not allowed"
        self.problems.append(origin.problem(message, "put text that begins with ! in quotes"))
        return Node(None, origin)

    def _scalar(self, node: ScalarNode, origin: Origin) -> object:
        text = str(node.value)
        if node.tag == _TAG + "null":
            return None
        if node.tag != _TAG + "bool":
            return text
        if text.lower() not in _BOOLEANS:
            self.problems.append(origin.problem(f"must be true or false, not {shown(text)}"))
        return _BOOLEANS.get(text.lower())

    def _mapping(self, node: MappingNode, origin: Origin) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for key, value in self._own_pairs(node, origin):
            line = key.start_mark.line + 1
            place = origin.child(key.value, line)
            if key.value in children:
                first = children[key.value].origin.line
                self.problems.append(place.problem(f"the key is here twice, first on line {first}"))
                continue
            children[key.value] = self.build(value, place)
        for key, value in self._merged_pairs(node, origin):
            if key.value not in children:
                place = origin.child(key.value, key.start_mark.line + 1)
                children[key.value] = self.build(value, place)
        return children

    def _own_pairs(self, node: MappingNode, origin: Origin) -> Iterator[tuple[ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                line = key.start_mark.line + 1
                self.problems.append(Origin(origin.file, line, origin.key).problem("a key must be text"))
            elif key.tag != _MERGE:
                yield key, value

    def _merged_pairs(self, node: MappingNode, origin: Origin) -> Iterator[tuple[ScalarNode, yaml.Node]]:
        """The pairs that YAML's merge key ``<<`` brings in, the stronger ones first."""
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(source, MappingNode):
                    place = origin.child("<<", key.start_mark.line + 1)
                    self.problems.append(place.problem("must be an alias of a mapping, such as <<: *name"))
                    continue
                yield from self._own_pairs(source, origin)
                yield from self._merged_pairs(source, origin)
