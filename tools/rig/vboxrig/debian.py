"""What the rig needs of the computer it is on, and where that computer gets Debian's packages from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vboxrig.errors import BuildError, NotUsableError
from vboxrig.progress import say, tail

TOOLS = {"debootstrap": "debootstrap", "unshare": "util-linux", "nsenter": "util-linux", "mount": "mount"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "PYTEST_VBOX_RIG_MIRROR"


def check_host() -> None:
    """Check what can be checked in a moment.

    Raises:
        NotUsableError: not root, not Debian, another processor, or no right to mount.
    """
    if os.geteuid() != 0:
        raise NotUsableError("the rig must be started by root (it makes a root file system and mounts it)")
    if os.uname().machine != "x86_64":
        raise NotUsableError(f"the rig needs an x86_64 computer, this one is {os.uname().machine}")
    if not shutil.which("apt-get") or _os_release().get("ID") != "debian":
        raise NotUsableError("the rig needs a Debian system: it installs VirtualBox with apt and debootstrap")
    check_mounting()


def check_mounting() -> None:
    """Raise NotUsableError unless this process may make mounts of its own."""
    probe = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/proc"]
    result = subprocess.run(probe, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NotUsableError(
            "this container may not mount; start it with --privileged, "
            "or with --cap-add SYS_ADMIN --security-opt apparmor=unconfined --security-opt seccomp=unconfined",
            result.stderr,
        )


def install_tools() -> None:
    """Install the few programs that the recipes call, where they are missing.

    Raises:
        BuildError: apt could not install them.
    """
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if not KEYRING.exists():
        missing.append("debian-archive-keyring")
    if not missing:
        return
    say(f"installing {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
    for command in (install, ["apt-get", "update", "-q"], install):
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if result.returncode == 0 and command is install:
            return
    raise BuildError(f"apt-get cannot install {', '.join(missing)}", tail(result.stdout + result.stderr))


def mirror() -> str:
    """Return the address of the Debian mirror that this computer's own apt uses.

    Raises:
        NotUsableError: apt's sources name none.
    """
    chosen = os.environ.get(MIRROR_VARIABLE) or next(_mirrors(Path("/etc/apt")), None)
    if chosen is None:
        raise NotUsableError(f"no Debian mirror in /etc/apt/sources.list*; set {MIRROR_VARIABLE} to one")
    return chosen.rstrip("/")


def _mirrors(apt: Path) -> Iterator[str]:
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        for stanza in path.read_text().split("\n\n"):
            yield from _from_stanza(stanza)
    for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]:
        if path.exists():
            yield from filter(None, map(_from_line, path.read_text().splitlines()))


def _from_stanza(stanza: str) -> Iterator[str]:
    fields: dict[str, list[str]] = {}
    for line in stanza.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith(("#", " ")):
            fields[key.strip().lower()] = value.split()
    if "deb" in fields.get("types", []):
        for uri in fields.get("uris", []):
            if _is_archive(uri, fields.get("suites", []), fields.get("components", [])):
                yield uri


def _from_line(line: str) -> str | None:
    words = line.split("#")[0].split()
    if not words or words[0] != "deb":
        return None
    while len(words) > 1 and (words[1].startswith("[") or words[1].endswith("]") or "=" in words[1]):
        del words[1]
    return words[1] if len(words) > 3 and _is_archive(words[1], [words[2]], words[3:]) else None


def _is_archive(uri: str, suites: list[str], components: list[str]) -> bool:
    """Tell Debian's main archive from its security archive and from other makers' sources."""
    plain = any("/" not in suite and "-" not in suite for suite in suites)
    return uri.startswith(("http://", "https://")) and "debian" in uri and plain and "main" in components


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {key: value.strip('"') for key, _, value in pairs}
