"""Selecting an image or a profile by what it is, as a cloud does, instead of by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pytest_vbox.models.fields import NOT_BOOLEAN, Line, Memory, Model
from pytest_vbox.models.hardware import Hardware
from pytest_vbox.models.image import Image
from pytest_vbox.models.problems import ModelError, Problem, shown
from pytest_vbox.models.tree import Origin, from_python
from pytest_vbox.models.validation import validate

M = TypeVar("M")
S = TypeVar("S", bound="_Selector")

_OPERATORS = ("<", ">", "=", "!", "~")


def _one(value: object) -> object:
    """A word alone is short for a list of it."""
    return [value] if isinstance(value, str) else value


def _version(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"must be text, since {value} may have lost a zero; put it in quotes")
    return value


def _specifiers(value: str) -> str:
    if value.startswith(_OPERATORS):
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            raise ValueError(
                f"must be a version, or conditions such as '>=22.04,<24', not {shown(value)}"
            ) from None
    return value


VersionCondition = Annotated[str, BeforeValidator(_version), AfterValidator(_specifiers)]
Number = Annotated[int, Field(ge=1), NOT_BOOLEAN]


class _Selector(Model):
    name: Line | None = Field(default=None, description="The name, or a pattern with `*` and `?`.")
    description: Line | None = Field(
        default=None, description="A part of the description, without regard to capitals."
    )

    @model_validator(mode="after")
    def _not_everything(self) -> _Selector:
        if not self.model_fields_set:
            raise ValueError(f"is empty; select by {', '.join(type(self).model_fields)}")
        return self


class ImageSelector(_Selector):
    """What an image has to be; all of it."""

    os_family: Line | None = Field(
        default=None, description="The image's `os_family`, without regard to capitals."
    )
    os_type: Line | None = Field(default=None, description="VirtualBox's id, without regard to capitals.")
    os_version: VersionCondition | None = Field(
        default=None, description="The image's `os_version`, or conditions on it: `>=22.04,<24`."
    )
    os_64_bit: bool | None = Field(default=None, description="Whether the operating system has 64 bits.")
    packager: Line | None = Field(default=None, description="The image's `packager`.")
    tags: Annotated[tuple[str, ...], BeforeValidator(_one)] | None = Field(
        default=None, description="Tags that the image has, all of them."
    )


class ProfileSelector(_Selector):
    """What a profile has to be; all of it."""

    min_memory: Memory | None = Field(default=None, description="The least memory, in MiB or with a unit.")
    max_memory: Memory | None = Field(default=None, description="The most memory.")
    min_cpus: Number | None = Field(default=None, description="The fewest CPUs.")
    max_cpus: Number | None = Field(default=None, description="The most CPUs.")


def select_image(images: Mapping[str, Image], wanted: Mapping[str, object]) -> str:
    """The first image, in the order in which they are written, that is as wanted.

    Args:
        images: The images by name.
        wanted: Selectors.

    Raises:
        ModelError: A selector is unknown or wrong, or there is no such image; then with the reason for each.
    """
    selector = _checked(ImageSelector, wanted, "image")
    return _first(images, images, lambda name, image: _why_not_image(selector, name, image), "image")


def select_profile(profiles: Mapping[str, Hardware], wanted: Mapping[str, object]) -> str:
    """The smallest profile, by memory, then CPUs, then name, that is as wanted.

    A profile is judged by itself; what an image's own ``hardware`` makes of it does not count.

    Raises:
        ModelError: A selector is unknown or wrong, or there is no such profile; then with the reason for each.
    """
    selector = _checked(ProfileSelector, wanted, "profile")
    order = sorted(profiles, key=lambda name: (profiles[name].memory, profiles[name].cpus, name))
    return _first(order, profiles, lambda name, profile: _why_not_profile(selector, name, profile), "profile")


def _checked(kind: type[S], wanted: Mapping[str, object], what: str) -> S:
    selector, problems = validate(kind, from_python(wanted, Origin(None, None, f"{what} selector: ")))
    if selector is None:
        raise ModelError(problems)
    return selector


def _first(
    order: Iterable[str], models: Mapping[str, M], why_not: Callable[[str, M], str | None], what: str
) -> str:
    refused = []
    for name in order:
        reason = why_not(name, models[name])
        if reason is None:
            return name
        refused.append(f"{name}: {reason}")
    listed = "".join(f"\n  {line}" for line in refused) or " there are none at all"
    raise ModelError([Problem(None, None, what, f"no {what} is as wanted:{listed}")])


def _why_not_image(selector: ImageSelector, name: str, image: Image) -> str | None:
    bits = image.os_64_bit if image.os_64_bit is not None else image.os_type.lower().endswith(("_64", "_x64"))
    checks: tuple[tuple[str, Any, Any, bool], ...] = (
        *_common(selector, name, image.description),
        ("os_family", selector.os_family, image.os_family, _same(selector.os_family, image.os_family)),
        ("os_type", selector.os_type, image.os_type, _same(selector.os_type, image.os_type)),
        (
            "os_version",
            selector.os_version,
            image.os_version,
            _version_fits(selector.os_version, image.os_version),
        ),
        ("os_64_bit", selector.os_64_bit, bits, selector.os_64_bit is bits),
        ("packager", selector.packager, image.packager, _same(selector.packager, image.packager)),
        ("tags", selector.tags, image.tags, set(selector.tags or ()) <= set(image.tags)),
    )
    return _reason(checks)


def _why_not_profile(selector: ProfileSelector, name: str, profile: Hardware) -> str | None:
    memory, cpus = profile.memory, profile.cpus
    checks: tuple[tuple[str, Any, Any, bool], ...] = (
        *_common(selector, name, profile.description),
        ("min_memory", selector.min_memory, memory, memory >= (selector.min_memory or 0)),
        ("max_memory", selector.max_memory, memory, memory <= (selector.max_memory or memory)),
        ("min_cpus", selector.min_cpus, cpus, cpus >= (selector.min_cpus or 0)),
        ("max_cpus", selector.max_cpus, cpus, cpus <= (selector.max_cpus or cpus)),
    )
    return _reason(checks)


def _common(selector: _Selector, name: str, description: str | None) -> tuple[tuple[str, Any, Any, bool], ...]:
    inside = (selector.description or "").casefold() in (description or "").casefold()
    return (
        ("name", selector.name, name, fnmatchcase(name, selector.name or "*")),
        ("description", selector.description, description, inside),
    )


def _reason(checks: Iterable[tuple[str, Any, Any, bool]]) -> str | None:
    for key, wanted, found, fits in checks:
        if wanted is not None and not fits:
            has = "has none" if found is None or found == () else f"is {_plain(found)}"
            return f"{key} {has}, and should be {_plain(wanted)}"
    return None


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _same(wanted: str | None, found: str | None) -> bool:
    return wanted is not None and found is not None and wanted.casefold() == found.casefold()


def _version_fits(wanted: str | None, found: str | None) -> bool:
    if wanted is None or found is None:
        return False
    if not wanted.startswith(_OPERATORS):
        return wanted == found
    try:
        return SpecifierSet(wanted).contains(Version(found), prereleases=True)
    except InvalidVersion:
        return False  # 'bookworm' is neither before nor after anything
