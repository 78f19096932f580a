"""``images``, ``profiles`` and ``schema``: what needs no VirtualBox."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.shell_completion import ShellComplete

from pytest_vbox import places
from pytest_vbox.cli import main
from pytest_vbox.models import Catalogue, json_schema

from .conftest import Command

ROOT = Path(__file__).parents[3]


def test_images_are_listed_with_where_their_disk_is(command: Command, project: Path) -> None:
    lines = command("images", "list").output.splitlines()
    assert lines == [
        f"jammy  ubuntu 22.04  missing      {project / 'profiles' / 'jammy.vdi'}",
        "cloud  Linux26_64    not fetched  https://example.org/cloud.img",
    ]
    (project / "profiles" / "jammy.vdi").touch()
    listed = json.loads(command("images", "list", "--json").output)
    assert (listed["jammy"]["state"], listed["cloud"]["state"]) == ("here", "not fetched")


def test_an_image_is_shown_with_the_place_of_each_key_and_without_its_password(command: Command) -> None:
    output = command("images", "show", "jammy").output
    assert "secret" not in output
    rows = {line.split()[0]: line.split()[-1] for line in output.splitlines()}
    assert rows["os_family"].endswith("models.yaml:5")
    shown = json.loads(command("images", "show", "jammy", "--json").output)
    assert shown["os_version"]["value"] == "22.04"


@pytest.mark.parametrize("what", ["images", "profiles"])
def test_what_is_not_there_is_answered_with_the_nearest(command: Command, what: str) -> None:
    result = command(what, "show", {"images": "jamy", "profiles": "smal"}[what])
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "did you mean" in result.output


def test_broken_yaml_is_an_error_in_a_line(command: Command, project: Path) -> None:
    (project / "profiles" / "broken.yaml").write_text("images: {x: {dsk: y}}")
    result = command("images", "list")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {project}/profiles/broken.yaml:1: images.x.dsk: unknown key 'dsk'")


def test_profiles_are_listed_and_shown_with_where_each_key_is_from(command: Command) -> None:
    assert [line.split()[0] for line in command("profiles", "list").output.splitlines()] == [
        "micro",
        "small",
        "medium",
        "large",
        "big",
    ]
    rows = {line.split()[0]: line for line in command("profiles", "show", "big").output.splitlines()}
    assert rows["memory"].split()[1] == "8192"
    assert rows["memory"].endswith("models.yaml:3")
    assert rows["cpus"].endswith("built in")
    with_image = json.loads(command("profiles", "show", "small", "--image", "jammy", "--json").output)
    assert with_image["cpus"]["value"] == 2
    assert with_image["cpus"]["from"].endswith("models.yaml:5")
    every = command("profiles", "show", "small", "--all").output
    assert "chipset" in every


def test_a_profile_as_yaml_is_that_profile(command: Command, project: Path, tmp_path: Path) -> None:
    text = command("profiles", "show", "big", "--yaml").output
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "x.yaml").write_text(text)
    again = Catalogue.load([folder]).profiles["big"]
    assert again == Catalogue.load([project / "profiles"]).profiles["big"]


@pytest.mark.parametrize(
    ("arguments", "entry"),
    [
        (["disks/a.vdi"], {"disk": "../disks/a.vdi"}),
        (["/disks/a.vdi", "--user", "me"], {"disk": "/disks/a.vdi", "user": "me"}),
        (["~/a.vdi", "--private-key", "key"], {"disk": "~/a.vdi", "private_key": "../key"}),
        (["debian/bookworm64"], {"vagrant": "debian/bookworm64"}),
        (
            ["https://example.org/a.img", "--sha256", "b" * 64, "--cloud-init", "--os-type", "Debian_64"],
            {
                "url": "https://example.org/a.img",
                "sha256": "b" * 64,
                "os_type": "Debian_64",
                "cloud_init": {},
            },
        ),
        (["http://example.org/a.img", "--insecure"], {"url": "http://example.org/a.img", "insecure": True}),
    ],
)
def test_an_image_is_added_in_a_file_of_its_own(
    command: Command, project: Path, arguments: list[str], entry: dict[str, object]
) -> None:
    result = command("images", "add", "new", *arguments)
    assert (result.exit_code, result.output) == (0, f"wrote {project / 'profiles' / 'new.yaml'}\n")
    assert yaml.safe_load((project / "profiles" / "new.yaml").read_text()) == {"images": {"new": entry}}
    assert "new" in command("images", "list").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jammy", "x.vdi"], "there is an image jammy already"),
        (["new", "https://example.org/a.img"], "url needs sha256"),
        (["../new", "x.vdi"], "is not a name"),
    ],
)
def test_an_image_that_cannot_be_is_not_added(
    command: Command, project: Path, arguments: list[str], words: str
) -> None:
    result = command("images", "add", *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert [path.name for path in (project / "profiles").iterdir()] == ["models.yaml"]


def test_nothing_is_overwritten(command: Command, project: Path) -> None:
    (project / "profiles" / "new.yaml").write_text("# mine\n")
    assert "exists already; nothing was written" in command("images", "add", "new", "x.vdi").output
    assert (project / "profiles" / "new.yaml").read_text() == "# mine\n"


def test_an_image_for_all_projects(command: Command) -> None:
    command("images", "add", "new", "x.vdi", "--global")
    assert (places.config_folder() / "new.yaml").exists()


def test_nothing_that_was_fetched_is_verified_and_removed_in_vain(command: Command) -> None:
    assert command("images", "verify").exit_code == 0
    assert command("images", "verify", "cloud").output == "cloud was not fetched\n"
    assert command("images", "remove").exit_code == 2
    assert command("images", "fetch").exit_code == 1
    assert "no VirtualBox found" in command("images", "fetch", "--all").output


def test_the_schema_is_printed_and_written(command: Command, tmp_path: Path) -> None:
    assert json.loads(command("schema").output) == json_schema()
    command("schema", "--write", str(tmp_path / "schema.json"))
    assert json.loads((tmp_path / "schema.json").read_text()) == json_schema()


def test_the_published_schema_is_current() -> None:
    published = ROOT / "docs" / "reference" / "pytest-vbox.schema.json"
    assert json.loads(published.read_text()) == json_schema(), f"run: pytest-vbox schema --write {published.name}"


def test_names_are_completed_without_virtualbox(command: Command, project: Path) -> None:
    assert command("--version").exit_code == 0
    completer = ShellComplete(main, {}, "pytest-vbox", "_PYTEST_VBOX_COMPLETE")
    assert [item.value for item in completer.get_completions(["images", "show"], "ja")] == ["jammy"]
    assert [item.value for item in completer.get_completions(["profiles", "show"], "b")] == ["big"]
    (project / "profiles" / "broken.yaml").write_text("[")
    assert completer.get_completions(["images", "show"], "ja") == []
