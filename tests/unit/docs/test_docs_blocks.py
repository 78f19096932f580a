"""What stands in the pages' fenced blocks is true."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from pytest_vbox.cli import main
from pytest_vbox.models import Catalogue
from pytest_vbox.settings import OPTIONS

from .pages import DOCS, ROOT, Block, blocks

FLAGS = {option.flag: option for option in OPTIONS if option.flag is not None}
COMMANDS = [
    pytest.param(block, line.removeprefix("$ "), id=f"{block}-{number}")
    for block in blocks("console")
    for number, line in enumerate(block.text.splitlines())
    if line.startswith("$ ")
]
QUOTED = [
    block for language in ("python", "yaml") for block in blocks(language) if block.comment.startswith("from ")
]


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    compile("\n" * (block.line - 1) + block.text, block.page, "exec")


@pytest.mark.parametrize("block", QUOTED, ids=str)
def test_what_is_taken_from_a_file_is_in_that_file(block: Block) -> None:
    source = (ROOT / block.comment.removeprefix("from ")).read_text(encoding="utf-8")
    assert block.text in source


def test_the_tutorial_has_all_tests_of_the_examples() -> None:
    shown = "".join(block.text for block in blocks("python") if block.page == "docs/tutorial.md")
    tests = [name for path in ROOT.glob("examples/test_*.py") for name in _tests(path)]
    assert len(tests) == 8
    assert [name for name in tests if f"def {name}(" not in shown] == []


def test_three_examples_are_run_for_real() -> None:
    """Each costs `make test` a boot; tests/integration/test_docs.py runs them."""
    assert {block.page for block in blocks("python") if block.comment == "run"} == {
        "README.md",
        "docs/how-to/share-a-machine.md",
        "docs/how-to/use-without-pytest.md",
    }


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if not block.comment], ids=str)
def test_images_and_profiles_load(tmp_path: Path, block: Block) -> None:
    (tmp_path / "models.yaml").write_text(block.text, encoding="utf-8")
    Catalogue.load([tmp_path])


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_ini_keys_exist_and_their_values_are_good(block: Block) -> None:
    known = {option.ini: option for option in OPTIONS if option.flag is not None}
    for key, value in tomllib.loads(block.text)["tool"]["pytest"]["ini_options"].items():
        known[key].parse(value)


@pytest.mark.parametrize(("block", "command"), COMMANDS)
def test_a_foundcan_be_given_like_this(block: Block, command: str, pytestconfig: pytest.Config) -> None:
    words = shlex.split(command)
    if words[0] == "pytest":
        for word in words[1:]:
            if word.startswith("--"):
                _check_option(word, pytestconfig)
    elif words[0] == "pytest-vbox":
        found: click.Command = main
        rest = words[1:]
        while isinstance(found, click.Group):
            found = found.commands[rest.pop(0)]
        # Refuses options and arguments that do not exist.
        found.make_context("pytest-vbox", rest)
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for word in words[1:]:
            assert re.search(rf"^{word}:", makefile, re.MULTILINE), block


def _check_option(word: str, config: pytest.Config) -> None:
    flag, _, value = word.partition("=")
    if flag in FLAGS:
        FLAGS[flag].parse("true" if FLAGS[flag].switch else value)
    else:
        assert not flag.startswith("--vbox")
        config.getoption(flag.removeprefix("--").replace("-", "_"))  # raises if there is none


@pytest.mark.parametrize("path", sorted((DOCS / "ci").glob("*.yml")), ids=lambda path: path.name)
def test_a_ci_file_is_yaml_is_shown_whole_and_gives_options_that_exist(
    path: Path, pytestconfig: pytest.Config
) -> None:
    text = path.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    (shown,) = [block for block in blocks("yaml") if block.comment == f"from docs/ci/{path.name}"]
    assert shown.text == text
    runs = re.findall(r"bin/pytest (.*)", text)
    assert any("--vbox=require" in run for run in runs)
    for word in shlex.split(" ".join(runs)):
        if word.startswith("--"):
            _check_option(word, pytestconfig)


def test_the_github_file_is_a_workflow() -> None:
    document = yaml.safe_load((DOCS / "ci" / "github-actions.yml").read_text(encoding="utf-8"))
    for job in document["jobs"].values():
        assert {"runs-on", "container", "steps"} <= set(job)
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        # The shell file counts only in the shell that reads it.
        (machines,) = [step["run"] for step in job["steps"] if "rig up" in step.get("run", "")]
        assert "pytest -m vbox" in machines


def test_the_gitlab_file_is_a_pipeline() -> None:
    document = yaml.safe_load((DOCS / "ci" / "gitlab-ci.yml").read_text(encoding="utf-8"))
    for job in document.values():
        assert {"image", "script"} <= set(job)
        assert all(isinstance(line, str) for line in [*job["before_script"], *job["script"]])


def _tests(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
