"""Finds what is defined in the folders, and follows ``extends``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from pathlib import Path

from pytest_vbox.models import yamlfile
from pytest_vbox.models.fields import checked_name
from pytest_vbox.models.problems import Problem, shown, suggestion
from pytest_vbox.models.tree import Node, Origin, merge

BUILTIN = Path(__file__).with_name("builtin.yaml")

EXTENDS = "extends"
"""The key by which an entry inherits; the only one that isn't a model's field."""

SECTIONS: Mapping[str, str] = {"hardware": "hardware profile", "images": "image"}
"""The top-level keys of a file, and what one entry of each is called."""

_LONGEST_LINEAGE = 32


@dataclass(frozen=True, eq=False)
class Definition:
    """One entry of a file, as it is written there.

    Args:
        section: The top-level key it is under.
        name: Its name.
        node: Its keys, without ``extends``.
        parent: What it extends, ``None`` for nothing.
        earlier: The entry of the same name that it comes over, in an earlier folder.
    """

    section: str
    name: str
    node: Node
    parent: Node | None = None
    earlier: Definition | None = None


@dataclass
class Definitions:
    """All entries of all files.

    Args:
        entries: By section and name, the entry of the last folder.
        problems: What was wrong up to here.
        complete: Whether every file could be read, so that a name that isn't here is nowhere.
    """

    entries: dict[str, dict[str, Definition]] = field(default_factory=lambda: {name: {} for name in SECTIONS})
    problems: list[Problem] = field(default_factory=list)
    complete: bool = True

    def every(self, section: str) -> Iterator[Definition]:
        """Every entry of a section, those that another folder's comes over too."""
        for entry in self.entries[section].values():
            definition: Definition | None = entry
            while definition is not None:
                yield definition
                definition = definition.earlier

    def inherited(self, definition: Definition) -> tuple[Node, bool]:
        """The keys of an entry with all that it inherits.

        Returns:
            The keys, and whether they are all: not, if something is wrong with what it extends.
        """
        lineage = [definition]
        while (parent := lineage[-1].parent) is not None:
            ancestor = self._ancestor(lineage[-1], parent)
            if ancestor is None:
                return definition.node, False
            if ancestor in lineage:
                self.problems.append(_circle(lineage[lineage.index(ancestor) :]))
                return definition.node, False
            if len(lineage) == _LONGEST_LINEAGE:
                self.problems.append(
                    parent.origin.problem(f"more than {_LONGEST_LINEAGE} entries extend each other")
                )
                return definition.node, False
            lineage.append(ancestor)
        return reduce(merge, (ancestor.node for ancestor in reversed(lineage))), True

    def _ancestor(self, heir: Definition, parent: Node) -> Definition | None:
        """What an entry extends: under its own name the earlier folder's, else the one that the name means."""
        name = str(parent.value)
        if name == heir.name:
            if heir.earlier is None:
                self.problems.append(parent.origin.problem(f"extends itself: no earlier folder has a '{name}'"))
            return heir.earlier
        entries = self.entries[heir.section]
        # Where a file couldn't be read, the name may well be in it.
        if name not in entries and self.complete:
            others = [other for other in entries if other != heir.name]
            hint = suggestion(name, others, "there are:")
            self.problems.append(
                parent.origin.problem(f"there is no {SECTIONS[heir.section]} named {shown(name)}", hint)
            )
        return entries.get(name)


def collect(folders: Sequence[Path], required: Collection[Path] = ()) -> Definitions:
    """Reads the built-in profiles and all files of the folders.

    Args:
        folders: In the order in which they come over each other.
        required: Those of them that have to be there.
    """
    found = Definitions()
    found.entries["hardware"].update(_builtin())
    wanted = {_identity(folder) for folder in required}
    # A folder that is named twice (the project's, and by option) counts where it is named last.
    last = {_identity(folder): folder for folder in reversed(folders)}
    for folder in reversed(last.values()):
        _read_layer(_files(folder, found, is_required=_identity(folder) in wanted), found)
    return found


@cache
def _builtin() -> Mapping[str, Definition]:
    # They can't change while Python runs, and parsing them takes longer than all else about a small file.
    found = Definitions()
    _read_layer([BUILTIN], found)
    return found.entries["hardware"]


def _files(folder: Path, found: Definitions, *, is_required: bool) -> list[Path]:
    """The YAML files of a folder, sorted; hidden ones (of editors) left out."""
    try:
        names = sorted(folder.iterdir())
    except FileNotFoundError:
        if is_required:
            found.problems.append(Problem(folder, None, "", "there is no such folder"))
        return []
    except OSError as error:
        found.problems.append(Problem(folder, None, "", f"can't be read as a folder: {error.strerror or error}"))
        found.complete = False
        return []
    return [p for p in names if p.suffix in {".yaml", ".yml"} and not p.name.startswith(".") and p.is_file()]


def _read_layer(files: Sequence[Path], found: Definitions) -> None:
    """Adds the entries of one folder; within it, a name may be defined once."""
    layer: dict[tuple[str, str], Origin] = {}
    for file in files:
        root, problems = yamlfile.read(file)
        found.problems += problems
        found.complete &= root is not None or not problems
        if root is None or root.value is None:
            continue
        for definition in _entries(root, found.problems):
            first = layer.setdefault((definition.section, definition.name), definition.node.origin)
            if first is not definition.node.origin:
                message = (
                    f"the name is in this folder twice, first in {first.file and first.file.name}:{first.line}"
                )
                found.problems.append(definition.node.origin.problem(message))
                continue
            _add(definition, found.entries[definition.section])


def _add(definition: Definition, entries: dict[str, Definition]) -> None:
    earlier = entries.get(definition.name)
    entries[definition.name] = replace(definition, earlier=earlier)


def _entries(root: Node, problems: list[Problem]) -> Iterator[Definition]:
    if not isinstance(root.value, dict):
        problems.append(root.origin.problem(f"must be a mapping with {' and '.join(f'{s}:' for s in SECTIONS)}"))
        return
    for section, node in root.value.items():
        if section not in SECTIONS:
            hint = suggestion(section, SECTIONS, "the keys here are:")
            problems.append(node.origin.problem(f"unknown key {shown(section)}", hint))
        elif isinstance(node.value, dict):
            for name, entry in node.value.items():
                definition = _definition(section, name, entry, problems)
                if definition is not None:
                    yield definition
        elif node.value is not None:
            problems.append(node.origin.problem("must be a mapping from names to models"))


def _definition(section: str, name: str, entry: Node, problems: list[Problem]) -> Definition | None:
    try:
        checked_name(name)
    except ValueError as error:
        problems.append(entry.origin.problem(str(error)))
        return None
    # An entry without any key is written as a name alone.
    if entry.value is None:
        return Definition(section, name, Node({}, entry.origin))
    if not isinstance(entry.value, dict):
        problems.append(entry.origin.problem(f"must be a mapping of keys to values, not {shown(entry.value)}"))
        return None
    parent = entry.value.get(EXTENDS)
    own = Node({key: node for key, node in entry.value.items() if key != EXTENDS}, entry.origin)
    if parent is not None and not isinstance(parent.value, str | None):
        problems.append(parent.origin.problem(f"must be the name of one {SECTIONS[section]}"))
        parent = None
    return Definition(section, name, own, parent if parent and parent.value is not None else None)


def _circle(members: Sequence[Definition]) -> Problem:
    """What is said of entries that extend each other in a circle, whichever of them was looked at first."""
    start = min(range(len(members)), key=lambda position: _place(members[position]))
    first, *others = [*members[start:], *members[:start]]
    names = " → ".join(member.name for member in (first, *others, first))
    origin = first.parent.origin if first.parent else first.node.origin
    return origin.problem(f"extends itself in a circle: {names}")


def _identity(folder: Path) -> Path:
    return folder.absolute()


def _place(definition: Definition) -> tuple[str, int]:
    return str(definition.node.origin.file), definition.node.origin.line or 0
