"""What holds for any text and any merge."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_vbox.models import Catalogue, Hardware

from .models_kit import failure

pytestmark = pytest.mark.slow

_WORDS = ["hardware", "images", "extends", "small", "disk", "memory", "network", "nat_rules", "extra_data", "<<"]
_MARKS = [
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "&a ",
    "*a",
    "!x ",
    "'",
    '"',
    "null",
    "5",
    "#",
]

_yaml_like = st.lists(st.sampled_from(_WORDS + _MARKS), max_size=40).map("".join)
_keys = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.integers(4, 4096),
        "cpus": st.integers(1, 64),
        "vram": st.none() | st.integers(0, 256),
        "rtc_utc": st.booleans(),
        "firmware": st.sampled_from(["bios", "efi", None]),
        "boot_order": st.lists(st.sampled_from(["dvd", "hard-disk", "floppy"]), unique=True),
        "network": st.lists(st.none() | st.fixed_dictionaries({"enabled": st.booleans()}), max_size=3),
        "extra_data": st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers() | st.booleans()),
    },
)


def _load(data: bytes) -> Catalogue:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.yaml").write_bytes(data)
        return Catalogue.load([folder])


def _survives(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.yaml").write_bytes(data)
        error = failure(folder)
    if error is not None:
        assert error.problems
        assert all(problem.message for problem in error.problems)
        assert len(str(error).splitlines()) == len(error.problems) + (len(error.problems) > 1)


@given(st.text())
@example("images: {a: {disk: '\x85'}}")
@example("\u2028: \u2029")
def test_any_text_loads_or_is_a_model_error(text: str) -> None:
    _survives(text.encode("utf-8", "surrogatepass"))


@given(st.binary())
def test_any_bytes_load_or_are_a_model_error(data: bytes) -> None:
    _survives(data)


@given(_yaml_like)
def test_anything_like_yaml_loads_or_is_a_model_error(text: str) -> None:
    _survives(text.encode())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=3), inner)
    ),
    max_leaves=10,
)


@given(st.sampled_from(sorted(Hardware.model_fields)), _json)
def test_any_value_of_any_key_loads_or_is_a_model_error(key: str, value: object) -> None:
    _survives(json.dumps({"hardware": {"x": {key: value}}}).encode())


def _merged(base: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    """The rule as the reference page has it, for mappings that are at most two deep."""
    result = {**base, **over}
    if isinstance(base.get("extra_data"), dict) and isinstance(over.get("extra_data"), dict):
        result["extra_data"] = {**base["extra_data"], **over["extra_data"]}  # type: ignore[dict-item]
    return result


def _model(keys: dict[str, object]) -> Hardware:
    kept = {key: value for key, value in keys.items() if value is not None}
    if isinstance(extra := kept.get("extra_data"), dict):
        kept["extra_data"] = {key: value for key, value in extra.items() if value is not None}
    return Hardware.model_validate(kept)


@given(_keys, _keys, _keys)
def test_extends_merges_as_the_rule_says(a: dict[str, object], b: dict[str, object], c: dict[str, object]) -> None:
    entries = {"c": {"extends": "b", **c}, "a": a, "b": {"extends": "a", **b}}
    profiles = _load(json.dumps({"hardware": entries}).encode()).profiles
    assert profiles["a"] == _model(a)
    assert profiles["b"] == _model(_merged(a, b))
    assert profiles["c"] == _model(_merged(_merged(a, b), c))
    assert profiles["c"] == _model(_merged(a, _merged(b, c)))


@given(_keys, _keys, _keys)
def test_a_machine_merges_as_the_rule_says(
    profile: dict[str, object], image: dict[str, object], override: dict[str, object]
) -> None:
    file = {"hardware": {"p": profile}, "images": {"i": {"disk": "i.vdi", "hardware": image}}}
    catalogue = _load(json.dumps(file).encode())
    machine = catalogue.machine("i", "p", override)
    expected = _model({**_merged(_merged(profile, image), override), "os_type": "Linux26_64"})
    assert machine.hardware == expected
    # Laid over once more, nothing changes.
    again = catalogue.machine("i", "p", _merged(_merged(profile, image), override))
    assert again.digest() == machine.digest()
