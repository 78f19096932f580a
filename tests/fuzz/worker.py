"""The process that fuzzes one target, until its time is over or it has found something.

With atheris it looks at which branches of pytest_vbox an input reaches, so nothing of that is imported before.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

from .guard import MAX_MEMORY, MAX_SECONDS, Guard, Violation
from .mutations import mutated
from .targets import Target, load, words

#: Whose branches are counted.
_LIBRARIES: Final = ("pytest_vbox", "tarfile", "yaml", "zeep")
_LONGEST: Final = 64 * 1024
#: Seconds of the clock after which an input that never comes back is given up.
_HANG: Final = 60
_REPORT_SECONDS: Final = 30


def main() -> None:
    """Fuzz, or run one input. Exits with 77 if something was found, as libFuzzer does."""
    for name in ("pytest_vbox", "zeep"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # each input would be worth a warning
    parser = argparse.ArgumentParser(prog="worker")
    parser.add_argument("target")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--scratch", type=Path, required=True)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # it would say something of each input
    folder = given.folder.absolute()
    if given.input is not None:
        _run_once(load(given.target), given.input.read_bytes(), given.scratch)
        return
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None:
        _by_dice(load(given.target), folder, given.seconds, given.scratch)
        return
    with atheris.instrument_imports(include=list(_LIBRARIES), enable_loader_override=False):
        target = load(given.target)
    _save_seeds(target, folder)
    guard = _guard(target, given.scratch)
    atheris.Setup([sys.argv[0], *_options(target, folder, given.seconds)], guard)
    atheris.Fuzz()


def _options(target: Target, folder: Path, seconds: float) -> list[str]:
    dictionary = folder / "words"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in words(target))
    dictionary.write_text("".join(f'"{word}"\n' for word in quoted if word), encoding="ascii")
    return [
        f"-max_total_time={max(1, round(seconds))}",
        f"-timeout={_HANG}",
        f"-rss_limit_mb={MAX_MEMORY}",
        f"-max_len={_LONGEST}",
        f"-artifact_prefix={folder}/",
        f"-dict={dictionary}",
        "-print_final_stats=1",
        "-len_control=0",
        "-use_value_profile=0",
        str(folder / "corpus"),
        str(folder / "seeds"),
    ]


def _save_seeds(target: Target, folder: Path) -> list[bytes]:
    seeds = list(target.seeds())
    for name in ("corpus", "seeds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / "seeds" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return seeds


def _guard(target: Target, scratch: Path) -> Guard:
    return Guard(target.run, scratch, programs=getattr(target, "PROGRAMS", False))


def _by_dice(target: Target, folder: Path, seconds: float, scratch: Path) -> None:
    seeds = _save_seeds(target, folder)
    # Not kept: what it would find again is in the saved input.
    dice = random.Random()
    guard = _guard(target, scratch)
    end, told, count = time.monotonic() + seconds, time.monotonic(), 0
    known = words(target)
    while time.monotonic() < end:
        data = mutated(dice.choice(seeds), seeds, known, dice) if count >= len(seeds) else seeds[count]
        count += 1
        try:
            _bounded(guard, data)
        except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
            traceback.print_exc()
            kept = folder / f"crash-{hashlib.sha256(data).hexdigest()[:40]}"
            kept.write_bytes(data)
            sys.stderr.write(f"stat::number_of_executed_units: {count}\n")
            sys.exit(77)
        if time.monotonic() - told > _REPORT_SECONDS:
            told = time.monotonic()
            sys.stderr.write(f"#{count} pulse\n")
    sys.stderr.write(f"stat::number_of_executed_units: {count}\n")


def _run_once(target: Target, data: bytes, scratch: Path) -> None:
    guard = _guard(target, scratch)
    started = time.process_time()
    try:
        _bounded(guard, data)
    except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
        traceback.print_exc()
        sys.exit(77)
    finally:
        sys.stderr.write(f"fine, {time.process_time() - started:.3f} s (at most {MAX_SECONDS:.0f})\n")


def _bounded(guard: Guard, data: bytes) -> None:
    def ring(_: int, __: FrameType | None) -> None:
        raise Violation(f"no end in {_HANG} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(_HANG)
    try:
        guard(data)
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
