"""`python -m tests.fuzz`: fuzzes readers, each in a process of its own."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .targets import TARGETS

_REPOSITORY: Final = Path(__file__).parents[2]
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PULSE: Final = re.compile(r"^#(\d+)\s", re.MULTILINE)
_COVERED: Final = re.compile(r"^#\d+\s+\w+\s+cov: (\d+)", re.MULTILINE)
_SHOWN: Final = 40
#: Seconds for starting, and for the last input.
_GRACE: Final = 300


@dataclass(frozen=True)
class Outcome:
    """How fuzzing a target went."""

    target: str
    seconds: float
    executions: int
    covered: tuple[int, int] | None
    found: tuple[Path, ...]
    failed: bool
    log: str

    def line(self) -> str:
        """As a line of the table."""
        branches = f"{self.covered[0]} -> {self.covered[1]}" if self.covered else "not counted"
        result = "FAILED" if self.failed else "passed"
        return f"{self.target:<11} {self.executions:>10} {self.seconds:>7.0f} s  {branches:<15} {result}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 1 if anything was found."""
    listed = "\n".join(f"  {name:<11} {about}" for name, about in TARGETS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        epilog=f"targets:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="what to fuzz; by default all, in this order")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="how many targets at a time (default: 2)")
    parser.add_argument("--input", type=Path, help="run one target on this file, and nothing else")
    parser.add_argument(
        "--folder",
        type=Path,
        default=_REPOSITORY / ".fuzz",
        help="where corpora, logs and crashes are kept (default: .fuzz)",
    )
    given = parser.parse_args(arguments)
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]!r}; there are: {', '.join(TARGETS)}")
    if given.input is not None:
        if len(given.targets) != 1:
            parser.error("--input needs the one target that is to read the file")
        return _worker(given.targets[0], given.folder, ["--input", str(given.input.absolute())]).returncode
    with ThreadPoolExecutor(max(1, given.jobs)) as pool:
        outcomes = list(
            pool.map(lambda name: _fuzz(name, given.folder, given.seconds), given.targets or list(TARGETS))
        )
    return _report(outcomes, given.folder)


def _report(outcomes: Sequence[Outcome], folder: Path) -> int:
    print(f"\n{'target':<11} {'executions':>10} {'time':>9}  {'branches':<15} result")
    for outcome in outcomes:
        print(outcome.line())
    for outcome in outcomes:
        if outcome.failed:
            print(
                f"\n{outcome.target}: {_last_words(outcome.log)}\n(all of it: {folder / outcome.target / 'log'})"
            )
        for file in outcome.found:
            print(f"again: python -m tests.fuzz {outcome.target} --input {file}")
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"\n{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _fuzz(name: str, folder: Path, seconds: float) -> Outcome:
    mine = folder / name
    mine.mkdir(parents=True, exist_ok=True)
    before, started = set(_findings(mine)), time.monotonic()
    log = mine / "log"
    with log.open("wb") as file:
        try:
            code = _worker(name, folder, ["--seconds", str(seconds)], file.fileno(), seconds + _GRACE).returncode
        except subprocess.TimeoutExpired:
            code = -1
            file.write(f"\nended from outside: {_GRACE} s past its time\n".encode())
    text = log.read_text(encoding="utf-8", errors="replace")
    executed = _EXECUTED.findall(text) or _PULSE.findall(text)
    covered = [int(number) for number in _COVERED.findall(text)]
    outcome = Outcome(
        name,
        time.monotonic() - started,
        int(executed[-1]) if executed else 0,
        (covered[0], covered[-1]) if covered else None,
        tuple(sorted(set(_findings(mine)) - before)),
        failed=code != 0,
        log=text,
    )
    print(outcome.line(), flush=True)
    return outcome


def _worker(
    name: str, folder: Path, options: Sequence[str], log: int | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    # Seeds need the tests' kit; the settings of whoever fuzzes are nobody's input.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_VBOX_", "XDG_"))}
    environment = kept | {"PYTHONPATH": os.pathsep.join([str(_REPOSITORY), str(_REPOSITORY / "tests")])}
    command = [sys.executable, "-m", "tests.fuzz.worker", name, str((folder / name).absolute()), *options]
    memory = Path("/dev/shm")
    # Of this process, since libFuzzer ends its own without a farewell.
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None) as scratch:
        return subprocess.run(
            [*command, "--scratch", scratch],
            cwd=_REPOSITORY,
            env=environment,
            stdout=log,
            stderr=log,
            check=False,
            timeout=timeout,
        )


def _findings(folder: Path) -> list[Path]:
    return [path for kind in ("crash", "timeout", "oom") for path in folder.glob(f"{kind}-*")]


def _last_words(log: str) -> str:
    """The end of the traceback, without what libFuzzer says after it."""
    start = max(log.rfind("Uncaught Python exception"), log.rfind("Traceback (most recent"), 0)
    lines = log[start:].split("\n==")[0].splitlines()
    return "\n".join(lines[-_SHOWN:])


if __name__ == "__main__":
    sys.exit(main())
