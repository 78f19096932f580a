"""What a target must not do besides raising: leave its folder, start programs, hang, eat memory."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: Seconds of this process's own time for one input; the slowest good one takes a tenth.
MAX_SECONDS: Final = 5.0
#: MiB by which one input may raise the most memory that was ever used.
MAX_GROWTH: Final = 256
#: MiB in all.
MAX_MEMORY: Final = 2048

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: What changes files, and which of the event's arguments are their paths.
_CHANGES: Final = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.rename": (0, 1),
    "os.symlink": (1,),
    "os.link": (0, 1),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
}
_NEVER: Final = frozenset({"socket.connect", "socket.getaddrinfo", "os.system", "os.exec", "os.posix_spawn"})
# Python itself, its libraries, this repository, and what the C library looks at.
_PYTHON: Final = {sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *filter(None, sys.path)}
_READABLE: Final = (
    *{str(Path(place).resolve()) for place in _PYTHON},
    *(
        "/usr/",
        "/lib",
        "/proc/",
        "/dev/null",
        "/dev/urandom",
        "/etc/localtime",
        "/etc/mime.types",
        "/etc/machine-id",
    ),
)


class Violation(BaseException):
    """A target did what no input may make it do. Not an `Exception`, so that no reader catches it."""


class Guard:
    """Runs a target in a folder of its own and looks at what it does.

    Args:
        run: The target: input and an empty folder.
        base: An empty folder, in which everything happens.
        programs: Whether it may start programs.
    """

    def __init__(self, run: Callable[[bytes, Path], None], base: Path, *, programs: bool = False) -> None:
        self._inside, self._here = base.resolve() / "inside", base.resolve() / "here"
        for folder in (self._inside, self._here):
            folder.mkdir()
        os.chdir(self._here)
        self._run, self._programs = run, programs
        self._watching = False
        self._found = ""
        sys.addaudithook(self._audit)

    def __call__(self, data: bytes) -> None:
        """Run the target on one input.

        Raises:
            Violation: It did what it must not.
            Exception: What it raised.
        """
        before, started = _most_memory(), time.process_time()
        self._found, self._watching = "", True
        try:
            self._run(data, self._inside)
        finally:
            self._watching = False
            left = [*self._here.iterdir()]
            for path in (*self._inside.iterdir(), *left):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if self._found or left:
            raise Violation(self._found or f"it wrote {left[0].name!r} into the current folder")
        seconds, grown = time.process_time() - started, _most_memory() - before
        if seconds > MAX_SECONDS:
            raise Violation(f"it took {seconds:.1f} s")
        if grown > MAX_GROWTH:
            raise Violation(f"it took {grown} MiB of memory")

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._watching:
            return
        if event in _NEVER or (event == "subprocess.Popen" and not self._programs):
            self._refuse(f"{event} {arguments[:2]!r:.200}")
        elif event == "open":
            path, _, flags = arguments[:3]
            if isinstance(flags, int) and not isinstance(path, int):
                self._look(event, path, writes=bool(flags & _WRITING))
        elif event in _CHANGES:
            for position in _CHANGES[event]:
                self._look(event, arguments[position], writes=True)

    def _look(self, event: str, path: object, *, writes: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        # Relative ones come with the handle of a folder, when a tree is removed; and the current one is looked at.
        if not name.startswith("/"):
            return
        self._watching = False
        try:
            real = os.path.realpath(name)
        finally:
            self._watching = True
        if Path(real).is_relative_to(self._inside) or real == "/dev/null":
            return
        if writes or not real.startswith(_READABLE):
            self._refuse(f"{event} of {name!r:.200}, which is outside of its folder")

    def _refuse(self, what: str) -> None:
        self._found = what
        raise Violation(what)


def _most_memory() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024**2 if sys.platform == "darwin" else most // 1024
