"""The text that is sent to the guest's shell for a command. Pure functions, no connection."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


# Bytes of text above which it is sent as input. dropbear drops the connection at 9000, and Linux takes no more
# than 128 KiB as one argument of a program.
_MOST_AS_ARGUMENT = 6000


@dataclass(frozen=True)
class Script:
    """What to send, and what will come back on the error stream before the command's own text.

    Args:
        text: For the login shell.
        lead: To be given as input before the command's own.
        token: Stands in the arguments of every shell that runs the command, and nowhere else in the guest.
        sudo: Whether sudo is used.
    """

    text: str
    lead: bytes
    token: str
    sudo: bool

    @property
    def mark(self) -> bytes:
        """Printed under sudo at the moment the command starts."""
        return f"{self.token}!\n".encode()

    @property
    def prompt(self) -> bytes:
        """Printed by sudo when it wants the password."""
        return f"{self.token}?".encode()


def compose(
    command: str | Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    sudo: bool = False,
    sudo_asks: bool = False,
    first: str | None = None,
) -> Script:
    """The script that runs a command.

    Under sudo it first prints a mark on the error stream, which is removed again: before that, whatever reads
    the input may be sudo. Without sudo it prints nothing, as each packet costs a slow guest a lot; there, and
    for killing, the token in a comment is enough to find its shell, which the last line keeps from being
    replaced by the command.

    Args:
        command: A list is quoted; a string is the shell's to interpret.
        env: Variables to set, with sudo inside of it.
        cwd: Where to run; the command does not run if that folder is not there.
        sudo: Run it as root, by ``sh -c`` under sudo.
        sudo_asks: There is a password to answer sudo with; otherwise it is told not to ask.
        first: A line that comes before the command, whatever becomes of it.

    Raises:
        ValueError: An empty command, a bad variable name, or a NUL character.
    """
    token = f"pytest-vbox-{secrets.token_hex(8)}"
    text = "\n".join([*([first] if first else []), *_setup(env, cwd), _command_text(command)])
    if "\0" in text:
        raise ValueError("a command, its folder and its variables can't hold a NUL character")
    lead = b""
    if len(text.encode()) > _MOST_AS_ARGUMENT:
        lead = f"{text}\n{token}\n".encode()
        text = _READ_SCRIPT.replace("TOKEN", token)
    text = f"{text}\nexit $? # {token}"
    if sudo:
        way = f"-S -p {token}\\?" if sudo_asks else "-n"
        text = f"sudo {way} -- sh -c {shlex.quote(f'echo {token}! >&2{chr(10)}{text}')}"
    return Script(text, lead=lead, token=token, sudo=sudo)


# A shell reads lines from a pipe byte by byte, and so leaves what follows to the command.
_READ_SCRIPT = """
script=
while IFS= read -r line && [ "$line" != TOKEN ]; do script="$script$line
"; done
eval "unset script line
$script"
""".strip()


def _command_text(command: str | Sequence[str | os.PathLike[str]]) -> str:
    text = command if isinstance(command, str) else shlex.join(os.fspath(part) for part in command)
    if not text.strip():
        raise ValueError("the command is empty")
    return text


def _setup(env: Mapping[str, str] | None, cwd: str | os.PathLike[str] | None) -> list[str]:
    lines = []
    if cwd is not None:
        lines.append(f"cd -- {shlex.quote(os.fspath(cwd))} || exit 1")
    for name, value in (env or {}).items():
        if not _ENV_NAME.match(name):
            raise ValueError(f"not a name for an environment variable: {name!r}")
        lines.append(f"export {name}={shlex.quote(value)}")
    return lines


# Linux shows its processes in /proc; elsewhere POSIX ps is asked. The command's are those whose arguments hold
# the token (written so that this script's own do not), and those whose parent or whose group's leader is one of
# them, so one that was left in the background is found too. They are stopped first and looked for again, so
# that none slips away by forking meanwhile.
_KILL = r"""
tree() {
    if [ -r /proc/self/stat ]; then
        grep -l 'TOKEN' /proc/[0-9]*/cmdline 2>/dev/null
        cat /proc/[0-9]*/stat 2>/dev/null
    else
        ps -A -o pid= -o ppid= -o pgid= -o args=
    fi | awk '
        /^\/proc\// { split($0, part, "/"); ours[part[3]]; next }
        /TOKEN/ { ours[$1] }
        { sub(/\(.*\) . /, ""); parent[$1] = $2; group[$1] = $3 }
        END {
            do {
                more = 0
                for (pid in parent)
                    if (!(pid in ours) && ((parent[pid] in ours) || (group[pid] in ours))) {
                        ours[pid]
                        more = 1
                    }
            } while (more)
            for (pid in ours) printf "%s ", pid
        }'
}
ours=$(tree)
[ -n "$ours" ] || exit 0
kill -STOP $ours 2>/dev/null
kill -KILL $ours $(tree) 2>/dev/null
exit 0
"""


def kill_script(script: Script) -> str:
    """A script for ``sh`` that kills what another one started: its shells, their descendants and groups."""
    return _KILL.strip().replace("TOKEN", f"[{script.token[0]}]{script.token[1:]}")
