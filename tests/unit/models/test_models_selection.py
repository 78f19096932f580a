"""Images and profiles selected by what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_vbox.models import Catalogue, ModelError

from .models_kit import write

MODELS = """
hardware:
  giant: {memory: 64 GiB, cpus: 16, description: for builds}
  wide: {memory: 2 GiB, cpus: 8}
images:
  old: {disk: a.vdi, os_family: ubuntu, os_version: "12.04", os_type: Ubuntu, packager: apt, tags: [lts, old]}
  jammy: {disk: b.vdi, os_family: Ubuntu, os_version: 22.04, os_type: Ubuntu_64, packager: apt, tags: [lts]}
  noble: {disk: c.vdi, os_family: ubuntu, os_version: "24.04", os_type: Ubuntu_64, packager: apt, tags: lts}
  deb: {disk: d.vdi, os_family: debian, os_version: bookworm, description: Stable and plain}
  bare: {disk: e.vdi, os_64_bit: false}
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """A few images and profiles."""
    write(tmp_path, MODELS.replace("tags: lts}", "tags: [lts]}"))
    return Catalogue.load([tmp_path])


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ({"os_family": "ubuntu"}, "old"),
        ({"os_family": "UBUNTU", "os_version": ">=22.04", "os_64_bit": True}, "jammy"),
        ({"os_version": ">22.04"}, "noble"),
        ({"os_version": ">=20,<23"}, "jammy"),
        ({"os_version": "22.04"}, "jammy"),
        ({"os_version": "bookworm"}, "deb"),
        ({"os_version": "!=12.04"}, "jammy"),
        ({"os_64_bit": False}, "old"),
        ({"os_64_bit": False, "os_family": None, "name": "b*"}, "bare"),
        ({"name": "?ob*"}, "noble"),
        ({"os_type": "ubuntu_64"}, "jammy"),
        ({"packager": "APT", "tags": ["old", "lts"]}, "old"),
        ({"tags": "lts"}, "old"),
        ({"description": "PLAIN"}, "deb"),
    ],
)
def test_the_first_image_that_is_as_wanted_is_taken(
    catalogue: Catalogue, wanted: Mapping[str, object], chosen: str
) -> None:
    assert catalogue.machine(wanted).image_name == chosen


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ({"min_memory": "2 GiB"}, "medium"),
        ({"min_memory": "2 GiB", "min_cpus": 2}, "medium"),
        ({"min_cpus": 3}, "wide"),
        ({"min_memory": 2049}, "large"),
        ({"max_memory": 600}, "micro"),
        ({"min_cpus": 4, "max_cpus": 4}, "large"),
        ({"name": "m*"}, "micro"),
        ({"description": "for builds"}, "giant"),
    ],
)
def test_the_smallest_profile_that_is_as_wanted_is_taken(
    catalogue: Catalogue, wanted: Mapping[str, object], chosen: str
) -> None:
    assert catalogue.machine("old", wanted).profile_name == chosen


def complaint(catalogue: Catalogue, image: object, profile: object = None) -> str:
    """What is said of a selection."""
    with pytest.raises(ModelError) as caught:
        catalogue.machine(image, profile)  # type: ignore[arg-type]
    return str(caught.value)


def test_where_nothing_is_as_wanted_each_is_listed_with_the_reason(catalogue: Catalogue) -> None:
    wanted = {"os_family": "ubuntu", "os_version": ">=23", "tags": ["gui"]}
    assert complaint(catalogue, wanted).splitlines() == [
        "image: no image is as wanted:",
        "  old: os_version is 12.04, and should be >=23",
        "  jammy: os_version is 22.04, and should be >=23",
        "  noble: tags is lts, and should be gui",
        "  deb: os_family is debian, and should be ubuntu",
        "  bare: os_family has none, and should be ubuntu",
    ]
    assert complaint(catalogue, "old", {"min_memory": "100 GiB"}).splitlines()[:2] == [
        "profile: no profile is as wanted:",
        "  micro: min_memory is 512, and should be 102400",
    ]


def test_where_there_are_no_images_that_is_said(tmp_path: Path) -> None:
    assert (
        complaint(Catalogue.load([tmp_path]), {"name": "x"})
        == "image: no image is as wanted: there are none at all"
    )


@pytest.mark.parametrize(
    ("image", "profile", "text"),
    [
        ({"os_famly": "x"}, None, "image selector: os_famly: unknown key 'os_famly'; did you mean 'os_family'?"),
        ("old", {"memory": 5}, "profile selector: memory: unknown key 'memory'; did you mean 'min_memory'?"),
        ({"os_version": ">=x!"}, None, "must be a version, or conditions such as '>=22.04,<24', not '>=x!'"),
        (
            {"os_version": 22.04},
            None,
            "must be text, since 22.04 may have lost a zero; put it in quotes",
        ),
        ("old", {"min_memory": "x"}, "min_memory: must be a number of MiB, or text such as '2 GiB'"),
        ("old", {"min_cpus": 0}, "profile selector: min_cpus: must be at least 1, not 0"),
        ({}, None, "image selector: is empty; select by name, description, os_family"),
        ("old", {}, "profile selector: is empty; select by name, description, min_memory"),
        ({5: 5}, None, "a key must be text, not 5"),
    ],
)
def test_selectors_that_are_wrong(catalogue: Catalogue, image: object, profile: object, text: str) -> None:
    assert text in complaint(catalogue, image, profile)
