"""The reference pages say what the code has: all of it, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import re
import runpy
import tomllib
from collections.abc import Iterator

import pytest

import pytest_vbox.virtualbox.errors as api_errors
from pytest_vbox import fixtures, guest, plugin
from pytest_vbox.exhaustion import HostExhausted
from pytest_vbox.images.errors import ImageError
from pytest_vbox.machines import Machine, VirtualBoxHost
from pytest_vbox.machines.errors import BootError, HardwareRefused, MachineError, StepError
from pytest_vbox.machines.provision import ProvisionError
from pytest_vbox.models import ModelError
from pytest_vbox.ownership import Busy, CapacityExceeded
from pytest_vbox.service import VirtualBoxNotFound, VirtualBoxUnusable
from pytest_vbox.settings import SettingsError

from .pages import DOCS, ROOT, headings, section

REFERENCE = DOCS / "reference"
ERRORS: set[type[Exception]] = {
    *(kind for kind in vars(guest).values() if isinstance(kind, type) and issubclass(kind, guest.GuestError)),
    BootError,
    Busy,
    CapacityExceeded,
    HardwareRefused,
    HostExhausted,
    ImageError,
    MachineError,
    ModelError,
    ProvisionError,
    SettingsError,
    StepError,
    VirtualBoxNotFound,
    VirtualBoxUnusable,
    api_errors.VirtualBoxError,
}
ERRORS_BY_NAME = {kind.__name__: kind for kind in ERRORS}
#: Attributes that an instance gets, which the class does not show.
ATTRIBUTES = {Machine: {"`api`"}, VirtualBoxHost: set[str]()}


def test_the_table_of_options_is_current() -> None:
    page = (REFERENCE / "options.md").read_text(encoding="utf-8")
    updated = runpy.run_path(str(ROOT / "tools" / "docs_options.py"))["updated"]
    assert updated(page) == page, "run: python tools/docs_options.py"
    assert updated(re.sub(r"\| `--vbox-url.*\n", "", page)) == page


@pytest.mark.parametrize(("name", "kind"), [("machine.md", Machine), ("host.md", VirtualBoxHost)])
def test_everything_public_has_a_heading_with_its_current_signature(name: str, kind: type) -> None:
    shown = {heading for heading in headings(REFERENCE / name)[1:] if heading.startswith("`")}
    assert shown == {*_public(kind), *ATTRIBUTES[kind]}


def _public(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        if not name.startswith("_"):
            yield f"`{name}`" if isinstance(member, property) else f"`{name}{_signature(member)}`"


def _signature(function: object) -> inspect.Signature:
    assert callable(function)
    signature = inspect.signature(function)
    _, *parameters = (entry.replace(annotation=entry.empty) for entry in signature.parameters.values())
    return signature.replace(parameters=parameters, return_annotation=signature.empty)


def test_every_fixture_has_a_heading_and_its_scope() -> None:
    page = REFERENCE / "fixtures.md"
    shown = {heading for heading in headings(page) if heading.startswith("`")}
    assert shown == {f"`{name}`" for name in plugin.__all__}
    for name in sorted(fixtures.MACHINE_FIXTURES):
        scope = next(
            (word for word in ("class", "module", "package", "session") if name.startswith(word)), "function"
        )
        scope = "session" if name == "vbox_host" else scope
        assert f"Scope: {scope}." in section(page, f"`{name}`")


def test_the_factory_and_the_marker_are_shown_as_they_are() -> None:
    page = REFERENCE / "fixtures.md"
    signature = _signature(fixtures.MachineFactory.__call__)
    assert f"vbox_machine{signature}\n" in section(page, "`vbox_machine`")
    arguments = ", ".join(f"{name}=…" for name in signature.parameters)
    assert f"@pytest.mark.vbox({arguments})\n" in section(page, "The marker `vbox`")


def test_every_error_is_described() -> None:
    page = REFERENCE / "errors.md"
    assert {heading for heading in headings(page) if heading.startswith("`")} == {
        f"`{name}`" for name in ERRORS_BY_NAME
    }
    table = section(page, "`VirtualBoxError`")
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {
        kind.__name__ for kind in api_errors.VirtualBoxError.__subclasses__()
    }


@pytest.mark.parametrize("name", sorted(ERRORS_BY_NAME))
def test_an_error_is_where_the_page_says(name: str) -> None:
    text = section(REFERENCE / "errors.md", f"`{name}`").strip()
    module = re.match(r"`(pytest_vbox[\w.]*)`[.;]", text)
    where = importlib.import_module(module[1]) if module else guest  # as the heading of those in a guest says
    assert getattr(where, name) is ERRORS_BY_NAME[name]


def test_changelog_fragments_have_a_kind_that_towncrier_knows() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in settings["type"])
    names = [path.name for path in (ROOT / settings["directory"]).iterdir() if not path.name.startswith(".")]
    assert [name for name in names if not re.fullmatch(rf"(\+[\w-]+|\d+)\.({kinds})\.md", name)] == []
    assert "<!-- towncrier release notes start -->" in (ROOT / settings["filename"]).read_text(encoding="utf-8")
