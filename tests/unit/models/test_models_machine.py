"""From an image, a profile and overrides to the model of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.models import Catalogue, Hardware, ModelError

from .models_kit import load, write

PROFILES = "micro, small, medium, large, big, typed"


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return load(
        tmp_path,
        """\
        hardware:
          big: {memory: 4000, cpus: 4, vram: 5, extra_data: {a: 1, b: 1}}
          typed: {os_type: FreeBSD_64}
        images:
          ubuntu: {disk: u.vdi, os_type: Ubuntu_64, hardware: {memory: 3000, extra_data: {b: 2, c: 2}}}
          debian: {disk: d.vdi}
          odd: {disk: o.vdi, os_type: Debian_64, hardware: {os_type: OpenBSD_64, vram: null}}
        """,
    )


LISTED = f"there are {len(Hardware.model_fields)}; `pytest-vbox schema` and the reference page list them"


def complaint(catalogue: Catalogue, *args: Any) -> str:
    with pytest.raises(ModelError) as caught:
        catalogue.machine(*args)
    return str(caught.value)


def test_profile_then_image_then_overrides(catalogue: Catalogue) -> None:
    machine = catalogue.machine("ubuntu", "big", {"cpus": 8, "extra_data": {"c": 3}})
    assert (machine.image_name, machine.profile_name) == ("ubuntu", "big")
    assert machine.image is catalogue.images["ubuntu"]
    hardware = machine.hardware
    assert (hardware.memory, hardware.cpus, hardware.vram) == (3000, 8, 5)
    assert hardware.extra_data == {"a": "1", "b": "2", "c": "3"}


def test_overrides_in_python(catalogue: Catalogue) -> None:
    over = {"memory": "2 GiB", "network": [None, {"mac_address": "0A0027000001"}], "extra_data": None}
    hardware = catalogue.machine("ubuntu", "big", over).hardware
    assert hardware.memory == 2048
    assert hardware.network[0] is None
    assert hardware.network[1] is not None
    assert hardware.extra_data == {}


def test_the_default_profile_is_small(catalogue: Catalogue) -> None:
    machine = catalogue.machine("debian")
    assert (machine.profile_name, machine.hardware.memory) == ("small", 1024)


def test_the_default_image_is_the_only_one(tmp_path: Path) -> None:
    assert load(tmp_path, "images: {one: {disk: x}}").machine().image_name == "one"


@pytest.mark.parametrize(
    ("image", "profile", "override", "os_type"),
    [
        ("debian", "small", None, "Linux26_64"),
        ("ubuntu", "small", None, "Ubuntu_64"),
        ("ubuntu", "typed", None, "FreeBSD_64"),
        ("odd", "typed", None, "OpenBSD_64"),
        ("odd", "typed", "Windows11_64", "Windows11_64"),
    ],
)
def test_where_the_os_type_comes_from(
    catalogue: Catalogue, image: str, profile: str, override: str | None, os_type: str
) -> None:
    machine = catalogue.machine(image, profile, {"os_type": override} if override else {})
    assert machine.os_type == machine.hardware.os_type == os_type


def test_an_image_takes_a_profiles_key_back(catalogue: Catalogue) -> None:
    assert catalogue.machine("odd", "big").hardware.vram is None


def test_several_images_and_none_named(catalogue: Catalogue) -> None:
    assert (
        complaint(catalogue) == "image: no image was named, and there are several; there are: ubuntu, debian, odd"
    )


def test_no_image_at_all(tmp_path: Path) -> None:
    text = complaint(Catalogue.load([tmp_path]), "ubuntu")
    assert text.startswith(f"image: there are no images; looked in {tmp_path}; ")


def test_names_that_there_are_not(catalogue: Catalogue) -> None:
    with pytest.raises(ModelError) as caught:
        catalogue.machine("ubunt", "larg")
    assert [str(problem) for problem in caught.value.problems] == [
        "image: there is no image named 'ubunt'; did you mean 'ubuntu'? there are: ubuntu, debian, odd",
        f"profile: there is no hardware profile named 'larg'; did you mean 'large'? there are: {PROFILES}",
    ]
    assert complaint(catalogue, "zzz").endswith("; there are: ubuntu, debian, odd")


@pytest.mark.parametrize("name", ["", 5, ["ubuntu"]])
def test_a_name_that_is_none(catalogue: Catalogue, name: object) -> None:
    assert "there is no image named" in complaint(catalogue, name)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"memry": 5}, "hardware override: memry: unknown key 'memry'; did you mean 'memory'?"),
        ({"cpus": 100}, "hardware override: cpus: must be at most 64, not 100"),
        ({"cpus": True}, "hardware override: cpus: must be a number, not true"),
        ({"cpus": 1.5}, "hardware override: cpus: must be a whole number, not 1.5"),
        (
            {"network": [{"nat_rules": [{"guest_port": 0}]}]},
            "hardware override: network[0].nat_rules[0].guest_port: must be at least 1, not 0",
        ),
        ({5: 5}, "hardware override: a key must be text, not 5"),
        ({"os_type": 5}, "hardware override: os_type: must be text"),
        ("cpus", "hardware override: must be a mapping of keys to values"),
        (
            {"extends": "big"},
            f"hardware override: extends: unknown key 'extends'; {LISTED}",
        ),
    ],
)
def test_wrong_overrides(catalogue: Catalogue, overrides: Mapping[str, object], text: str) -> None:
    assert complaint(catalogue, "debian", "big", overrides) == text


def test_overrides_that_contain_themselves(catalogue: Catalogue) -> None:
    over: dict[str, object] = {}
    over["extra_data"] = over
    assert "nested more than 20 levels deep" in complaint(catalogue, "debian", None, over)


def test_the_digest_is_the_same_for_the_same_machine(catalogue: Catalogue, tmp_path: Path) -> None:
    digest = catalogue.machine("ubuntu", "big").digest()
    assert len(digest) == 64
    assert catalogue.machine("ubuntu", "big", {"cpus": 4}).digest() == digest
    assert catalogue.machine("ubuntu", "big", {"description": "mine"}).digest() == digest
    assert Catalogue.load([tmp_path]).machine("ubuntu", "big").digest() == digest


def test_the_digest_differs_for_another_machine(catalogue: Catalogue) -> None:
    overrides: list[dict[str, Any]] = [
        {},
        {"cpus": 3},
        {"rtc_utc": False},
        {"network": []},
        {"network": [None, {}]},
        # The default, so one less that differs.
        {"network": [{}]},
    ]
    machines = [
        catalogue.machine(image, profile, over)
        for image in ("ubuntu", "debian")
        for profile in ("small", "big")
        for over in overrides
    ]
    assert len({machine.digest() for machine in machines}) == 20


@pytest.mark.parametrize(
    "keys", ["password: one", "password: two", "sudo_password: three", "description: x", "boot_timeout: 5"]
)
def test_the_digest_knows_no_secrets(tmp_path: Path, keys: str) -> None:
    plain = load(tmp_path, "images: {x: {disk: x}}").machine().digest()
    write(tmp_path, f"images: {{x: {{disk: x, {keys}}}}}")
    assert Catalogue.load([tmp_path]).machine().digest() == plain
