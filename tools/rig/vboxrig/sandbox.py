"""Commands that build things: in a root of their own, with mounts and processes that end with them."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from vboxrig.errors import BuildError
from vboxrig.progress import tail

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

# A build has its own mount namespace, so nothing is left mounted and nothing that is mounted can be
# deleted by mistake; and its own process namespace, so that no compiler outlives a killed `rig up`.
# --pdeathsig ends `unshare` with the thread that started it, --kill-child the rest with `unshare`.
ISOLATE = [
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *(
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ),
]


def isolated(command: Sequence[str], log: Path, what: str) -> None:
    """Run `command` on the host's files, its output going to `log`.

    Raises:
        BuildError: it failed; the message begins with `what`, the details are the log's tail.
    """
    _run([*ISOLATE, *command], log, what, dict(os.environ))


def chrooted(
    root: Path, command: Sequence[str], log: Path, what: str, binds: Mapping[Path, str] | None = None
) -> None:
    """Run `command` inside `root`, with /proc, /dev and /sys, and host folders bound to paths inside.

    Args:
        root: a folder with a Debian system in it.
        command: the program and its arguments.
        log: the file that gets its output, appended.
        what: what the command is for, the beginning of an error's message.
        binds: which host folder is to be seen where inside.

    Raises:
        BuildError: the command failed.
    """
    all_binds = {Path("/dev"): "/dev", Path("/sys"): "/sys", **(binds or {})}
    lines = ["set -e", f"mount -t proc proc {shlex.quote(str(root))}/proc"]
    for source, inside in all_binds.items():
        target = shlex.quote(f"{root}{inside}")
        lines += [f"mkdir -p {target}", f"mount --rbind {shlex.quote(str(source))} {target}"]
    lines.append(f"exec chroot {shlex.quote(str(root))} {shlex.join(command)}")
    _run([*ISOLATE, "sh", "-c", "\n".join(lines)], log, what, CLEAN_ENVIRONMENT)


_running: set[subprocess.Popen[bytes]] = set()


def stop_all() -> None:
    """End every command that other threads run here at this moment; they raise BuildError."""
    for process in list(_running):
        process.kill()


def _run(command: list[str], log: Path, what: str, environment: Mapping[str, str]) -> None:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    _running.add(process)
    try:
        code = process.wait()
    finally:
        process.kill()
        _running.discard(process)
    if code:
        raise BuildError(f"{what} failed (exit code {code})", tail(log.read_text(errors="replace")))


def debootstrap(suite: str, root: Path, mirror: str, log: Path, include: Sequence[str] = ()) -> None:
    """Install a minimal Debian of `suite` into `root`, plus the packages of `include`.

    Raises:
        BuildError: debootstrap failed: no network, or the mirror's signature does not fit.
    """
    command = ["debootstrap", "--variant=minbase", "--force-check-gpg"]
    if include:
        command.append(f"--include={','.join(include)}")
    isolated([*command, suite, str(root), mirror], log, f"installing Debian {suite} from {mirror}")
