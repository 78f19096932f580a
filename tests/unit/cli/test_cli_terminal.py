"""What the command shows of others' words drives no terminal."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from pytest_vbox.cli.common import print_json, print_table, progress

from .conftest import Command

TITLE = "\x1b]0;owned\x07"
SHOWN = r"\x1b]0;owned\x07"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_has_no_cell_that_a_terminal_obeys_or_that_looks_like_another_row(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    print_table(["NAME", "TEXT"], [[f"one{TITLE}", "[red]a\nb[/nope]"]])
    assert f"one{SHOWN}" in output.getvalue()
    assert r"[red]a\nb[/nope]" in output.getvalue()
    assert TITLE not in output.getvalue()


def test_json_is_what_it_was_and_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"name": "ü\x9b31m\u202e\x1b"}
    print_json(document)
    text = capsys.readouterr().out
    assert json.loads(text) == document
    assert text.replace("\n", "").isascii()
    print_json({"name": "ü"})
    assert "ü" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_takes_a_name_neither_for_markup_nor_for_what_a_terminal_obeys(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setenv("COLUMNS", "200")
    with progress() as report:
        report(f"download [red]x[/nope]{TITLE}", 1, 2)
    assert f"download [red]x[/nope]{SHOWN}" in output.getvalue()
    assert TITLE not in output.getvalue()


def test_a_file_of_models_is_shown_by_a_name_that_a_terminal_does_not_obey(
    command: Command, project: Path
) -> None:
    (project / "profiles" / f"x{TITLE}.yaml").write_text("hardware: {odd: {memory: 512}}")
    output = command("profiles", "list").output
    assert f"x{SHOWN}.yaml:1" in output
    assert TITLE not in output
    (project / "profiles" / f"x{TITLE}.yaml").write_text("hardware: {odd: {memroy: 512}}")
    output = command("profiles", "list").output
    assert output.startswith(f"Error: {project}/profiles/x{SHOWN}.yaml:1: hardware.odd.memroy")
    assert TITLE not in output
