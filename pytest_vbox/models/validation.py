"""Turns data into models, and pydantic's errors into problems with a place and a way out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from pytest_vbox.models.image import NO_SOURCE
from pytest_vbox.models.problems import MOST_PROBLEMS, Problem, nearest, shown, suggestion
from pytest_vbox.models.tree import Node, plain

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)


def validate(
    model: type[M], node: Node, also: Sequence[str] = (), *, partial: bool = False
) -> tuple[M | None, list[Problem]]:
    """Makes a model of a tree.

    Args:
        model: The model's class.
        node: The data, with origins.
        also: Keys that may stand there although the model has them not, for "did you mean".
        partial: The data is known to be incomplete, so that missing keys are not to be complained of.

    Returns:
        The model, or ``None``; and what is wrong with the data.
    """
    if not isinstance(node.value, dict):
        return None, [node.origin.problem(f"must be a mapping of keys to values, not {shown(plain(node))}")]
    try:
        return model.model_validate(plain(node)), []
    except ValidationError as error:
        # Kept from escaping, not even as a cause: its errors carry the inputs, and among them passwords.
        details = error.errors(include_url=False)
    told = (detail for detail in details if not _follows(detail, details, partial=partial))
    return None, [_problem(model, node, detail, also) for detail in islice(told, MOST_PROBLEMS)]


def _follows(detail: ErrorDetails, details: Sequence[ErrorDetails], *, partial: bool) -> bool:
    """Whether an error is only the consequence of another, or of what is missing from the data anyway."""
    if detail["type"] == "too_short":
        # Entries that are wrong aren't counted by pydantic, so a list of one wrong entry is "too short" as well.
        where = detail["loc"]
        return any(other["loc"][: len(where)] == where for other in details if len(other["loc"]) > len(where))
    return detail["type"] == "default_factory_not_called" or (partial and detail["type"] in {"missing", NO_SOURCE})


def _problem(model: type[BaseModel], node: Node, detail: ErrorDetails, also: Sequence[str]) -> Problem:
    # pydantic marks an error in a mapping's key, rather than its value, by this last part.
    path = [part for part in detail["loc"] if part != "[key]"]
    place, below = node.nearest(path)
    match detail["type"]:
        case "extra_forbidden":
            key = str(path[-1])
            hint = _key_hint(key, _model_at(model, path[:-1]), also if len(path) == 1 else ())
            return place.origin.problem(f"unknown key {shown(key)}", hint, below)
        case "missing":
            return place.origin.problem("the key is missing", "", below)
        case "enum":
            terms = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
            message = f"must be {_one_of(terms)}, not {shown(detail['input'])}"
            near = nearest(str(detail["input"]), terms)
            return place.origin.problem(message, f"did you mean '{near}'?" if near else "", below)
    say = _MESSAGES.get(detail["type"])
    # As it was written: pydantic's input may have been converted already, "3 TiB" to a number.
    value = detail["input"] if below else plain(place)
    message = say(detail.get("ctx", {}), value) if say else detail["msg"]
    return place.origin.problem(message, "", below)


def _key_hint(key: str, model: type[BaseModel] | None, also: Sequence[str]) -> str:
    if model is None:
        return ""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None and key in inner.model_fields:
            return f"it belongs under '{name}:'"
    return suggestion(key, [*model.model_fields, *also], "the keys here are:")


def _model_at(model: type[BaseModel] | None, path: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that describes the mapping at ``path``."""
    for part in path:
        if model is not None and isinstance(part, str):
            field = model.model_fields.get(part)
            model = _model_in(field.annotation) if field else None
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The model in an annotation such as ``tuple[NetworkAdapter | None, ...]``."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _one_of(terms: Sequence[str]) -> str:
    return terms[0] if len(terms) == 1 else f"{', '.join(terms[:-1])} or {terms[-1]}"


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


_Say = Callable[[Mapping[str, Any], object], str]


def _must_be(what: str) -> _Say:
    return lambda _, value: f"must be {what}, not {shown(value)}"


def _text(_: Mapping[str, Any], value: object) -> str:
    # Where text is wanted, it may be a secret: the input isn't repeated.
    return "must be text; put it in quotes" if isinstance(value, bool) else "must be text"


_NUMBER = _must_be("a number")
_WHOLE = _must_be("a whole number")
_BOOLEAN = _must_be("true or false")
_LIST = _must_be("a list")
_MAPPING = _must_be("a mapping of keys to values")
_MESSAGES: Mapping[str, _Say] = {
    "value_error": lambda ctx, _: str(ctx["error"]),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "string_type": _text,
    "string_unicode": lambda *_: "must be text; half of a surrogate pair is none",
    "path_type": lambda *_: "must be the path of a file",
    "string_too_short": lambda *_: "must not be empty",
    "string_too_long": lambda ctx, _: f"must not be longer than {ctx['max_length']} characters",
    "string_pattern_mismatch": lambda _, value: f"{shown(value)} is not of the right form",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "greater_than": lambda ctx, value: f"must be more than {ctx['gt']:g}, not {shown(value)}",
    "greater_than_equal": lambda ctx, value: f"must be at least {ctx['ge']}, not {shown(value)}",
    "less_than_equal": lambda ctx, value: f"must be at most {ctx['le']}, not {shown(value)}",
    "too_long": lambda ctx, _: f"has {_entries(ctx['actual_length'])}, at most {ctx['max_length']} allowed",
    "too_short": lambda ctx, _: f"has {_entries(ctx['actual_length'])}, at least {ctx['min_length']} needed",
}
