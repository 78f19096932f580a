"""What a guest needs whose memory came from a snapshot: the right time, a random pool of its own, perhaps a name.

It is done by the first command that is run there, in the same breath, since each command costs a slow guest a lot;
or by a command of its own, where something else than a command comes first.
"""

from __future__ import annotations

import os
import re
import shlex
import struct
import time
from dataclasses import dataclass
from typing import Final

# RNDRESEEDCRNG of linux/random.h. What is written to /dev/urandom is mixed into the pool at once, but the kernel
# makes its random numbers from a key that is drawn from the pool only once a minute, or when this asks for it.
_RESEED: Final = 0x5207
_SEED_BYTES: Final = 64
_ASK: Final = {
    "perl": f"perl -e 'open(F,\">/dev/urandom\") && ioctl(F,{_RESEED},0)'",
    "python3": f'python3 -c \'import fcntl; fcntl.ioctl(open("/dev/urandom","w"),{_RESEED})\'',
}
_OUR_PROGRAM: Final = re.compile(r"(/dev/shm|/run|/tmp)/\.pytest-vbox-[0-9]+")


@dataclass(frozen=True)
class Settling:
    """What to do.

    Args:
        clock: Set the clock.
        reseed: Give the kernel's random pool a seed of its own.
        hostname: The host name to set, or None to leave it.
        sudo_asks: Whether sudo wants a password for the user.
        tool: What the guest has for it, as `find_tool` said; else it is looked for.
    """

    clock: bool = True
    reseed: bool = True
    hostname: str | None = None
    sudo_asks: bool = False
    tool: str = ""

    def script(self) -> str:
        """For ``sh``, as root; with the time of this very moment. It never fails, and says nothing."""
        lines = ["exec </dev/null >/dev/null 2>&1"]
        if self.clock:
            lines.append(_set_clock(time.time()))
        if self.reseed:
            lines.append(_reseed(os.urandom(_SEED_BYTES), self.tool))
        if self.hostname is not None:
            name = shlex.quote(self.hostname)
            lines.append(f"hostname {name} || echo {name} >/proc/sys/kernel/hostname")
        return "\n".join(lines)

    def inline(self, *, as_root: bool) -> str | None:
        """A line for a shell, of whatever kind, that does it before a command.

        Args:
            as_root: Whether that shell is root's.

        Returns:
            None if it is not, and sudo would ask for a password.
        """
        line = f"sh -c {shlex.quote(self.script())}"
        if as_root:
            return line
        return None if self.sudo_asks else f"sudo -n {line}"


def _set_clock(now: float) -> str:
    # Seconds since 1970 are understood by GNU and busybox; the BSDs want them written out.
    written = time.strftime("%Y%m%d%H%M.%S", time.gmtime(now))
    return f"date -u -s @{round(now)} || date -u {written}"


def find_tool() -> str:
    """A script, for ``sh`` as root, that prepares a guest for being asked to draw a new key.

    It prints what to give as `Settling.tool`. Each program costs a slow guest some 40 ms, and a guest with neither
    Perl nor Python needs one of its own: this leaves it there, in memory if it can, and it deletes itself when it
    is run.
    """
    return f"""\
[ -d /proc/sys/kernel/random ] || exit 0
command -v perl >/dev/null && echo perl && exit
command -v python3 >/dev/null && echo python3 && exit
umask 077
for folder in /dev/shm /run /tmp; do
[ -w $folder ] || continue
file=$folder/.pytest-vbox-$$
printf '{_octal(_program())}' >"$file" && chmod 700 "$file" && echo "$file" && exit
done"""


def _reseed(seed: bytes, tool: str) -> str:
    write = f"[ -w /dev/urandom ] && printf '{_octal(seed)}' >/dev/urandom"
    if tool in _ASK:
        return f"{write}\n{_ASK[tool]}"
    # Nothing that a guest says is run but what we have left there.
    if _OUR_PROGRAM.fullmatch(tool):
        return f"{write}\n{tool}"
    choices = "\n".join(f"{name}) {ask};;" for name, ask in _ASK.items())
    return f'{write}\ntool=$({find_tool()})\ncase $tool in\n{choices}\n/*) "$tool";;\nesac'


def _octal(data: bytes) -> str:
    return "".join(f"\\{byte:03o}" for byte in data)


def _program() -> bytes:
    """A Linux program (x86-64) that deletes itself and asks the kernel to draw a new key.

    It is for guests with neither Perl nor Python.
    """
    path = b"/dev/urandom\0"
    code = bytes.fromhex(
        "488b7c2408"  # mov rdi, [rsp + 8]        unlink(argv[0])
        "6a57580f05"  # push 87; pop rax; syscall
        "6a0258"  # push 2; pop rax               open(
        "488d3d16000000"  # lea rdi, [path]
        "6a015e"  # push 1; pop rsi                    path, O_WRONLY)
        "0f0597"  # syscall; xchg eax, edi
        "6a1058"  # push 16; pop rax              ioctl(fd,
        f"be{_RESEED.to_bytes(4, 'little').hex()}"  # mov esi, RNDRESEEDCRNG
        "0f0597"  # syscall; xchg eax, edi
        "6a3c58"  # push 60; pop rax              exit(what it said)
        "0f05"  # syscall
    )
    base, headers = 0x400000, 64 + 56
    size = headers + len(code) + len(path)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return identity + header + segment + code + path
