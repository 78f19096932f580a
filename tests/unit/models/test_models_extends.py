"""Inheriting by ``extends``, and the rule by which keys come over each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox.models import Catalogue

from .models_kit import complaints, complaints_of, load, write

BUILT_IN = "micro, small, medium, large"


def test_a_chain(tmp_path: Path) -> None:
    profiles = load(
        tmp_path,
        """\
        hardware:
          c: {extends: b, vram: 9}
          b: {extends: a, cpus: 3, extra_data: {y: 2, z: 2}, network: [null]}
          a: {cpus: 2, memory: 77, extra_data: {x: 1, y: 1}, network: [{}, {}], boot_order: [dvd]}
        """,
    ).profiles
    c = profiles["c"]
    assert (c.cpus, c.memory, c.vram) == (3, 77, 9)
    assert c.extra_data == {"x": "1", "y": "2", "z": "2"}
    assert c.network == (None,)
    assert c.boot_order == ("dvd",)


def test_images_inherit_and_their_hardware_is_merged_by_key(tmp_path: Path) -> None:
    images = load(
        tmp_path,
        """\
        images:
          a: {disk: a.vdi, user: me, hardware: {cpus: 2, memory: 77, extra_data: {x: 1}}}
          b: {extends: a, disk: b.vdi, hardware: {cpus: 3, extra_data: {y: 1}}}
        """,
    ).images
    b = images["b"]
    assert (b.disk, b.user) == (tmp_path / "b.vdi", "me")
    assert (b.hardware.cpus, b.hardware.memory, b.hardware.extra_data) == (3, 77, {"x": "1", "y": "1"})


def test_null_takes_back_what_is_inherited(tmp_path: Path) -> None:
    catalogue = load(
        tmp_path,
        """\
        hardware:
          a: {cpus: 2, memory: 77, extra_data: {x: 1, y: 1}}
          b: {extends: a, cpus: null, extra_data: {x: null}}
          c: {extends: b, extra_data: null}
          d: {extends: c, extra_data: {z: 1}}
        images:
          a: {disk: a, password: p, private_key: k}
          b: {extends: a, password: , hardware: }
        """,
    )
    profiles = catalogue.profiles
    assert (profiles["b"].cpus, profiles["b"].memory, profiles["b"].extra_data) == (1, 77, {"y": "1"})
    assert profiles["c"].extra_data == {}
    assert profiles["d"].extra_data == {"z": "1"}
    assert catalogue.images["b"].password is None
    assert catalogue.images["b"].private_key is not None


def test_under_its_own_name_an_entry_extends_the_earlier_folders(tmp_path: Path) -> None:
    write(tmp_path / "one", "hardware: {small: {extends: small, cpus: 2}}")
    write(tmp_path / "two", "hardware: {small: {extends: small, vram: 5}}")
    small = Catalogue.load([tmp_path / "one", tmp_path / "two"]).profiles["small"]
    assert (small.memory, small.cpus, small.vram, small.description) == (1024, 2, 5, "The default")


def test_a_name_means_the_last_folders_entry(tmp_path: Path) -> None:
    write(tmp_path / "one", "hardware: {mine: {extends: small}, ahead: {extends: later}}")
    write(tmp_path / "two", "hardware: {small: {cpus: 5}, later: {cpus: 6}}")
    profiles = Catalogue.load([tmp_path / "one", tmp_path / "two"]).profiles
    assert profiles["mine"].cpus == 5
    assert profiles["ahead"].cpus == 6


def test_an_image_does_not_extend_a_profile(tmp_path: Path) -> None:
    (complaint,) = complaints_of(tmp_path, "images: {a: {disk: x}, b: {extends: small}}")
    assert complaint == "1: images.b.extends: there is no image named 'small'; there are: a"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "a: {extends: smal}",
            "2: hardware.a.extends: there is no hardware profile named 'smal'; did you mean 'small'?",
        ),
        ("a: {extends: a}", "2: hardware.a.extends: extends itself: no earlier folder has a 'a'"),
        ("a: {extends: [small]}", "2: hardware.a.extends: must be the name of one hardware profile"),
        ("a: {extends: true}", "2: hardware.a.extends: must be the name of one hardware profile"),
        ("a: {extends: b}\n  b: {extends: a}", "2: hardware.a.extends: extends itself in a circle: a → b → a"),
        (
            "x: {extends: b}\n  c: {extends: a}\n  a: {extends: b}\n  b: {extends: c}",
            "3: hardware.c.extends: extends itself in a circle: c → a → b → c",
        ),
        (
            "a: {extends: nothing}\n  b: {extends: a}\n  c: {extends: a}",
            f"2: hardware.a.extends: there is no hardware profile named 'nothing'; there are: {BUILT_IN}, b, c",
        ),
        (
            "a: {cpus: 0}\n  b: {extends: a}\n  c: {extends: b, memory: 99}",
            "2: hardware.a.cpus: must be at least 1, not '0'",
        ),
    ],
)
def test_what_goes_wrong_is_told_once_where_it_is(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaints_of(tmp_path, f"hardware:\n  {text}\n") == [complaint]


def test_a_circle_over_two_folders(tmp_path: Path) -> None:
    first = write(tmp_path / "one", "hardware: {a: {extends: b}, b: {}}")
    write(tmp_path / "two", "hardware: {b: {extends: a}}")
    assert complaints(tmp_path / "one", tmp_path / "two") == [
        f"{first}:1: hardware.a.extends: extends itself in a circle: a → b → a"
    ]


def test_what_an_heir_lacks_is_not_told_where_its_parent_is_unknown(tmp_path: Path) -> None:
    found = complaints_of(tmp_path, "images:\n  ubuntu: {disk: x}\n  b: {extends: ubunut, usr: me}\n")
    assert found == [
        "3: images.b.extends: there is no image named 'ubunut'; did you mean 'ubuntu'?",
        "3: images.b.usr: unknown key 'usr'; did you mean 'user'?",
    ]


def test_a_name_that_a_broken_file_may_have_is_not_called_unknown(tmp_path: Path) -> None:
    write(tmp_path, "hardware: {base: [}", "broken.yaml")
    write(tmp_path, "hardware: {a: {extends: base}}", "good.yaml")
    (complaint,) = complaints(tmp_path)
    assert "broken.yaml:1:" in complaint


def test_a_long_row_of_heirs(tmp_path: Path) -> None:
    entries = [f"  p{n}: {{extends: p{n - 1}}}" for n in range(1, 40)]
    found = complaints_of(tmp_path, "\n".join(["hardware:", "  p0: {cpus: 2}", *entries]))
    assert all("more than 32 entries extend each other" in complaint for complaint in found)
    assert len(load(tmp_path, "\n".join(["hardware:", "  p0: {cpus: 2}", *entries[:31]])).profiles) == 36
