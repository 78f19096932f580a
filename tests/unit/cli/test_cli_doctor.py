"""The doctor, where there is no VirtualBox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_vbox import places

from .conftest import Command


def findings(command: Command, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what was found, by name."""
    result = command("doctor", "--json", *arguments)
    return result.exit_code, {finding["name"]: finding for finding in json.loads(result.output)}


def test_without_virtualbox_it_says_how_to_get_it(command: Command) -> None:
    code, found = findings(command)
    assert code == 1
    assert found["VirtualBox"]["state"] == "fail"
    assert "no VirtualBox found on this computer" in found["VirtualBox"]["found"]
    assert "install" in found["VirtualBox"]["mend"]
    assert found["web service"]["state"] == "skip"
    assert found["state folder"]["state"] == "pass"
    assert found["leftovers"]["state"] == "pass"


def test_each_finding_is_a_line_that_begins_with_its_state(command: Command) -> None:
    output = command("doctor").output
    assert "pass  Python: Python 3." in output
    assert "\nfail  VirtualBox: no VirtualBox found" in output
    assert "\n      try: " in output


def test_images_are_looked_at(command: Command, project: Path) -> None:
    _, found = findings(command)
    assert found["image jammy"]["state"] == "fail"
    assert "models.yaml:5" in found["image jammy"]["mend"]
    assert (found["image cloud"]["state"], found["image cloud"]["mend"]) == (
        "warn",
        "pytest-vbox images fetch cloud",
    )
    (project / "profiles" / "jammy.vdi").touch()
    _, found = findings(command)
    assert found["image jammy"]["state"] == "pass"


def test_broken_yaml_and_no_yaml(command: Command, project: Path) -> None:
    models = project / "profiles" / "models.yaml"
    models.write_text("images: {x: {dsk: y}}")
    _, found = findings(command)
    assert found["images and profiles"]["state"] == "fail"
    assert "models.yaml:1" in found["images and profiles"]["found"]
    models.unlink()
    _, found = findings(command)
    assert found["images and profiles"]["state"] == "warn"
    assert found["images and profiles"]["mend"] == "pytest-vbox images add NAME SOURCE"


def test_a_service_that_does_not_answer(command: Command) -> None:
    code, found = findings(command, "--url", "http://127.0.0.1:9")
    assert code == 1
    assert found["web service"]["state"] == "fail"
    assert "connection refused" in found["web service"]["found"]
    assert "VirtualBox" not in found


def test_a_setting_that_is_wrong_is_an_error(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_VBOX_BOOT_TIMEOUT", "soon")
    result = command("doctor")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")


def test_what_is_not_secure_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "security" not in findings(command)[1]
    _, found = findings(command, "--insecure")
    assert found["security"]["state"] == "warn"
    assert "--vbox-insecure is set" in found["security"]["found"]
    monkeypatch.setenv("PYTEST_VBOX_INSECURE", "yes")
    output = command("doctor", "--url", "http://no-such-host.invalid:9").output
    assert "warn  security: http://no-such-host.invalid:9 is another computer, and has no https" in output


def test_plain_http_to_another_computer_is_a_failure(command: Command) -> None:
    code, found = findings(command, "--url", "http://no-such-host.invalid:9")
    assert code == 1
    assert found["web service"]["state"] == "fail"
    assert "--vbox-insecure" in found["web service"]["found"]


def test_a_state_folder_in_another_users_hands_is_a_failure_and_ends_it(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise places.UnsafeFolder("it belongs to the user nobody")

    monkeypatch.setattr(places, "state_folder", refuse)
    code, found = findings(command)
    assert code == 1
    assert found["state folder"]["state"] == "fail"
    assert "belongs to the user nobody" in found["state folder"]["found"]
    assert "web service" not in found
