"""``pytest --vbox-list``."""

from __future__ import annotations

import pytest


def test_images_and_profiles_are_shown_and_no_test_is_run(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_one():\n    raise SystemExit('run')\n")
    folder = suite.mkdir("profiles")
    (folder / "models.yaml").write_text(
        "hardware:\n  big: {memory: 8 GiB, cpus: 4, description: for builds}\n"
        "images:\n  jammy:\n    disk: jammy.vdi\n    os_family: ubuntu\n    os_version: 22.04\n"
        "  plain: {url: 'https://example.org/a.img', insecure: true, description: Just a disk}\n"
    )
    result = suite.runpytest("--vbox-list")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*- VirtualBox images -*",
            "jammy -- profiles/models.yaml:4",
            "    ubuntu 22.04",
            f"    {folder / 'jammy.vdi'}",
            "plain -- profiles/models.yaml:8",
            "    Just a disk",
            "    https://example.org/a.img",
            "*- VirtualBox hardware profiles -*",
            "micro -- built in",
            "    512 MiB, 1 CPU: *",
            "big -- profiles/models.yaml:2",
            "    8192 MiB, 4 CPUs: for builds",
        ]
    )
    result.stdout.no_fnmatch_line("*test_one*")


def test_a_file_is_shown_by_a_name_that_a_terminal_does_not_obey(suite: pytest.Pytester) -> None:
    folder = suite.mkdir("profiles")
    (folder / "a\x1b]0;X\x07.yaml").write_text("hardware: {big: {description: 'a [red]b[/red]'}}\n")
    result = suite.runpytest("--vbox-list", "--color=no")
    output = result.stdout.str()
    assert r"big -- profiles/a\x1b]0;X\x07.yaml:1" in output
    assert "a [red]b[/red]" in output
    assert "\x1b" not in output


def test_where_there_are_no_images_it_says_where_to_describe_one(suite: pytest.Pytester) -> None:
    result = suite.runpytest("--vbox-list")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["there are none; describe one under 'images:' *profiles*"])


def test_broken_yaml_is_told(suite: pytest.Pytester, broken_yaml: str) -> None:
    result = suite.runpytest("--vbox-list")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {broken_yaml}*"])
