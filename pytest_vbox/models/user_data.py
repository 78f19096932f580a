"""User-data as cloud-init takes it: of what kind it is, and what a cloud-config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.nodes import ScalarNode

from pytest_vbox.models.bounded_yaml import BoundedLoader

_HEADER_LINE: Final = "#cloud-config"

#: How the kinds of user-data begin, and what cloud-init calls them in a multipart message.
_PARTS: Final[Mapping[str, str]] = {
    "#!": "text/x-shellscript",
    "#cloud-boothook": "text/cloud-boothook",
    "#cloud-config-archive": "text/cloud-config-archive",
    "#include": "text/x-include-url",
    "#include-once": "text/x-include-once-url",
    "#part-handler": "text/part-handler",
    "## template: jinja": "text/jinja2",
}
_MULTIPART: Final = ("content-type: multipart/", "mime-version:")
_REFUSED: Final[Mapping[str, str]] = {
    "#cloud-config-jsonp": "a JSON patch (#cloud-config-jsonp) would change pytest-vbox's own part; write a "
    "#cloud-config, which is merged with it",
    "#upstart-job": "cloud-init does not take Upstart jobs (#upstart-job) any more; write one with write_files",
}
#: Keys of a cloud-config that are lists, of which we have one of our own.
_LISTS: Final = ("users", "packages")
_LONGEST_NUMBER: Final = 1000


class UserDataError(ValueError):
    """Text that cannot be user-data.

    Attributes:
        line: The line of the text, from 1, or None if it is all of it.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(f"line {line} of the text: {message}" if line else message)
        self.message = message
        self.line = line


class _Loader(BoundedLoader):
    """PyYAML's loader with bounds."""

    most_levels = 60

    def construct_yaml_int(self, node: ScalarNode) -> int:
        """A whole number; in YAML 1.1 it may be ``1:30:00`` too, which costs the square of its length."""
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.MarkedYAMLError(
                problem=f"a number of more than {_LONGEST_NUMBER} digits", problem_mark=node.start_mark
            )
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


@dataclass(frozen=True)
class UserData:
    """User-data, read.

    Attributes:
        kind: Its MIME type, such as ``text/cloud-config``.
        text: As it was written.
        config: What it says, if it is a cloud-config; else None.
    """

    kind: str
    text: str
    config: Mapping[str, object] | None = None


def parse_user_data(text: str) -> UserData:
    """User-data, recognised as cloud-init does by how it begins. Without such a beginning it is a cloud-config.

    Raises:
        UserDataError: It is nothing that can be merged with, or go beside, pytest-vbox's own cloud-config.
    """
    text = text.removeprefix("\ufeff")
    # cloud-init passes over blanks in front, too; a script would not run with them.
    bare = text.lstrip()
    start = bare[:64].lower()
    for beginning, why in _REFUSED.items():
        if start.startswith(beginning):
            raise UserDataError(why)
    if start.startswith(_MULTIPART):
        return UserData("multipart/mixed", bare)
    # The longest that fits: `#include-once` begins with `#include`.
    for beginning in sorted(_PARTS, key=len, reverse=True):
        if start.startswith(beginning):
            return UserData(_PARTS[beginning], bare)
    return UserData("text/cloud-config", text, _cloud_config(text))


def check_network_config(text: str) -> None:
    """Look whether a text can be cloud-init's network configuration.

    Raises:
        UserDataError: It cannot.
    """
    config = _mapping(text, "version: 2, and ethernets below it")
    inner = config.get("network", config)
    if not isinstance(inner, dict) or inner.get("version") not in {1, 2}:
        raise UserDataError("needs the key version, which is 1 or 2")


def _cloud_config(text: str) -> Mapping[str, object]:
    config = _mapping(text, f"{_HEADER_LINE}; or a script, whose first line begins with #!")
    users = config.get("users")
    if isinstance(users, str):
        config["users"] = [name.strip() for name in users.split(",")]
    for key in _LISTS:
        if not isinstance(config.get(key), list | None):
            raise UserDataError(f"{key} must be a list, so that pytest-vbox's own can be joined with it")
    return config


def _mapping(text: str, wanted: str) -> dict[str, object]:
    try:
        loaded = yaml.load(text, _Loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "not understood"
        raise UserDataError(f"not valid YAML: {said}", mark.line + 1 if mark else None) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserDataError(f"not valid YAML: the character U+{ord(text[error.position]):04X}", line) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise UserDataError(f"not valid YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise UserDataError(f"must be a mapping of keys to values ({wanted})")
    wrong = next((key for key in loaded if not isinstance(key, str)), None)
    if wrong is not None:
        raise UserDataError(f"the key {wrong!r} must be text")
    return loaded
