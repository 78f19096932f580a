"""The files that a rig writes for others: the shell file, the profile, the programs to call from outside."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from vboxrig.places import Places
from vboxrig.processes import Process

USER = "rig"
PROGRAMS = ["VBoxManage", "vboxwebsrv"]


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, readable by nobody else from the first moment if `mode` says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    temporary.replace(path)


def write_environment(places: Places, port: int) -> None:
    """Write the shell file that tells pytest-vbox of this rig."""
    variables = {
        "PYTEST_VBOX_URL": f"http://127.0.0.1:{port}",
        "PYTEST_VBOX_USER": USER,
        "PYTEST_VBOX_PASSWORD_FILE": str(places.password),
        "PYTEST_VBOX_PROFILES": str(places.profiles),
        "PYTEST_VBOX_RIG": str(places.state),
        "VBOX_RIG_BIN": str(places.bin),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    write(places.environment, "\n".join([f"# pytest-vbox's rig {places.name}", *lines]) + "\n")


def write_profile(places: Places, image: Path) -> None:
    """Write the YAML file with the image and the hardware `tiny`. JSON strings are YAML strings."""
    # Without the kernel module VirtualBox does not put the network boot ROM back when a machine that was resumed
    # from a saved state is reset, and the BIOS hangs in what is left of it. A ROM of zeros is not looked at.
    rom = places.state / "no-network-boot.rom"
    rom.write_bytes(bytes(4096))
    lines = [
        "# Written by `rig up`.",
        "hardware:",
        "  tiny:",
        "    memory: 256",
        "    cpus: 1",
        "    os_type: Linux26_64",
        "    extra_data:",
        f"      VBoxInternal/Devices/pcbios/0/Config/LanBootRom: {json.dumps(str(rom))}",
        "images:",
        "  tiny:",
        "    description: A small Linux that boots fast in VirtualBox's interpreter",
        f"    disk: {json.dumps(str(image / 'tiny.vdi'))}",
        "    os_type: Linux26_64",
        "    user: root",
        "    password: vagrant",
        f"    private_key: {json.dumps(str(image / 'id_rsa'))}",
    ]
    write(places.profiles / "tiny.yaml", "\n".join(lines) + "\n")


WRAPPER = """\
#!/bin/sh
# Written by `rig up`: runs {program} inside the rig {name}, in this very process.
holder=/proc/{pid}
fields=
read -r stat 2>/dev/null < $holder/stat && fields=${{stat##*) }}
identity() {{ case $1 in [ZX]) ;; *) shift 19 && echo "$1" ;; esac; }}
# The holder's start time tells it from a later process with the same number; a zombie holds nothing.
if [ "$(identity ${{fields:-Z}})" != {start} ]; then
    echo "{program}: the rig {name} is not up" >&2
    exit 6
fi
case $PWD in
    /usr | /usr/* | /etc | /etc/* | /boot | /boot/* | *'(unreachable)'*) directory=/ ;;
    *) directory=$PWD ;;
esac
unset LD_LIBRARY_PATH LD_PRELOAD DISPLAY
{exports}
exec {nsenter} --mount=$holder/ns/mnt --root=$holder/root --wdns="$directory" -- /usr/lib/virtualbox/{program} "$@"
"""


def write_programs(places: Places, holder: Process, variables: Mapping[str, str], nsenter: str) -> None:
    """Write the programs that run VirtualBox's own of the same name inside the rig."""
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    for program in PROGRAMS:
        text = WRAPPER.format(
            program=program, name=places.name, pid=holder.pid, start=holder.start, exports=exports, nsenter=nsenter
        )
        write(places.bin / program, text, 0o755)
