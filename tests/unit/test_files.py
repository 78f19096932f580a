"""What a project names as a file: a pipe or a device is refused, where it would be read for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_vbox.files import check_regular, read_regular
from pytest_vbox.guest import KeyUnusable, load_key
from pytest_vbox.images import ImageError
from pytest_vbox.images.checksums import MAX_BYTES
from pytest_vbox.images.download import fetch_sum
from pytest_vbox.images.identity import existing
from pytest_vbox.models import Catalogue, Image, ModelError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes"),
    pytest.mark.timeout(20),
]

KINDS = {"pipe": "a named pipe", "zeros": "a device", "link": "a device", "folder": "a folder"}


def _special(folder: Path, kind: str) -> Path:
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zeros":
        return Path("/dev/zero")
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [read_regular, check_regular])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str, read: Callable[[Path], object]) -> None:
    path = _special(tmp_path, kind)
    with pytest.raises(OSError, match=rf"{KINDS[kind]}|Is a directory") as caught:
        read(path)
    if kind == "link":
        assert "a link to /dev/zero" in str(caught.value)


def test_a_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert read_regular(tmp_path / name) == b"content"
        check_regular(tmp_path / name)
    with pytest.raises(OSError, match="larger than 0 KiB"):
        read_regular(tmp_path / "file", 6)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_key_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(KeyUnusable):
        load_key(_special(tmp_path, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageError, match="is not a file"):
        existing(Image(disk=_special(tmp_path, kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_sums_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    assert MAX_BYTES < 64 * 1024**2
    with pytest.raises(ImageError, match="cannot be read"):
        fetch_sum("disk.img", _special(tmp_path, kind))


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_is_no_file_is_no_yaml(tmp_path: Path, kind: str) -> None:
    _special(tmp_path, kind).rename(tmp_path / "models.yaml")
    assert list(Catalogue.load([tmp_path]).images) == []


def _load(folder: Path, text: str) -> Catalogue:
    (folder / "models.yaml").write_text(text, encoding="utf-8")
    return Catalogue.load([folder])


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch owned']",
        "!!python/object/new:os.system ['touch owned']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [a]",
        "!!binary aGk=",
        "!include /etc/passwd",
        "!ENV ${HOME}",
    ],
)
def test_yaml_runs_and_includes_nothing(tmp_path: Path, tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in (f"images: {{a: {{disk: {tag}}}}}", f"images: {{a: {tag}}}", tag):
        with pytest.raises(ModelError):
            _load(tmp_path, text)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("text", ["$HOME/x", "${HOME}/x", "%HOME%/x", "{{ HOME }}/x", "`id`", "$(id)"])
def test_neither_variables_nor_templates_nor_commands_are_expanded(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, f"images: {{a: {{disk: '{text}'}}}}").images["a"].disk == tmp_path / text


@pytest.mark.parametrize("text", [r"a\0b", r"a\nb", r"a\e[2J", r"a\u202eb", "~no-such-user-here/x", "", " "])
def test_paths_that_surprise_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        _load(tmp_path, f'images: {{a: {{disk: "{text}"}}}}')
    assert all(letter.isprintable() or letter == "\n" for letter in str(caught.value))


def test_paths_begin_at_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert _load(tmp_path, "images: {a: {disk: ../x.vdi}}").images["a"].disk == tmp_path / "../x.vdi"


ODD = [r"a\e[2J", r"a\r\nb", r"a\u202eb", r"a\0b", r"\u2028", r"a\x9bb"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "where",
    [
        'images: {{"{}": {{disk: a}}}}',
        'hardware: {{"{}": {{memory: 512}}}}',
        'hardware: {{a: {{name: "{}"}}}}',
        'hardware: {{a: {{groups: ["/{}"]}}}}',
        'hardware: {{a: {{guest_properties: {{"{}": x}}}}}}',
        'hardware: {{a: {{extra_data: {{"{}": x}}}}}}',
        'hardware: {{a: {{shared_folders: [{{name: "{}", path: /tmp}}]}}}}',
        'hardware: {{a: {{shared_folders: [{{name: x, path: "{}"}}]}}}}',
        'hardware: {{a: {{network: [{{nat_rules: [{{guest_port: 80, host_ip: "{}"}}]}}]}}}}',
        'hardware: {{a: {{network: [{{nat_rules: [{{guest_port: 80, name: "{}"}}]}}]}}}}',
        'images: {{a: {{disk: a, user: "{}"}}}}',
        'images: {{a: {{disk: a, os_family: "{}"}}}}',
        'images: {{a: {{disk: a, tags: ["{}"]}}}}',
        'images: {{a: {{vagrant: "u/{}"}}}}',
        'images: {{a: {{url: "https://example.org/{}", insecure: true}}}}',
        '"{}": 1',
        'images: {{a: {{"{}": 1}}}}',
    ],
)
def test_names_with_what_a_terminal_obeys_are_refused_and_not_shown_as_they_are(
    tmp_path: Path, where: str, odd: str
) -> None:
    with pytest.raises(ModelError) as caught:
        _load(tmp_path, where.format(odd))
    assert all(letter.isprintable() or letter == "\n" for letter in str(caught.value)), ascii(str(caught.value))
