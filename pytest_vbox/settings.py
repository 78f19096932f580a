"""What a user set: command line, then environment, then ini, then default, in one frozen object.

Knows nothing of pytest: the plugin hands in what pytest parsed, :func:`pytest_vbox.connect` only the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pytest_vbox.secret import ReadableByOthers, Secret, first_line, without_credentials

ENVIRONMENT_PREFIX: Final = "PYTEST_VBOX_"
#: What is said of an address with an ``@`` in it.
NO_CREDENTIALS: Final = "user and password do not belong into the address; use --vbox-user and a password file"


class SettingsError(ValueError):
    """A setting has a value that cannot be used. Says which, where it came from and what would be right."""


class Mode(StrEnum):
    """What becomes of machine tests where VirtualBox cannot be used."""

    AUTO = "auto"
    REQUIRE = "require"
    OFF = "off"


class Reset(StrEnum):
    """How a machine comes, and how it is made pristine again."""

    LIVE = "live"
    DISK = "disk"
    FRESH = "fresh"


class Keep(StrEnum):
    """Which machines are left for inspection."""

    NEVER = "never"
    FAILED = "failed"
    ALWAYS = "always"


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. The fields are the options without ``--vbox-``, with underscores."""

    mode: Mode = Mode.AUTO
    url: str | None = None
    user: str = ""
    password_file: Path | None = None
    password: str = field(default="", repr=False)
    ca: Path | None = None
    insecure: bool = False
    image: str | None = None
    profile: str | None = None
    profiles: tuple[Path, ...] = ()
    reset: Reset = Reset.LIVE
    boot_timeout: float = 300.0
    max_machines: int | None = None
    prewarm: int = 1
    cache_size: int = 20 * 1024**3
    keep: Keep = Keep.NEVER
    artifacts: Path = Path(".pytest_vbox")
    durations: bool = False
    report: Path | None = None

    def __post_init__(self) -> None:
        # Whoever made these settings: nobody who takes it from here shows it.
        object.__setattr__(self, "password", Secret(self.password))

    def login_password(self) -> Secret:
        """The web service's password: from the environment, else the first line of the file.

        Raises:
            SettingsError: The file cannot be read, or others than its owner can.
        """
        if self.password or self.password_file is None:
            return Secret(self.password)
        try:
            return first_line(self.password_file, private=not self.insecure)
        except (OSError, ValueError) as error:
            raise SettingsError(f"--vbox-password-file: cannot read {self.password_file}: {error}") from error
        except ReadableByOthers as error:
            raise SettingsError(
                f"--vbox-password-file: {error}. Like ssh with a private key, pytest-vbox does not use it then. "
                f"Try: chmod 600 {self.password_file} (or give the password in PYTEST_VBOX_PASSWORD, or "
                "--vbox-insecure)"
            ) from error


@dataclass(frozen=True)
class Option:
    """One setting: where it may be given, how it is read, and what ``--help`` says.

    Attributes:
        name: The field of :class:`Settings`.
        parse: Makes the text into a value; raises ``ValueError`` with a sentence.
        help: For ``--help`` and the reference page.
        metavar: What the value is called there.
        flag: The option on the command line, or None if it may not be given there.
        choices: The allowed values, if they are few.
        repeatable: May be given several times.
        switch: On the command line it takes no value: it is there or not.
    """

    name: str
    parse: Callable[[str], object]
    help: str
    metavar: str | None = None
    flag: str | None = None
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    switch: bool = False

    @property
    def ini(self) -> str:
        """The key in the ini file."""
        return "vbox" if self.name == "mode" else f"vbox_{self.name}"

    @property
    def environment(self) -> str:
        """The environment variable."""
        return ENVIRONMENT_PREFIX + self.name.upper()


def _url(text: str) -> str:
    expected = "expected an address such as http://127.0.0.1:18083 or https://host:18083"
    if without_credentials(text) != text:
        raise ValueError(NO_CREDENTIALS)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{expected} ({error})") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise ValueError(expected)
    return text.rstrip("/")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise ValueError("expected a number of seconds greater than 0, such as 300")
    return seconds


def _yes_or_no(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError("expected true or false")


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text.strip(), re.ASCII):
        raise ValueError("expected a whole number, such as 2")
    return int(text)


def _positive(text: str) -> int:
    count = _count(text)
    if count == 0:
        raise ValueError("expected at least 1; to run no machine tests, use --vbox=off")
    return count


def size_in_bytes(text: str) -> int:
    """A size as people write it: ``20 GiB``, ``500M``. All units are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])i?B?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise ValueError("expected a size such as 20 GiB or 500 MiB")
    return int(float(found[1]) * 1024 ** (1 + "KMGT".index(found[2].upper())))


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user, whose folder ~ would be") from None


def _one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def parse(text: str) -> StrEnum:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"expected one of {', '.join(kind)}") from None

    return parse


def _values(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(entry.value for entry in kind)


OPTIONS: Final[tuple[Option, ...]] = (
    Option(
        "mode",
        _one_of(Mode),
        "What to do where VirtualBox cannot be used: auto skips machine tests and says why, require makes "
        "them errors, off skips all machine tests. Default: auto.",
        flag="--vbox",
        choices=_values(Mode),
    ),
    Option(
        "url",
        _url,
        "Address of a VirtualBox web service that runs already. Without it the plugin uses the one on "
        "port 18083 of this computer, or starts its own.",
        metavar="URL",
        flag="--vbox-url",
    ),
    Option("user", str, "User for the web service.", metavar="NAME", flag="--vbox-user"),
    Option(
        "password_file",
        _path,
        "File whose first line is the password for the web service. "
        "(Or set PYTEST_VBOX_PASSWORD; a password never belongs on a command line.)",
        metavar="FILE",
        flag="--vbox-password-file",
    ),
    Option("password", Secret, "Password for the web service, from the environment only."),
    Option(
        "ca",
        _path,
        "Certificate authority (PEM) for a web service over https, if the system does not know it.",
        metavar="FILE",
        flag="--vbox-ca",
    ),
    Option(
        "insecure",
        _yes_or_no,
        "Use a web service on another computer without https, one that lets anybody in, or one that another user "
        "of this computer started, and a password file that others may read. For networks and computers that are "
        "yours alone.",
        flag="--vbox-insecure",
        switch=True,
    ),
    Option(
        "image",
        str,
        "Image for tests that name none. Default: the only image, if there is just one.",
        metavar="NAME",
        flag="--vbox-image",
    ),
    Option(
        "profile",
        str,
        "Hardware profile for tests that name none. Default: small.",
        metavar="NAME",
        flag="--vbox-profile",
    ),
    Option(
        "profiles",
        _path,
        "A further folder with YAML files of images and hardware profiles; may be given several times, "
        "later ones win. Default: profiles/ under the rootdir.",
        metavar="DIR",
        flag="--vbox-profiles",
        repeatable=True,
    ),
    Option(
        "reset",
        _one_of(Reset),
        "How machines come, and what Machine.reset() does: live forks a machine that was booted once and is "
        "kept, and goes back to that; disk boots with an empty differencing disk; fresh boots, and replaces "
        "the machine by a new one. Default: live.",
        flag="--vbox-reset",
        choices=_values(Reset),
    ),
    Option(
        "boot_timeout",
        _seconds,
        "Seconds from power-on to a working SSH connection. Default: 300.",
        metavar="S",
        flag="--vbox-boot-timeout",
    ),
    Option(
        "max_machines",
        _positive,
        "How many machines there may be at once on this computer, over all workers and runs; further ones wait. "
        "Default: 4 for each processor core, as long as they take no more than four fifths of the memory.",
        metavar="N",
        flag="--vbox-max-machines",
    ),
    Option(
        "prewarm",
        _count,
        "How many machines are forked, connected and frozen in advance while tests run, for those that come "
        "next; 0 for none. Default: 1.",
        metavar="N",
        flag="--vbox-prewarm",
    ),
    Option(
        "cache_size",
        size_in_bytes,
        "How much disk space machines that are kept to be forked may take together; those that were used least "
        "recently go first. Default: 20 GiB.",
        metavar="SIZE",
        flag="--vbox-cache-size",
    ),
    Option(
        "keep",
        _one_of(Keep),
        "Leave machines for inspection, and say how to enter them: never, after failed tests, or always. "
        "Default: never.",
        flag="--vbox-keep",
        choices=_values(Keep),
    ),
    Option(
        "artifacts",
        _path,
        "Folder for screenshots, serial logs and VBox.log of machines in failed tests. Default: .pytest_vbox/.",
        metavar="DIR",
        flag="--vbox-artifacts",
    ),
    Option(
        "durations",
        _yes_or_no,
        "Show how machines came, how long each part of it took and what was waited for; -v does so too.",
        flag="--vbox-durations",
        switch=True,
    ),
    Option(
        "report",
        _path,
        "Write the same, and each machine, to a file as JSON.",
        metavar="FILE",
        flag="--vbox-report",
    ),
)


def load(
    command_line: Mapping[str, object] | None = None,
    ini: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    root: Path | None = None,
) -> Settings:
    """Put the settings together.

    Args:
        command_line: Field name to text (or list of texts), for the options that were given.
        ini: The same from the ini file.
        environ: The environment; by default this process's.
        root: What relative paths in the ini file, and the defaults, are relative to; by default the working
            directory, which is what paths on the command line and in the environment are relative to anyway.

    Raises:
        SettingsError: A value cannot be used; it names the option as the user wrote it.
    """
    # The rest of it is nobody's business, such as that of a traceback with local variables.
    environ = _hushed(os.environ if environ is None else environ)
    root = root or Path.cwd()
    values: dict[str, Any] = {}
    for option in OPTIONS:
        given = _find(option, command_line or {}, ini or {}, environ)
        if given is not None:
            source, texts, base = given
            parsed = [_parse(option, source, text, root if base else Path.cwd()) for text in texts]
            values[option.name] = tuple(parsed) if option.repeatable else parsed[-1]
    values.setdefault("artifacts", root / ".pytest_vbox")
    return Settings(**values)


def _hushed(environ: Mapping[str, str]) -> dict[str, str]:
    """What belongs to pytest-vbox of an environment; the password as one that is not shown."""
    secret = f"{ENVIRONMENT_PREFIX}PASSWORD"
    return {
        name: Secret(text) if name == secret else text
        for name, text in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _find(
    option: Option, command_line: Mapping[str, object], ini: Mapping[str, object], environ: Mapping[str, str]
) -> tuple[str, Sequence[str], bool] | None:
    """Where an option was given: its name there, the texts, and whether paths are relative to the ini file."""
    given = command_line.get(option.name)
    if option.flag is not None and given not in (None, []):
        return option.flag, _texts(given), False
    text = environ.get(option.environment, "")
    if text:
        parts = [part for part in text.split(os.pathsep) if part]
        return option.environment, parts if option.repeatable else [text], False
    given = ini.get(option.name)
    if given not in (None, "", []):
        return f"ini key {option.ini}", _texts(given), True
    return None


def _texts(given: object) -> list[str]:
    return [str(entry) for entry in given] if isinstance(given, list | tuple) else [str(given)]


def _parse(option: Option, source: str, text: str, base: Path) -> object:
    try:
        value = option.parse(text)
    except ValueError as error:
        # An address may have a password in it, which is wrong but no reason to print it.
        raise SettingsError(f"{source}: {without_credentials(text)!r} cannot be used: {error}") from None
    return base / value if isinstance(value, Path) else value
