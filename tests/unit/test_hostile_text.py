"""Reading what others wrote takes time that grows with its length, and not with the square of it.

Each of these texts took minutes or hours at this length, or one that is given: no deadline ends a search.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pytest_vbox.guest.cloud_init import _documents
from pytest_vbox.guest.output import ErrorStream
from pytest_vbox.guest.script import compose
from pytest_vbox.images import ImageError
from pytest_vbox.images.appliances import without_settings
from pytest_vbox.images.box import read_box
from pytest_vbox.images.harmless import check_appliance
from pytest_vbox.machines.diagnosis import _reasons
from pytest_vbox.models import Catalogue, ModelError, UserDataError, parse_user_data, yamlfile
from pytest_vbox.models.bounded_yaml import MAX_NODES
from pytest_vbox.virtualbox.api import _own_words
from pytest_vbox.virtualbox.wsdl import distil
from unit.kit.timing import quickly

MIB = 1024**2


def filled(unit: str, size: int = MIB) -> str:
    """A text of that length at most, of equal pieces."""
    return unit * (size // len(unit))


@pytest.mark.parametrize("unit", ["\n", " ", "config.ssh.username\n", 'config.ssh.username = "a"\n\n\n'])
def test_a_vagrantfile_of_nearly_nothing(tmp_path: Path, unit: str) -> None:
    (tmp_path / "disk.vdi").touch()
    (tmp_path / "Vagrantfile").write_text(filled(unit, MIB - 40) + '\n \tconfig.ssh.username = "bob"')
    with quickly():
        assert read_box(tmp_path).user == "bob"


@pytest.mark.parametrize("unit", ["1 ", "{} ", '{"v1": {}} ', " ", "[", '{"a":'])
def test_reports_of_cloud_init_without_end(unit: str) -> None:
    with quickly():
        assert len(_documents(filled(unit))) <= 2


def test_a_result_and_a_status_are_read_whatever_is_between_and_behind_them() -> None:
    one, two = json.dumps({"v1": {"errors": []}}), json.dumps({"v1": {"stage": "init"}}, indent=1)
    assert _documents(f"\n {one}\n\n{two}\n{one}") == [{"errors": []}, {"stage": "init"}]
    assert _documents(f'{one}\n{{"v1": ') == [{"errors": []}]


@pytest.mark.parametrize(
    "text",
    [f"x{' ' * MIB}x", filled(" (0x1"), f"apirc=0x{'a' * MIB}", f"({'0x' + 'a' * MIB}", f"apirc=0x1{' ' * MIB}x"],
    ids=["blanks", "brackets", "digits", "digits-behind", "blanks-in-front"],
)
def test_the_words_of_a_fault_are_cut(text: str) -> None:
    with quickly():
        assert len(_own_words(f"VirtualBox error: {text}")) < 11_000


def test_the_words_of_a_fault_are_freed_of_what_is_around_them() -> None:
    assert _own_words("VirtualBox error: apirc=0x80bb0001 No disk (a) (0x80BB0001)") == "No disk (a)"
    assert _own_words("VirtualBox error: No disk (0xyz)") == "No disk (0xyz)"
    assert _own_words("apirc=0x80bb0001  (0x80bb0001)") == ""


@pytest.mark.parametrize(
    "line",
    [
        filled("VM runtime error: "),
        "VM runtime error: " + filled("errorID="),
        filled("VM runtime error: errorID=a "),
        "VM runtime error: errorID=a message=" + '"' * MIB,
    ],
    ids=["heads", "ids", "both", "quotes"],
)
def test_a_line_of_vbox_log_that_a_guest_wrote(line: str) -> None:
    true = '00:01 VM runtime error: fatal=false, errorID=DrvVD_DISKFULL message="Host full"'
    with quickly():
        assert _reasons(f"{line}\n{true}\nlast")[-1] == "Host full (DrvVD_DISKFULL)"


def test_an_error_stream_that_comes_byte_by_byte() -> None:
    script = compose("true", sudo=True, sudo_asks=True)
    stream = ErrorStream(script)
    before = b"x" * (64 * 1024) + 3 * script.prompt
    with quickly():
        for byte in before + script.mark + script.prompt + b"own":
            stream.add(bytes([byte]))
            prompts = stream.prompts
    # As long a text took 5 s.
    assert (prompts, stream.started) == (3, True)
    assert stream.text == f"{script.prompt.decode()}own"


def test_prompts_stay_counted_when_what_is_before_them_is_dropped() -> None:
    script = compose("true", sudo=True, sudo_asks=True)
    stream = ErrorStream(script)
    stream.add(script.prompt + b"x" * MIB)
    stream.add(b"x" * MIB + script.prompt[:5])
    stream.add(script.prompt[5:] + script.mark[:3])
    stream.add(script.mark[3:])
    assert (stream.prompts, stream.started) == (2, True)


def test_a_manifest_that_lists_one_file_again_and_again(tmp_path: Path) -> None:
    ovf, alone = tmp_path / "a.ovf", tmp_path / "alone"
    alone.mkdir()
    ovf.write_text(f"<x>{' ' * (MIB - 10)}</x>")
    digest = hashlib.sha256(ovf.read_bytes()).hexdigest()
    # 13 000 times the sum of a MiB.
    (tmp_path / "a.mf").write_text(filled(f"SHA256(a.ovf)= {digest}\n"))
    with quickly():
        without_settings(ovf, [], alone)
    assert (alone / "a.mf").read_text() == ""


def test_an_appliance_that_names_one_disk_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "d.vmdk").write_text("# Disk DescriptorFile\n" + filled('RW 1 FLAT "flat"\n', 64 * 1024))
    (tmp_path / "flat").touch()
    ovf = tmp_path / "a.ovf"
    ovf.write_text("<x>" + filled('<File href="d.vmdk"/>', 64 * 1024) + "</x>")
    with quickly():
        assert len(check_appliance(ovf)) > 3000


def test_an_appliance_of_disks_each_of_which_names_the_next(tmp_path: Path) -> None:
    count = 300
    for number in range(count):
        (tmp_path / f"{number}.vmdk").write_text(f'# Disk DescriptorFile\nRW 1 SPARSE "{number + 1}.vmdk"\n')
    names = "".join(f'<File href="{number}.vmdk"/>' for number in range(count))
    ovf = tmp_path / "a.ovf"
    ovf.write_text(f"<x>{names}</x>")
    with quickly():
        check_appliance(ovf)
    # What the last one leads to is looked at all the same.
    (tmp_path / f"{count}.vmdk").write_text('# Disk DescriptorFile\nRW 1 FLAT "/etc/hostname"\n')
    with pytest.raises(ImageError, match="which is not beside it"):
        check_appliance(ovf)


def test_a_description_of_a_service_with_operations_without_end() -> None:
    more = "".join(f'<operation name="IOther_do{number}"/>' for number in range(2000))
    head = '<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" targetNamespace="http://www.virtualbox.org/">'
    text = f'{head}<portType><operation name="IVirtualBox_getVersion"/>{more}</portType></definitions>'
    with quickly(2.0):
        kept = distil(text.encode(), ["IVirtualBox_getVersion", *(f"IVirtualBox_get{n}" for n in range(2000))])
    assert b"IVirtualBox_getVersion" in kept
    assert b"IOther" not in kept


# What merges and aliases make of a few bytes

LAUGHS = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 26))
#: One mapping, merged into another again and again.
AGAIN = f"a: &a {{{', '.join(f'k{n}: 1' for n in range(500))}}}\nb: {{<<: [{', '.join(['*a'] * 3000)}]}}\n"
#: Not merged, but repeated, and all of it would be joined with our own users.
REPEATED = f"g: &g [{', '.join('a' * 1000)}]\nusers:\n" + "- {name: vagrant, groups: *g}\n" * 100


@pytest.mark.parametrize("text", [LAUGHS, AGAIN, REPEATED], ids=["laughs", "again", "repeated"])
def test_user_data_that_repeats_itself_is_refused_whatever_pyyaml_makes_of_it(text: str) -> None:
    with quickly(), pytest.raises(UserDataError, match=f"more than {MAX_NODES} keys and values"):
        parse_user_data(f"#cloud-config\n{text}")


@pytest.mark.parametrize("text", [LAUGHS, AGAIN, REPEATED], ids=["laughs", "again", "repeated"])
def test_a_file_of_models_that_repeats_itself_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with quickly():
        root, (problem,) = yamlfile.read(file)
    assert root is None
    assert problem.message.startswith(
        (f"more than {MAX_NODES} keys and values", "nested more than 20 levels deep")
    )


HEIRS = "".join(f"  h{n}: {{extends: base}}\n" for n in range(1000))
WRONG = "images:\n  base:\n" + "".join(f"    diskk{n}: 1\n" for n in range(1000)) + HEIRS
NOWHERE = "images:\n" + "".join(f"  i{n}: {{extends: j{n}}}\n" for n in range(2000))
#: Nothing is wrong with it, but every entry has a thousand keys.
LARGE = "hardware:\n  base:\n    extra_data:\n" + "".join(f"      k{n}: v\n" for n in range(1000)) + HEIRS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WRONG, "too much is wrong to look at all of it"),
        (NOWHERE, "too much is wrong to look at all of it"),
        (LARGE, "more than 200000 keys and values, counting what is inherited"),
    ],
    ids=["wrong", "nowhere", "large"],
)
def test_models_whose_entries_inherit_without_measure(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "models.yaml").write_text(text)
    with quickly(3.0), pytest.raises(ModelError, match=said) as caught:
        Catalogue.load([tmp_path])
    assert len(caught.value.problems) < 110


def test_merges_of_a_sensible_size_are_taken() -> None:
    text = "#cloud-config\na: &a {x: 1, y: 2}\nb: &b {<<: *a, u: 3}\nc: {<<: [*b], z: 4}\n"
    config = parse_user_data(text).config
    assert config is not None
    assert config["c"] == {"x": 1, "y": 2, "u": 3, "z": 4}


def test_user_data_that_contains_itself_is_refused() -> None:
    with pytest.raises(UserDataError, match="nested more than 60 levels deep, or an anchor that contains itself"):
        parse_user_data("#cloud-config\na: &a {b: *a}\n")


def test_a_number_of_yaml_that_costs_the_square_of_its_length_is_refused() -> None:
    with quickly(2.0), pytest.raises(UserDataError, match="a number of more than 1000 digits"):
        parse_user_data(f"#cloud-config\na: 1{':59' * 50_000}\n")
    config = parse_user_data("#cloud-config\na: 1:30:00\n").config
    assert config is not None
    assert config["a"] == 5400
