"""PyYAML's loader, kept from what would take for ever: nested, repeated or merged without measure."""

from __future__ import annotations

from typing import ClassVar

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

MAX_NODES = 20_000
"""Keys and values of a text; its values are counted again wherever an alias, or a merge, repeats them."""


class TooMuchError(yaml.MarkedYAMLError):
    """A bound was exceeded; the rest of the text isn't looked at."""

    def __init__(self, message: str, mark: yaml.Mark) -> None:
        super().__init__(problem=message, problem_mark=mark)


class BoundedLoader(yaml.SafeLoader):
    """A safe loader with bounds.

    While nodes are composed, since that recurses; and once more with all that aliases repeat, before anything is
    made of them: releases of PyYAML differ in what a merge of merges costs them.

    Args:
        text: The YAML.
    """

    #: Levels of mappings and lists in each other.
    most_levels: ClassVar[int]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        """One node with all below it."""
        self._depth += 1
        self._nodes += 1
        event = self.peek_event()  # type: ignore[no-untyped-call] # of the stubs
        self._check(self._depth, event.start_mark)
        try:
            return super().compose_node(parent, index)  # type: ignore[arg-type] # the stubs narrow the index
        finally:
            self._depth -= 1

    def get_single_node(self) -> yaml.Node | None:
        """The root of the only document."""
        root = super().get_single_node()
        if root is not None:
            self._nodes = 0
            self._measure(root, 1)
        return root

    def _measure(self, node: yaml.Node, depth: int) -> None:
        """Count a node with all below it, wherever else it was counted already."""
        self._nodes += 1
        self._check(depth, node.start_mark)
        if isinstance(node, SequenceNode):
            for item in node.value:
                self._measure(item, depth + 1)
        elif isinstance(node, MappingNode):
            for key, value in node.value:
                if not isinstance(key, ScalarNode):
                    self._measure(key, depth + 1)
                self._measure(value, depth + 1)

    def _check(self, depth: int, mark: yaml.Mark) -> None:
        if depth > self.most_levels:
            message = f"nested more than {self.most_levels} levels deep, or an anchor that contains itself"
            raise TooMuchError(message, mark)
        if self._nodes > MAX_NODES:
            raise TooMuchError(f"more than {MAX_NODES} keys and values, counting what aliases repeat", mark)
