"""The seed of a cloud image: its documents, what is merged how, and the disc they are on."""

from __future__ import annotations

import stat
from email import message_from_string
from io import BytesIO
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml

from pytest_vbox.images import Seed, check_user_data, make_seed
from pytest_vbox.models import Image, ModelError

KEY = "ssh-ed25519 AAAA"


def seed_of(
    *, name: str = "pytest-one-12345678", user: str = "deploy", password: str | None = None, **given: Any
) -> Seed:
    """The seed of a machine whose image has this ``cloud_init``."""
    image = Image.model_validate({"disk": "a.vdi", "user": user, "password": password, "cloud_init": given})
    return make_seed(image, "a", machine_id="the-uuid", machine_name=name, public_keys=[KEY])


def config_of(seed: Seed) -> dict[str, Any]:
    assert seed.user_data.startswith("#cloud-config\n")
    config: dict[str, Any] = yaml.safe_load(seed.user_data)
    return config


def parts_of(seed: Seed) -> list[tuple[str, str]]:
    """Type and content of the parts of a multipart message."""
    message = message_from_string(seed.user_data)
    leaves = [part for part in message.walk() if not part.is_multipart()]
    return [(part.get_content_type(), _content(part.get_payload(decode=True))) for part in leaves]


def _content(payload: object) -> str:
    assert isinstance(payload, bytes)
    return payload.decode()


def test_the_documents_of_the_shortest_image() -> None:
    seed = seed_of()
    assert seed.meta_data == "instance-id: the-uuid\nlocal-hostname: pytest-one-12345678\n"
    assert seed.network_config is None
    assert seed.user_data == (
        "#cloud-config\n"
        "hostname: pytest-one-12345678\n"
        "preserve_hostname: false\n"
        "manage_etc_hosts: localhost\n"
        "users:\n"
        "- name: deploy\n"
        "  shell: /bin/bash\n"
        "  sudo: ALL=(ALL) NOPASSWD:ALL\n"
        "  lock_passwd: true\n"
        "  ssh_authorized_keys:\n"
        "  - ssh-ed25519 AAAA\n"
        "ssh_pwauth: false\n"
    )


def test_packages_are_installed_from_fresh_lists() -> None:
    config = config_of(seed_of(packages=["nginx", "postgresql"]))
    assert (config["package_update"], config["packages"]) == (True, ["nginx", "postgresql"])


def test_a_password_is_set_by_its_hash_and_lets_in() -> None:
    seed = seed_of(password="päss wörd")
    (user,) = config_of(seed)["users"]
    assert "päss" not in seed.user_data
    assert user["hashed_passwd"].startswith("$6$")
    assert user["lock_passwd"] is False
    assert config_of(seed)["ssh_pwauth"] is True


def test_root_is_neither_made_nor_barred() -> None:
    config = config_of(seed_of(user="root"))
    assert config["users"] == [{"name": "root", "lock_passwd": True, "ssh_authorized_keys": [KEY]}]
    assert config["disable_root"] is False


@pytest.mark.parametrize(
    ("machine", "host"),
    [
        ("pytest-test_one-x-12345678", "pytest-test-one-x-12345678"),
        ("pytest-Größe-12345678", "pytest-gr-e-12345678"),
        (f"pytest-{'a' * 48}-12345678", f"ytest-{'a' * 48}-12345678"),
        ("___", "machine"),
    ],
)
def test_a_machine_name_becomes_a_host_name(machine: str, host: str) -> None:
    seed = seed_of(name=machine)
    assert yaml.safe_load(seed.meta_data)["local-hostname"] == host == config_of(seed)["hostname"]
    assert len(host) <= 63


def test_lists_are_joined_mappings_merged_and_scalars_of_the_user_win() -> None:
    config = config_of(
        seed_of(
            packages=["one"],
            user_data="#cloud-config\npackages: [two]\nhostname: mine\npackage_update: false\napt: {proxy: 'p'}\n",
        )
    )
    assert config["packages"] == ["one", "two"]
    assert (config["hostname"], config["package_update"], config["apt"]) == ("mine", False, {"proxy": "p"})


def test_our_user_stays_whatever_users_are_added() -> None:
    ours = "{name: deploy, shell: /bin/zsh, groups: [adm], ssh_authorized_keys: [theirs]}"
    text = f"users:\n- default\n- {{name: b}}\n- {ours}\n"
    first, *others = config_of(seed_of(user_data=text))["users"]
    assert first["name"] == "deploy"
    assert first["ssh_authorized_keys"] == [KEY, "theirs"]
    assert (first["shell"], first["groups"], first["lock_passwd"]) == ("/bin/zsh", ["adm"], True)
    assert others == ["default", {"name": "b"}]


def test_null_takes_a_key_back_but_not_the_user() -> None:
    config = config_of(seed_of(user_data="ssh_pwauth: null\nusers: null\n"))
    assert "ssh_pwauth" not in config
    assert [user["name"] for user in config["users"]] == ["deploy"]


def test_text_of_several_lines_stays_readable() -> None:
    seed = seed_of(user_data="write_files:\n- path: /etc/motd\n  content: |\n    Grüße,\n      eingerückt\n")
    assert "content: |\n    Grüße,\n      eingerückt\n" in seed.user_data


def test_a_script_goes_beside_our_config() -> None:
    seed = seed_of(user_data="#!/bin/sh\necho hello\n", packages=["one"])
    (script, text), (config, ours) = parts_of(seed)
    assert (script, text) == ("text/x-shellscript", "#!/bin/sh\necho hello\n")
    assert config == "text/cloud-config"
    assert yaml.safe_load(ours)["packages"] == ["one"]
    # Cloud-config that the other part brings is kept, and ours added to it.
    assert "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n" in seed.user_data
    assert "echo hello" in seed.user_data


def test_a_script_that_is_not_ascii_survives() -> None:
    text = "#!/bin/sh\r\necho 'Grüße'\n"
    assert parts_of(seed_of(user_data=text))[0] == ("text/x-shellscript", text)


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        ("## template: jinja\n#cloud-config\n", "text/jinja2"),
        ("#cloud-boothook\n", "text/cloud-boothook"),
        ("#include\nhttps://x\n", "text/x-include-url"),
        ("#include-once\nhttps://x\n", "text/x-include-once-url"),
        ("#part-handler\n", "text/part-handler"),
        ("#cloud-config-archive\n- a\n", "text/cloud-config-archive"),
    ],
)
def test_other_kinds_go_beside_our_config_by_their_type(beginning: str, kind: str) -> None:
    assert [part for part, _ in parts_of(seed_of(user_data=beginning))] == [kind, "text/cloud-config"]


def test_a_multipart_message_of_the_users_own_is_taken_whole() -> None:
    text = (
        'Content-Type: multipart/mixed; boundary="b"\nMIME-Version: 1.0\n\n'
        "--b\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--b\nContent-Type: text/cloud-boothook\n\n#x\n--b--\n"
    )
    kinds = [kind for kind, _ in parts_of(seed_of(user_data=text))]
    assert kinds == ["text/x-shellscript", "text/cloud-boothook", "text/cloud-config"]


def test_user_data_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text("\ufeff#cloud-config\ntimezone: UTC\n", encoding="utf-8")
    assert config_of(seed_of(user_data_file=file))["timezone"] == "UTC"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: 1\nb: [\n", ":3: images.a.cloud_init.user_data_file: not valid YAML: "),
        (
            b"\x1f\x8b\x08",
            ": images.a.cloud_init.user_data_file: not UTF-8 text; a packed file has to be unpacked",
        ),
        (None, ": images.a.cloud_init.user_data_file: can't be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_file_line_and_key(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    file = tmp_path / "user-data"
    if content is not None:
        file.write_bytes(content)
    image = Image.model_validate({"disk": "a.vdi", "cloud_init": {"user_data_file": file}})
    with pytest.raises(ModelError) as caught:
        check_user_data(image, "a")
    assert f"{file}{complaint}" in str(caught.value)


def test_the_disc_holds_the_documents_under_both_kinds_of_names_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ä seed.iso"
    seed = Seed("m: ü\n", "#cloud-config\n{}\n", "version: 2\n")
    seed.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    disc = pycdlib.PyCdlib()
    disc.open(str(path))
    assert disc.pvd.volume_identifier.rstrip() == b"cidata"
    for name, text in (("meta-data", "m: ü\n"), ("user-data", seed.user_data), ("network-config", "version: 2\n")):
        assert _read(disc, rr_path=f"/{name}") == _read(disc, joliet_path=f"/{name}") == text
    disc.close()
    with pytest.raises(FileExistsError):
        seed.write(path)


def _read(disc: pycdlib.PyCdlib, **where: str) -> str:
    content = BytesIO()
    disc.get_file_from_iso_fp(content, **where)
    return content.getvalue().decode()
