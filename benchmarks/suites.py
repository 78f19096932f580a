"""Suites as users have them, generated, and run by a pytest of their own; they tell what each test saw."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.common import (
    GROUP_OF_TESTS,
    Bench,
    Options,
    Phases,
    clean_environment,
    locations_of_children,
    run_to_end,
)
from pytest_vbox.virtualbox.errors import VirtualBoxError

# What a test sees is noted by fixtures around the plugin's: `ended` is set up before `vbox_machine` and
# finalised after it, `machines` the other way round, so the time between is that of its finalisation.
_CONFTEST: Final = '''
import json
import os
import threading
import time

import psutil
import pytest


@pytest.fixture
def seen(request):
    told = {"test": request.node.nodeid}
    yield told
    told["rss"] = psutil.Process().memory_info().rss
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    with open(os.path.join(os.environ["BENCH_FOLDER"], f"seen-{worker}.jsonl"), "a") as file:
        file.write(json.dumps(told) + "\\n")


@pytest.fixture
def ended(seen):
    yield
    seen["teardown"] = (time.perf_counter() - seen.pop("ending")) * 1000


@pytest.fixture
def machines(seen, ended, vbox_machine):
    yield vbox_machine
    seen["ending"] = time.perf_counter()


@pytest.fixture
def next_is_parked(vbox_host):
    """Waits until the machine for the next test is there, frozen."""

    def wait():
        limit = time.monotonic() + float(os.environ["BENCH_WAIT"])
        while time.monotonic() < limit:
            machines = vbox_host.api.machines_by_groups(["/pytest-vbox"])
            if any(machine.state == "Paused" for machine in machines):
                return
            threading.Event().wait(0.1)

    return wait
'''

_TESTS: Final = """
import time

import pytest


@pytest.mark.parametrize("number", range({count}))
def test_one_machine(number, machines, seen{more}):
    started = time.perf_counter()
    vm = machines()
    ready = time.perf_counter()
    vm.run("true")
    seen.update(
        machine=vm.name, ready=(ready - started) * 1000, run=(time.perf_counter() - ready) * 1000
    ){end}
"""

_LIMIT: Final = 1800.0
_LOOK: Final = 0.2


@dataclass(frozen=True)
class Test:
    """What one test saw.

    Attributes:
        way: How its machine came, from the plugin's report; empty if that does not say.
        phases: Milliseconds: ready, run and teardown, and the plugin's own phases.
        rss: The memory of the process after it, in bytes.
    """

    __test__ = False

    way: str
    phases: Phases
    rss: int


@dataclass(frozen=True)
class Told:
    """What one run of a suite showed.

    Attributes:
        seconds: From the start of pytest to its end.
        tests: What each test saw, in the order in which they ended in their process.
        ways: How many machines came in which way, golden ones included.
        peak: The most machines of tests that were registered at once.
        left: Machines and media that are there after the run and were not before.
    """

    seconds: float
    tests: list[Test] = field(default_factory=list)
    ways: dict[str, int] = field(default_factory=dict)
    peak: int = 0
    left: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As it is saved."""
        return {
            "seconds": self.seconds,
            "ways": self.ways,
            "peak": self.peak,
            "left": self.left,
            "rss": [test.rss for test in self.tests],
            "tests": [{"way": test.way, **test.phases} for test in self.tests],
        }


class Suite:
    """A folder with a generated suite of short tests, each of which takes one machine.

    Args:
        options: The command line.
        name: What the folder is called.
        count: How many tests.
        wait_for_parked: Each test but the last stays until the next one's machine is parked.
    """

    def __init__(self, options: Options, name: str, count: int, *, wait_for_parked: bool = False) -> None:
        self.options = options
        self.count = count
        self.folder = Path(tempfile.mkdtemp(prefix=f"pytest-vbox-bench-{name}-"))
        more = end = ""
        if wait_for_parked:
            more, end = ", next_is_parked", f"\n    if number < {count - 1}:\n        next_is_parked()"
        (self.folder / "pytest.ini").write_text("[pytest]\n")
        (self.folder / "conftest.py").write_text(_CONFTEST)
        (self.folder / "test_machines.py").write_text(_TESTS.format(count=count, more=more, end=end))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str, watch: Bench | None = None) -> Told:
        """Run it.

        Args:
            arguments: More options of pytest.
            watch: Where to look, meanwhile and after it, for the machines there are.

        Raises:
            RuntimeError: A test failed; with what pytest wrote.
        """
        for old in self.folder.glob("seen-*.jsonl"):
            old.unlink()
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "--vbox=require", f"--vbox-report={report}", *arguments]
        command += [f"--vbox-image={self.options.image}", f"--vbox-profile={self.options.profile}"]
        environ = clean_environment(BENCH_FOLDER=str(self.folder), BENCH_WAIT="60")
        before = locations_of_children(watch.host) if watch else set()
        with _Watch(watch) as seen:
            started = time.perf_counter()
            status, output = run_to_end(command, self.folder, environ, _LIMIT)
            seconds = time.perf_counter() - started
        if status:
            raise RuntimeError(f"the suite failed:\n{textwrap.indent(output, '    ')}")
        left: list[str] = []
        if watch:
            left = sorted(machine.name for machine in watch.host.api.machines_by_groups([GROUP_OF_TESTS]))
            left += sorted(locations_of_children(watch.host) - before)
        records = _records(report)
        ways = Counter(record["way"] for record in records)
        return Told(seconds, self._tests(records), dict(ways), seen.peak, left)

    def _tests(self, records: list[dict[str, Any]]) -> list[Test]:
        by_machine = {record["machine"]: record for record in records}
        tests = []
        for file in sorted(self.folder.glob("seen-*.jsonl")):
            for line in file.read_text().splitlines():
                seen = json.loads(line)
                record = by_machine.get(seen["machine"], {})
                own = {name: 1000 * seconds for name, seconds in record.get("phases", {}).items()}
                phases = {**own, **{name: seen[name] for name in ("ready", "run", "teardown")}}
                tests.append(Test(record.get("way", ""), phases, seen["rss"]))
        return tests


class _Watch:
    """Looks, in a thread of its own, how many machines of tests are registered."""

    def __init__(self, bench: Bench | None) -> None:
        self.peak = 0
        self._error: VirtualBoxError | None = None
        self._bench = bench
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._bench is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._bench is not None:
            self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _look(self) -> None:
        try:
            self._count()
        except VirtualBoxError as error:
            self._error = error

    def _count(self) -> None:
        assert self._bench is not None
        while not self._over.wait(_LOOK):
            machines = self._bench.host.api.machines_by_groups([GROUP_OF_TESTS])
            self.peak = max(self.peak, len(machines))
            # Or the service would collect them by the thousand.
            for machine in machines:
                machine.release()


def _records(report: Path) -> list[dict[str, Any]]:
    if not report.is_file():
        return []
    document = json.loads(report.read_text())
    records: list[dict[str, Any]] = document if isinstance(document, list) else document["machines"]
    return records
