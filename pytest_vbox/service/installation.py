"""Where VirtualBox is, on Linux, macOS and Windows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Final

from pytest_vbox.ownership import NotStarted

_COMMAND_TIMEOUT: Final = 60.0
#: Set where VirtualBox may interpret guests without its kernel driver, as tools/rig does.
_WITHOUT_DRIVER: Final = "VBoxInternal/HM/FallbackToIEM"

_VARIABLES: Final = ("VBOX_MSI_INSTALL_PATH", "VBOX_INSTALL_PATH", "PROGRAMFILES")

_INSTALL: Final[Mapping[str, str]] = {
    "linux": "Install the package virtualbox (or Oracle's from virtualbox.org)",
    "darwin": "Install VirtualBox from virtualbox.org",
    "win32": "Install VirtualBox from virtualbox.org, or: winget install Oracle.VirtualBox",
}


class VirtualBoxNotFound(Exception):
    """There is no VirtualBox on this computer, and no URL of one elsewhere was given."""


class VirtualBoxUnusable(NotStarted):
    """VirtualBox is there but cannot run: no kernel driver, or its service does not start."""


@dataclass(frozen=True)
class Installation:
    """The two programs of VirtualBox that are used."""

    vboxmanage: str
    vboxwebsrv: str

    def run(self, *arguments: str, timeout: float = _COMMAND_TIMEOUT) -> str:
        """Run VBoxManage and return what it prints.

        Args:
            arguments: Its command line.
            timeout: For how many seconds it may run.

        Raises:
            VirtualBoxUnusable: It failed; with its own words.
        """
        try:
            done = subprocess.run(
                [self.vboxmanage, "-q", *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise VirtualBoxUnusable(f"VBoxManage {arguments[0]} failed: {error.stderr.strip()}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VirtualBoxUnusable(f"{self.vboxmanage} cannot be run: {error}") from error
        return done.stdout

    def check_driver(self, device: Path = Path("/dev/vboxdrv"), platform: str = sys.platform) -> None:
        """See that VirtualBox has its kernel driver, or may do without.

        Raises:
            VirtualBoxUnusable: It has not.
        """
        if platform != "linux" or device.exists():
            return
        if self.run("getextradata", "global", _WITHOUT_DRIVER).strip() == "Value: 1":
            return
        raise VirtualBoxUnusable(
            f"VirtualBox is installed, but its kernel driver is not loaded ({device} is missing). "
            "Try: sudo modprobe vboxdrv, or sudo /sbin/vboxconfig; in a container see docs/how-to/rig.md"
        )


def find_installation(
    platform: str = sys.platform,
    environ: Mapping[str, str] = os.environ,
    which: Callable[[str], str | None] = shutil.which,
    exists: Callable[[PurePath], bool] = lambda path: Path(path).is_file(),
) -> Installation:
    """Find VirtualBox.

    Args:
        platform: As ``sys.platform``.
        environ: The environment.
        which: Looks a program up on the path.
        exists: Whether a file is there.

    Raises:
        VirtualBoxNotFound: There is none; says what to install.
    """
    # The rest, which may have passwords, is not for a traceback with local variables.
    environ = {name: environ[name] for name in _VARIABLES if name in environ}
    suffix = ".exe" if platform == "win32" else ""
    vboxmanage = which(f"VBoxManage{suffix}")
    vboxwebsrv = which(f"vboxwebsrv{suffix}")
    for folder in _folders(platform, environ, vboxmanage):
        if vboxmanage is None and exists(folder / f"VBoxManage{suffix}"):
            vboxmanage = str(folder / f"VBoxManage{suffix}")
        name = "VBoxWebSrv.exe" if platform == "win32" else "vboxwebsrv"
        if vboxwebsrv is None and exists(folder / name):
            vboxwebsrv = str(folder / name)
    if vboxmanage is None:
        install = _INSTALL.get(platform, _INSTALL["linux"])
        raise VirtualBoxNotFound(f"no VirtualBox found on this computer. {install}, or name one with --vbox-url")
    if vboxwebsrv is None:
        raise VirtualBoxNotFound(
            f"{vboxmanage} is there, but not vboxwebsrv, VirtualBox's web service. Install all of VirtualBox, or "
            "name a service that runs with --vbox-url"
        )
    return Installation(vboxmanage, vboxwebsrv)


def _folders(platform: str, environ: Mapping[str, str], vboxmanage: str | None) -> Iterator[PurePath]:
    kind = PureWindowsPath if platform == "win32" else PurePosixPath
    if vboxmanage is not None:
        yield kind(vboxmanage).parent
    if platform == "win32":
        for variable in ("VBOX_MSI_INSTALL_PATH", "VBOX_INSTALL_PATH"):
            if environ.get(variable):
                yield kind(environ[variable])
        yield kind(environ.get("PROGRAMFILES", "C:\\Program Files")) / "Oracle" / "VirtualBox"
    elif platform == "darwin":
        yield kind("/Applications/VirtualBox.app/Contents/MacOS")
    else:
        yield from (kind("/usr/lib/virtualbox"), kind("/opt/VirtualBox"), kind("/usr/lib64/virtualbox"))
