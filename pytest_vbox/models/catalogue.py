"""All images and hardware profiles that there are, and the machines that they make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel

from pytest_vbox.models.definitions import EXTENDS, SECTIONS, Definitions, collect
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import Image
from pytest_vbox.models.machine import MachineModel
from pytest_vbox.models.problems import MOST_PROBLEMS, ModelError, Problem, suggestion
from pytest_vbox.models.selection import select_image, select_profile
from pytest_vbox.models.tree import Node, Origin, from_python, merge, size
from pytest_vbox.models.validation import validate

DEFAULT_PROFILE = "small"
_MOST_INHERITED = 200_000
"""Keys and values, counted anew in each entry that inherits them: each is checked there with all it has."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class _Entry(Generic[M]):
    model: M
    node: Node


class Models(Mapping[str, M], Generic[M]):
    """Models by name, each with the place where it is written."""

    def __init__(self, entries: Mapping[str, _Entry[M]]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> M:
        return self._entries[name].model

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Models({', '.join(self)})"

    def source(self, name: str, *path: str | int) -> Origin:
        """Where a model, or a key of it, is written; as text it is ``file:line``.

        Args:
            name: The model.
            path: Leads to a key in it, such as ``"network", 0``; for a key that is not written anywhere, the
                answer is what it would be in.

        Raises:
            KeyError: There is no such model.
        """
        return self.node(name).nearest(path)[0].origin

    def node(self, name: str) -> Node:
        """A model as it is written, with all that it inherits.

        Raises:
            KeyError: There is no such model.
        """
        return self._entries[name].node


@dataclass(frozen=True)
class Catalogue:
    """The images and hardware profiles of all folders.

    Args:
        images: The images by name.
        profiles: The hardware profiles by name, the built-in ones too.
        folders: Where they were looked for.
    """

    images: Models[Image]
    profiles: Models[Hardware]
    folders: tuple[Path, ...] = ()

    @classmethod
    def load(cls, folders: Sequence[Path], required: Collection[Path] = ()) -> Catalogue:
        """Reads the built-in profiles, then all files of all folders; later entries come over earlier ones.

        Args:
            folders: Folders with files ``*.yaml`` and ``*.yml``; those that don't exist are passed over.
            required: Folders among them that have to exist.

        Raises:
            ModelError: With all that is wrong in all files.
        """
        definitions = collect(folders, required)
        profiles = _models(Hardware, "hardware", definitions)
        images = _models(Image, "images", definitions)
        if definitions.problems:
            raise ModelError(_in_order(definitions.problems))
        return cls(images, profiles, tuple(folders))

    def machine(
        self,
        image: str | Mapping[str, object] | None = None,
        profile: str | Mapping[str, object] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> MachineModel:
        """The model of a machine: the profile, over it the image's ``hardware``, over that the overrides.

        Args:
            image: Name of an image, or selectors (:class:`~pytest_vbox.models.selection.ImageSelector`), of which
                the first that is so is taken; ``None``: the only one there is.
            profile: Name of a hardware profile, or selectors, of which the smallest that is so is taken; ``None``:
                ``small``.
            overrides: Keys of a hardware profile.

        Raises:
            ModelError: There is no such image or profile, or something is wrong with the overrides.
        """
        if isinstance(image, Mapping):
            image = select_image(self.images, image)
        if isinstance(profile, Mapping):
            profile = select_profile(self.profiles, profile)
        problems: list[Problem] = []
        image_name = self._chosen_image(image, problems)
        profile_name = _existing(
            DEFAULT_PROFILE if profile is None else profile, self.profiles, "hardware", problems
        )
        over = _overrides({} if overrides is None else overrides, problems)
        if image_name is None or profile_name is None or over is None:
            raise ModelError(problems)
        layers = [self.profiles.node(profile_name), self.images.node(image_name).child("hardware"), over]
        hardware, node = _hardware([layer for layer in layers if layer is not None])
        chosen = self.images[image_name]
        if hardware.os_type is None:
            hardware = hardware.model_copy(update={"os_type": chosen.os_type})
        return MachineModel(image_name, profile_name, chosen, hardware, node)

    def _chosen_image(self, name: str | None, problems: list[Problem]) -> str | None:
        if not self.images:
            looked = ", ".join(str(folder) for folder in self.folders) or "no folder at all"
            message = f"there are no images; looked in {looked}"
            problems.append(
                Problem(None, None, "image", message, "describe one under 'images:' in a YAML file there")
            )
            return None
        if name is not None:
            return _existing(name, self.images, "images", problems)
        if len(self.images) == 1:
            return next(iter(self.images))
        hint = f"there are: {', '.join(self.images)}"
        problems.append(Problem(None, None, "image", "no image was named, and there are several", hint))
        return None


def _models(model: type[M], section: str, definitions: Definitions) -> Models[M]:
    """Checks every entry of a section, and keeps those that the names mean."""
    meant = definitions.entries[section]
    entries: dict[str, _Entry[M]] = {}
    inherited = 0
    for definition in definitions.every(section):
        if len(definitions.problems) >= MOST_PROBLEMS:
            # What is wrong in an entry is found again in all that extend it.
            definitions.problems.append(Problem(None, None, "", "too much is wrong to look at all of it"))
            break
        node, whole = definitions.inherited(definition)
        if definition.parent is not None:
            inherited += size(node)
            if inherited > _MOST_INHERITED:
                message = f"more than {_MOST_INHERITED} keys and values, counting what is inherited"
                definitions.problems.append(definition.parent.origin.problem(message))
                break
        made, problems = validate(model, node, (EXTENDS,), partial=not whole)
        definitions.problems += problems
        if made is not None and meant[definition.name] is definition:
            entries[definition.name] = _Entry(made, node)
    return Models(entries)


def _existing(name: object, models: Mapping[str, object], section: str, problems: list[Problem]) -> str | None:
    if isinstance(name, str) and name in models:
        return name
    word = SECTIONS[section]
    hint = suggestion(str(name), models, "there are:")
    if hint.startswith("did you"):
        hint = f"{hint} there are: {', '.join(models)}"
    problems.append(Problem(None, None, word.rpartition(" ")[2], f"there is no {word} named {name!r}", hint))
    return None


def _overrides(overrides: object, problems: list[Problem]) -> Node | None:
    origin = Origin(None, None, "hardware override: ")
    if not isinstance(overrides, Mapping):
        problems.append(Problem(None, None, "hardware override", "must be a mapping of keys to values"))
        return None
    try:
        return from_python(overrides, origin)
    except ModelError as error:
        problems += error.problems
        return None


def _hardware(layers: Sequence[Node]) -> tuple[Hardware, Node]:
    merged = layers[0]
    for layer in layers[1:]:
        merged = merge(merged, layer)
    hardware, problems = validate(Hardware, merged)
    if hardware is None:
        raise ModelError(problems)
    return hardware, merged


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file and line, each once: what is wrong in an entry is found again in all that extend it."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (str(problem.file or ""), problem.line or 0))
