"""A rig's own view of the file system: VirtualBox's /usr and /etc, everything else the host's.

The view exists in a private mount namespace only. Nothing is mounted that the host could see, so nothing
has to be unmounted there, and a path of a disk means the same inside and outside. One process, the
holder, keeps the namespace; when the last process in it ends, the kernel takes all mounts down.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

from vboxrig.errors import NotUsableError
from vboxrig.locks import share
from vboxrig.processes import Process

SYSTEM_FOLDERS = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "boot", "lost+found"}
OWN_FOLDERS = {"usr", "etc"}
VBOXHEADLESS = Path("/usr/lib/virtualbox/VBoxHeadless")
# VirtualBox's own folder first: /usr/bin has a script of Debian's that complains of the missing kernel module.
PATH = "/usr/lib/virtualbox:/usr/sbin:/usr/bin:/sbin:/bin"
HOST_FILES = [Path("/etc/resolv.conf"), Path("/etc/hosts")]


@dataclass(frozen=True)
class View:
    """What a rig's file system is put together from."""

    name: str
    """The rig's name, shown in the list of processes."""
    virtualbox: str
    """The root that VirtualBox is installed in; it is mounted read-only."""
    headless: str
    """The program that takes VBoxHeadless's place."""
    target: str
    """The folder to put the view together at (empty for everyone outside)."""
    in_use: list[str]
    """Files that are locked, shared, for as long as the rig is up."""


def start_holder(view: View, log: Path, keep: Callable[[Process], None]) -> None:
    """Make the namespace and the process that keeps it.

    Args:
        view: what to make.
        log: the file that gets error messages.
        keep: writes the holder down. Only then may it stay: if this program is killed before, it ends by itself.

    Raises:
        NotUsableError: mounting failed.
    """
    Path(view.target).mkdir(parents=True, exist_ok=True)
    entry = Path(__file__).resolve().parent.parent / "rig"
    hold_it = [sys.executable, str(entry), "hold-namespace", json.dumps(asdict(view))]
    with log.open("w") as output:
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", "--", *hold_it],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    stdin, stdout = cast("IO[bytes]", holder.stdin), cast("IO[bytes]", holder.stdout)  # pipes, as asked
    with stdin, stdout:
        process = Process.of(holder.pid)
        if stdout.readline() != b"ready\n" or process is None:
            holder.wait()
            raise NotUsableError("cannot put the rig's file system together", log.read_text())
        keep(process)
        stdin.write(b"stay\n")
    holder.returncode = 0  # it outlives this program: nothing to wait for


def hold(order: str) -> NoReturn:
    """Put the view together and keep it: what the holder does. Exits if it fails, or is not told to stay."""
    view = View(**json.loads(order))
    for path in view.in_use:
        share(Path(path))
    for command in _mounts(view):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            print(f"{' '.join(command)}: {result.stderr.strip()}", file=sys.stderr)
            sys.exit(NotUsableError.exit_code)
    os.chroot(view.target)
    os.chdir("/")
    print("ready", flush=True)
    if sys.stdin.readline() != "stay\n":
        sys.exit(NotUsableError.exit_code)
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.execv("/usr/bin/sleep", [f"pytest-vbox-rig-{view.name}", "infinity"])  # noqa: S606 - no shell is wanted


def _mounts(view: View) -> Iterator[list[str]]:
    """Yield the commands that make the view, each one to be run before the next is asked for."""
    virtualbox, target = Path(view.virtualbox), Path(view.target)
    yield ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "rig", str(target)]
    for entry in sorted(Path("/").iterdir()):
        if entry.name not in SYSTEM_FOLDERS:
            yield from _host_entry(entry, target)
    for name in sorted(SYSTEM_FOLDERS):
        source = virtualbox / name
        if source.is_symlink():
            (target / name).symlink_to(source.readlink())
        elif name in OWN_FOLDERS:
            (target / name).mkdir()
            yield ["mount", "--bind", str(source), str(target / name)]
            yield ["mount", "-o", "remount,bind,ro", str(target / name)]
    yield ["mount", "--bind", view.headless, f"{target}{VBOXHEADLESS}"]
    for path in HOST_FILES:
        if path.exists() and (virtualbox / path.relative_to("/")).is_file():
            yield ["mount", "--bind", str(path), f"{target}{path}"]


def _host_entry(entry: Path, target: Path) -> Iterator[list[str]]:
    """Yield the commands that show one of the host's top-level folders at the same path in the view."""
    place = target / entry.name
    if entry.is_symlink():
        place.symlink_to(entry.readlink())
    elif entry.is_dir():
        place.mkdir()
        yield ["mount", "--rbind", str(entry), str(place)]
        if target.is_relative_to(entry):
            # The bind took the half-made view along; inside the view it has no business.
            yield ["umount", "--lazy", str(place / target.relative_to(entry))]


def entering(holder: Process, directory: str = "/") -> list[str]:
    """Return the beginning of a command that runs the rest of it inside the namespace."""
    proc = f"/proc/{holder.pid}"
    return ["nsenter", f"--mount={proc}/ns/mnt", f"--root={proc}/root", f"--wdns={directory}", "--"]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment for use inside: the host's libraries and paths do not hold there."""
    dropped = {"LD_LIBRARY_PATH", "LD_PRELOAD", "DISPLAY"}
    inherited = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**inherited, "PATH": PATH, "LC_ALL": "C.UTF-8", **variables}
