"""cloud_init in the YAML: what is wrong with it is told with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from .models_kit import complaints_of, load


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "user_data: |\n        packages:\n         - a\n        b: [\n",
            "4: images.a.cloud_init.user_data: line 4 of the text: not valid YAML: ",
        ),
        (
            "user_data: just words\n",
            "4: images.a.cloud_init.user_data: must be a mapping of keys to values (#cloud-config; or a script, w",
        ),
        (
            "user_data: 'packages: vim'\n",
            "4: images.a.cloud_init.user_data: packages must be a list, so that pytest-vbox's own",
        ),
        ("user_data: 'users: {bob: {}}'\n", "4: images.a.cloud_init.user_data: users must be a list"),
        ("user_data: '1: a'\n", "4: images.a.cloud_init.user_data: the key 1 must be text"),
        (
            "user_data: '!!python/name:os.system'\n",
            "4: images.a.cloud_init.user_data: line 1 of the text: not valid",
        ),
        (
            'user_data: "a: \\u0001"\n',
            "4: images.a.cloud_init.user_data: line 1 of the text: not valid YAML: the ",
        ),
        ("user_data: 'a: 2001-99-99'\n", "4: images.a.cloud_init.user_data: not valid YAML: "),
        ("user_data: '#upstart-job'\n", "4: images.a.cloud_init.user_data: cloud-init does not take Upstart jobs"),
        ("user_data: '#cloud-config-jsonp'\n", "4: images.a.cloud_init.user_data: a JSON patch"),
        ("network_config: 'ethernets: {}'\n", "4: images.a.cloud_init.network_config: needs the key version"),
        (
            "network_config: 'version: [2'\n",
            "4: images.a.cloud_init.network_config: line 1 of the text: not valid",
        ),
    ],
)
def test_wrong_cloud_init(tmp_path: Path, text: str, complaint: str) -> None:
    (found,) = complaints_of(tmp_path, f"images:\n  a:\n    disk: a.vdi\n    cloud_init:\n      {text}")
    line, _, rest = complaint.partition(":")
    assert found.startswith(f"{int(line) + 1}:{rest}")


@pytest.mark.parametrize(
    "text",
    [
        "user_data: '#!/bin/sh'",
        "user_data: ''",
        "user_data: '# only a comment'",
        "user_data: 'users: default, bob'",
        'user_data: "\\n\\n## template: jinja\\n#cloud-config\\n{{ not yaml"',
        "network_config: 'version: 2'",
        "network_config: 'network: {version: 1, config: disabled}'",
        "{}",
    ],
)
def test_right_cloud_init(tmp_path: Path, text: str) -> None:
    image = load(tmp_path, f"images:\n  a:\n    disk: a.vdi\n    cloud_init:\n      {text}\n").images["a"]
    assert image.cloud_init is not None


def test_the_user_has_to_be_one_that_can_be_made(tmp_path: Path) -> None:
    (found,) = complaints_of(tmp_path, "images:\n  a: {disk: a.vdi, user: 'b; rm', cloud_init: {}}\n")
    assert "images.a: has cloud_init, which makes the user, and 'b; rm' is no name for one" in found
