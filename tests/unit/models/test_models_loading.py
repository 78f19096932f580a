"""From folders and files to a catalogue: which are read, what they may hold, how YAML itself goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.models import Catalogue, ModelError

from .models_kit import complaints, complaints_of, load, write


def test_both_endings_are_read_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "hardware: {a: {}}", "a.yaml")
    write(tmp_path, "hardware: {b: {}}", "b.yml")
    for name in ("c.json", ".d.yaml", "e.yaml~", "README.md"):
        write(tmp_path, "hardware: {no: {}}", name)
    write(tmp_path / "deeper.yaml", "hardware: {no: {}}", "f.yaml")
    assert list(Catalogue.load([tmp_path]).profiles) == ["micro", "small", "medium", "large", "a", "b"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "hardware:\nimages:\n", "{}", "hardware: {}\n"])
def test_files_that_say_nothing(tmp_path: Path, text: str) -> None:
    assert len(load(tmp_path, text).profiles) == 4


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfhardware: {a: {}}\r\n")
    assert "a" in Catalogue.load([tmp_path]).profiles


def test_the_later_folder_wins(tmp_path: Path) -> None:
    write(tmp_path / "one", "hardware: {a: {cpus: 2, memory: 99}, b: {cpus: 5}}")
    write(tmp_path / "two", "hardware: {a: {cpus: 3}, small: {cpus: 7}}")
    catalogue = Catalogue.load([tmp_path / "one", tmp_path / "two"])
    assert (catalogue.profiles["a"].cpus, catalogue.profiles["a"].memory) == (3, 1024)
    assert catalogue.profiles["b"].cpus == 5
    assert catalogue.profiles["small"].cpus == 7


def test_a_folder_named_twice_counts_where_it_is_last(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, "hardware: {a: {cpus: 2}, small: {extends: small, cpus: 6}}")
    write(two, "hardware: {a: {cpus: 3}}")
    assert Catalogue.load([one, two, one]).profiles["a"].cpus == 2
    assert Catalogue.load([one, two, two]).profiles["a"].cpus == 3


def test_a_missing_folder_is_passed_over_unless_it_is_required(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert Catalogue.load([missing]).folders == (missing,)
    with pytest.raises(ModelError) as caught:
        Catalogue.load([missing], required=[missing])
    assert str(caught.value) == f"{missing}: there is no such folder"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    (complaint,) = complaints(file)
    assert complaint.startswith(f"{file}: can't be read as a folder: ")


def test_a_file_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "")
    really_open = Path.open

    def open_another(self: Path, *args: Any) -> Any:
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return really_open(self, *args)

    monkeypatch.setattr(Path, "open", open_another)
    assert complaints(tmp_path) == [f"{file}: can't be read: Permission denied"]


def test_where_a_model_is_written(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """\
        hardware:
          a:
            cpus: 2
            network:
              - {}
              - enabled: false
          b:
            extends: a

            memory: 99
        """,
    )
    profiles = Catalogue.load([tmp_path]).profiles
    assert str(profiles.source("a")) == f"{file}:2"
    assert str(profiles.source("b")) == f"{file}:7"
    assert str(profiles.source("b", "memory")) == f"{file}:10"
    assert str(profiles.source("b", "network", 1, "enabled")) == f"{file}:6"
    assert str(profiles.source("b", "vram")) == f"{file}:7"
    assert profiles.source("small").file is not None
    with pytest.raises(KeyError):
        profiles.source("c")


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    first = write(tmp_path / "one", "hardware:\n  a: {cpus: 0}\n  b: {memory: x}\nimages:\n  c: {dsk: x}\n")
    second = write(tmp_path / "two", "hardware: {d: [}\n")
    third = write(tmp_path / "two", "images: {e: {disk: x, attach: x}}\n", "more.yaml")
    with pytest.raises(ModelError) as caught:
        Catalogue.load([tmp_path / "one", tmp_path / "two"])
    places = [(problem.file, problem.line, problem.key) for problem in caught.value.problems]
    assert places == [
        (first, 2, "hardware.a.cpus"),
        (first, 3, "hardware.b.memory"),
        (first, 5, "images.c.dsk"),
        (second, 1, ""),
        (third, 1, "images.e.attach"),
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 problems in the hardware and image models:"
    assert lines[1] == f"  {first}:2: hardware.a.cpus: must be at least 1, not '0'"
    assert len(lines) == 6


def test_a_wrong_entry_that_another_comes_over_is_told_too(tmp_path: Path) -> None:
    file = write(tmp_path / "one", "hardware: {a: {cpus: x}}")
    write(tmp_path / "two", "hardware: {a: {cpus: 2}}")
    (complaint,) = complaints(tmp_path / "one", tmp_path / "two")
    assert complaint == f"{file}:1: hardware.a.cpus: must be a whole number, not 'x'"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hardwar: {}", "1: hardwar: unknown key 'hardwar'; did you mean 'hardware'?"),
        ("\nvms: {}", "2: vms: unknown key 'vms'; the keys here are: hardware, images"),
        ("[a]", "1: must be a mapping with hardware: and images:"),
        ("hello", "1: must be a mapping with hardware: and images:"),
        ("images: [a]", "1: images: must be a mapping from names to models"),
        ("images:\n  a: b", "2: images.a: must be a mapping of keys to values, not 'b'"),
        ("images:\n  a: [b]", "2: images.a: must be a mapping of keys to values, not a list"),
        ("hardware: {a: {}, a: {}}", "1: hardware.a: the key is here twice, first on line 1"),
        (
            "hardware:\n  a:\n    cpus: 1\n    memory: 9\n    cpus: 2",
            "5: hardware.a.cpus: the key is here twice, first on line 3",
        ),
        ("hardware: {}\nhardware: {}", "2: hardware: the key is here twice, first on line 1"),
        ("hardware: {? [a] : b}", "1: hardware: a key must be text"),
        (
            "hardware: !!python/object:os.system {}",
            "1: hardware: tags are not allowed; put text that begins with ! in quotes",
        ),
        (
            "hardware: {a: {description: !x y}}",
            "1: hardware.a.description: tags are not allowed; put text that begins with ! in quotes",
        ),
        ("hardware: {a: {rtc_utc: !!bool x}}", "1: hardware.a.rtc_utc: must be true or false, not 'x'"),
        ("hardware: {a: {<<: b}}", "1: hardware.a.<<: must be an alias of a mapping, such as <<: *name"),
    ],
)
def test_a_file_of_the_wrong_shape(tmp_path: Path, text: str, complaint: str) -> None:
    assert complaints_of(tmp_path, text) == [complaint]


@pytest.mark.parametrize("name", ["a" * 64, "A-b_c.9", "2204", "22.10", "yes", "0"])
def test_names(tmp_path: Path, name: str) -> None:
    assert name in load(tmp_path, f"hardware: {{{name}: {{}}}}").profiles


@pytest.mark.parametrize("name", ["a" * 65, "-a", ".a", "_a", "a/b", "a b", "ä", "''", '"a\\n"'])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    (complaint,) = complaints_of(tmp_path, f"hardware: {{{name}: {{}}}}")
    assert "is not a name: 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first" in complaint
    assert "\n" not in complaint


def test_a_name_is_in_one_folder_once(tmp_path: Path) -> None:
    write(tmp_path, "hardware: {a: {cpus: 1}}", "a.yaml")
    second = write(tmp_path, "\nhardware: {a: {cpus: 2}}", "b.yaml")
    message = "hardware.a: the name is in this folder twice, first in a.yaml:1"
    assert complaints(tmp_path) == [f"{second}:2: {message}"]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("hardware: {a: [}", "1:16:", "not valid YAML: "),
        ("hardware:\n\ta: {}", "2:1:", "indent with spaces, not tabs"),
        ("hardware:\n  a: {}\n b: {}", "3:2:", "not valid YAML: "),
        ("images: *nothing", "1:9:", "put text that begins with *, & or ! in quotes"),
        ("a: 'b", "1:6:", "not valid YAML: "),
        ("--- {}\n--- {}", "2:1:", "not valid YAML: "),
        ("images: \x01", "1:", "U+0001 is not allowed"),
    ],
)
def test_yaml_that_is_none(tmp_path: Path, text: str, place: str, said: str) -> None:
    (complaint,) = complaints_of(tmp_path, text)
    assert complaint.startswith(place)
    assert said in complaint


def test_the_line_and_column_of_a_syntax_error(tmp_path: Path) -> None:
    file = write(tmp_path, "hardware:\n  a: {]\n")
    with pytest.raises(ModelError) as caught:
        Catalogue.load([tmp_path])
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == (file, 2, 7)


@pytest.mark.parametrize("text", ['a: "\\U00110000"', "%YAML " + "9" * 5000 + ".1\n--- {}"])
def test_what_trips_up_the_parser_itself(tmp_path: Path, text: str) -> None:
    (complaint,) = complaints_of(tmp_path, text)
    assert "not valid YAML" in complaint


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"hardware:\n  a: {description: \xff}\n")
    assert complaints(tmp_path) == [f"{file}:2: not UTF-8 text; save the file as UTF-8"]


def test_anchors_aliases_and_merge_keys(tmp_path: Path) -> None:
    catalogue = load(
        tmp_path,
        """\
        hardware:
          a: &a
            cpus: 3
            memory: 99
          b: *a
          c:
            <<: *a
            memory: 77
          d:
            <<: [*a, {vram: 5, cpus: 9}]
        """,
    )
    profiles = catalogue.profiles
    assert profiles["b"] == profiles["a"]
    assert (profiles["c"].cpus, profiles["c"].memory) == (3, 77)
    assert (profiles["d"].cpus, profiles["d"].vram) == (3, 5)
    assert profiles.source("c", "cpus").line == 3


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_laughs(), "more than 20000 keys and values, counting what aliases repeat"),
        ("a: &a {b: {<<: *a}}", "nested more than 20 levels deep, or an anchor that contains itself"),
        ("a: &a {<<: *a}", "nested more than 20 levels deep, or an anchor that contains itself"),
        ("a: &a [*a]", "nested more than 20 levels deep, or an anchor that contains itself"),
        ("[" * 100_000, "nested more than 20 levels deep"),
        ("{a: " * 50_000, "nested more than 20 levels deep"),
        ("- " * 50_000, "nested more than 20 levels deep"),
        ("a: [" + "x," * 20_001 + "]", "more than 20000 keys and values"),
        ("# " + "x" * 1024 * 1024, "larger than 1024 KiB"),
    ],
    ids=["laughs", "self", "self-merge", "self-list", "flow", "flow-map", "block", "many", "large"],
)
def test_what_would_take_forever_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (complaint,) = complaints_of(tmp_path, text)
    assert said in complaint
    assert len(complaint) < 200


def test_long_and_odd_text_does_not_blow_up_a_message(tmp_path: Path) -> None:
    key = "x\\e[31m" + "y" * 500
    (complaint,) = complaints_of(tmp_path, f'hardware: {{a: {{"{key}": 1}}}}')
    assert complaint.isprintable()
    assert len(complaint) < 500


def test_half_of_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    text = 'images: {a: {disk: x.vdi, description: "\\udcff"}}'
    message = "1: images.a.description: must be text; half of a surrogate pair is none"
    assert complaints_of(tmp_path, text) == [message]
