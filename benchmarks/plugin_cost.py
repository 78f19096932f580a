"""What the plugin costs a pytest run that makes no machine. Needs no VirtualBox.

    python -m benchmarks.plugin_cost [--runs N] [--quick]

Collecting 1000 tests that use `vbox_machine`: with the plugin, without it, and without it but with a bare fixture
of that name (which tells what is pytest's own), in turn; and importing and
registering the plugin, in a run that has no machine test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common import Options, about, clean_environment, median_of, save, warn_if_busy

TESTS: Final = 1000
_FILES: Final = 20

# Loaded before all plugins that are installed: notes when the plugin's first module is looked for, and when
# pytest has registered the plugin.
_TIMER: Final = """
import json
import os
import sys
import time

begun = []


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pytest_vbox" and not begun:
            begun.append((time.perf_counter(), time.process_time()))
        return None


sys.meta_path.insert(0, Finder)
took = {}


def pytest_plugin_registered(plugin):
    if getattr(plugin, "__name__", "") == "pytest_vbox.plugin" and not took:
        took["wall"] = (time.perf_counter() - begun[0][0]) * 1000
        took["cpu"] = (time.process_time() - begun[0][1]) * 1000


def pytest_unconfigure():
    heavy = [name for name in ("zeep", "paramiko", "pydantic", "yaml", "lxml", "requests") if name in sys.modules]
    with open(os.environ["BENCH_FILE"], "w") as file:
        json.dump({**took, "imported": heavy}, file)
"""


# A fixture that is there and needs nothing: finding it is pytest's work, which no plugin can avoid.
_BARE: Final = """
import pytest


@pytest.fixture
def vbox_machine():
    return None
"""


def measure(options: Options) -> None:
    """Measure, print and save."""
    warn_if_busy()
    runs = options.runs
    with tempfile.TemporaryDirectory(prefix="pytest-vbox-bench-") as name:
        folder = Path(name)
        collected = _collections(_suite(folder / "many"), runs)
        imports = _imports(_plain(folder / "plain"), runs)
    document = {"about": about(), "tests": TESTS, "collect": collected, "import": imports}
    save(options, "plugin_cost", document)
    for line in summary(document):
        print(line)


def _suite(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "bench_bare.py").write_text(_BARE)
    per_file = TESTS // _FILES
    for number in range(_FILES):
        tests = "".join(
            f"def test_{number}_{test}(vbox_machine):\n    assert vbox_machine().run('true')\n\n\n"
            for test in range(per_file)
        )
        (folder / f"test_{number}.py").write_text(tests)
    return folder


def _plain(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "bench_timer.py").write_text(_TIMER)
    (folder / "test_plain.py").write_text("def test_plain():\n    assert True\n")
    return folder


def _collections(folder: Path, runs: int) -> dict[str, list[dict[str, float]]]:
    ways: dict[str, list[str]] = {"with": [], "without": ["-p", "no:vbox"]}
    ways["bare fixture"] = [*ways["without"], "-p", "bench_bare"]
    times: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    # One of each that does not count: modules are compiled in it.
    for number in range(-1, runs):
        order = list(ways) if number % 2 else list(reversed(ways))
        for way in order:
            took = _timed([sys.executable, "-m", "pytest", "--collect-only", "-qq", *ways[way]], folder)
            if number >= 0:
                times[way].append(took)
        if number >= 0 and (number + 1) % 10 == 0:
            print(f"plugin_cost: collected {number + 1} times each", flush=True)
    return times


def _timed(command: Sequence[str], folder: Path) -> dict[str, float]:
    """The milliseconds that a program took: on the clock, and of a processor."""
    output = folder / "output.txt"
    with output.open("w") as file:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=_environment(folder), stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"pytest failed: {output.read_text()}")
    return {"wall": wall * 1000, "cpu": (usage.ru_utime + usage.ru_stime) * 1000}


def _imports(folder: Path, runs: int) -> list[dict[str, Any]]:
    told = folder / "told.json"
    environ = _environment(folder) | {"BENCH_FILE": str(told)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "bench_timer"]
    found = []
    for number in range(runs + 1):
        subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True)
        if number:
            found.append(json.loads(told.read_text()))
    return found


def _environment(folder: Path) -> dict[str, str]:
    environ = clean_environment()
    # As on a user's computer, where modules are compiled, and their assertions rewritten, once.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    # Sets are in the same order each time, so that each run does the same.
    return environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join((str(folder), environ["PYTHONPATH"]))}


def summary(document: Mapping[str, Any]) -> list[str]:
    """What was measured, in a few lines."""
    lines = []
    for kind, name in (("wall", "on the clock"), ("cpu", "of a processor")):
        ours, none, bare = (
            median_of(document["collect"][way], kind) for way in ("with", "without", "bare fixture")
        )
        lines.append(
            f"collecting {document['tests']} tests, {name}: {ours:.0f} ms with the plugin, {none:.0f} ms without "
            f"({ours / none - 1:+.1%}), {bare:.0f} ms with a bare fixture"
        )
    wall = median_of(document["import"], "wall")
    imported = sorted({name for run in document["import"] for name in run["imported"]})
    lines.append(
        f"importing and registering the plugin: {wall:.1f} ms; also imported: {', '.join(imported) or 'none'}"
    )
    return lines


if __name__ == "__main__":
    measure(Options.parse(__doc__))
