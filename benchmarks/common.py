"""What the benchmarks share: a clock, VirtualBox with its clean-up, VBoxManage, results as JSON, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest_vbox
from pytest_vbox import guest
from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.power import power_off, wait_for_first_packet
from pytest_vbox.models import MachineModel
from pytest_vbox.ownership import PortLock, held, reserve_port
from pytest_vbox.places import state_folder
from pytest_vbox.settings import load
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.enums import CleanupMode
from pytest_vbox.virtualbox.errors import ObjectNotFound, VirtualBoxError

#: The group of the machines that the benchmarks make themselves; all in it go at the beginning and at the end.
GROUP: Final = "/pytest-vbox-bench"
#: The group of the machines that tests get.
GROUP_OF_TESTS: Final = "/pytest-vbox"
RESULTS: Final = Path(__file__).resolve().parent / "results"
#: The folder that pytest_vbox is imported from, for processes that are started elsewhere.
SOURCE: Final = Path(pytest_vbox.__file__).parents[1]

#: Milliseconds by the name of the phase.
Phases = dict[str, float]


class Clock:
    """Notes how long each phase took, in milliseconds."""

    def __init__(self) -> None:
        self.phases: Phases = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.phases[name] = (time.perf_counter() - started) * 1000


@dataclass(frozen=True)
class Options:
    """What all benchmarks are told on the command line.

    Attributes:
        runs: How many times everything is measured that is measured one by one.
        quick: Whether to try everything with the least of it; the figures are worth nothing.
        image: The name of the image.
        profile: The name of the hardware profile.
        vboxmanage: The VBoxManage to compare with, or None.
        results: The folder for the raw results.
    """

    runs: int
    quick: bool
    image: str
    profile: str
    vboxmanage: str | None
    results: Path

    @classmethod
    def parse(cls, description: str | None, arguments: Sequence[str] | None = None) -> Options:
        """Read the command line of a benchmark."""
        parser = parser_of(description)
        return cls.of(parser.parse_args(arguments))

    @classmethod
    def of(cls, given: argparse.Namespace) -> Options:
        """What was read by :func:`parser_of`."""
        runs = given.runs or (2 if given.quick else 20)
        results: Path | None = given.results
        if results is None:
            results = Path(tempfile.mkdtemp(prefix="pytest-vbox-bench-results-")) if given.quick else RESULTS
        return cls(runs, given.quick, given.image, given.profile, given.vboxmanage or None, results)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser for the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, help="how many times each thing is measured (default 20)")
    parser.add_argument("--quick", action="store_true", help="2 runs and short suites: to try the scripts")
    parser.add_argument("--image", default=os.environ.get("PYTEST_VBOX_IMAGE", "tiny"))
    parser.add_argument("--profile", default=os.environ.get("PYTEST_VBOX_PROFILE", "tiny"))
    parser.add_argument("--vboxmanage", default=_vboxmanage(), help="the VBoxManage to compare with; '' for none")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder for the raw results (default benchmarks/results, with --quick a temporary one)",
    )
    return parser


@dataclass
class Bench:
    """A connected VirtualBox, the machine that is measured, and what has to go at the end.

    Attributes:
        host: The connection; it parks nothing.
        model: The machine that is made in all ways.
        options: The command line.
    """

    host: VirtualBoxHost
    model: MachineModel
    options: Options
    _ports: list[PortLock] = field(default_factory=list)

    @property
    def call(self) -> Callable[..., Any]:
        """Calls an operation of VirtualBox's API by its name, and nothing else."""
        return self.host.session.api.call

    @property
    def login(self) -> guest.Login:
        """How to log in to the guest."""
        image = self.model.image
        return guest.Login(
            user=image.user,
            password=image.password.get_secret_value() if image.password else None,
            private_key=self.host.context.private_key(image),
            host_key=image.host_key,
        )

    @contextmanager
    def machine(self, kind: str) -> Iterator[tuple[str, int]]:
        """A name and a port for a machine, which is gone at the end of the block if it is there still."""
        name = f"bench-{kind}-{uuid.uuid4().hex[:8]}"
        port = reserve_port(state_folder())
        try:
            yield name, port.port
        finally:
            with suppress(VirtualBoxError):
                self.take_away(name)
            port.release()

    def take_away(self, name: str) -> None:
        """Remove a machine by its name, if there is one, whatever it does."""
        # Not as the plugin does it, which deletes what lies in its own groups' folders only.
        with suppress(ObjectNotFound):
            machine = self.host.api.find_machine(name)
            power_off(self.host.session, machine)
            folder = Path(machine.settings_file_path).parent
            media = [medium for medium in machine.unregister(CleanupMode.FULL) if _is_in_group(medium.location)]
            machine.delete_config(media).wait(Deadline(60))
            if _is_in_group(str(folder)):
                shutil.rmtree(folder, ignore_errors=True)

    def manage(self, *arguments: str) -> None:
        """Run VBoxManage.

        Raises:
            RuntimeError: It failed; with what it wrote.
        """
        assert self.options.vboxmanage is not None
        done = subprocess.run([self.options.vboxmanage, *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"VBoxManage {' '.join(arguments)}: {done.stderr.strip()}")

    def prepare_base(self) -> Path:
        """See to it that the image's disk can be attached to several machines. Returns its path."""
        self.host.remove(self.host.machine(self.options.image, self.options.profile, start=False))
        disk = self.model.image.disk
        assert disk is not None, "the benchmarks need an image with a disk on this computer"
        return disk

    def connect(self, name: str, port: int, *, booting: bool) -> guest.Connection:
        """Log in to a guest; alike for all ways that are not the plugin's own."""
        if booting:
            machine = self.host.api.find_machine(name)
            wait_for_first_packet(self.host.session, machine, Deadline(60), lambda: None)
        return guest.connect(("127.0.0.1", port), self.login, Deadline(300))

    def sweep(self) -> None:
        """Remove what the benchmarks have made, also an earlier one that was killed."""
        machines = self.host.api.machines_by_groups([GROUP])
        # What others are clones of can go when these are gone.
        for _ in range(2):
            for machine in machines:
                with suppress(VirtualBoxError):
                    self.take_away(machine.id)
        for base in self.host.api.hard_disks:
            for medium in reversed(list(_below(base))):
                with suppress(VirtualBoxError):
                    if _is_in_group(medium.location):
                        medium.close()


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """VirtualBox for one benchmark, which leaves no machine of its own behind, however it ends.

    One at a time: two of them would measure each other.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    # Room for what is made side by side; and nothing in the background while something else is measured.
    environ = {**os.environ, "PYTEST_VBOX_PREWARM": "0", "PYTEST_VBOX_MAX_MACHINES": "24"}
    with (
        held(state_folder(), "benchmarks", Deadline(1)),
        pytest_vbox.connect(load(environ=environ)) as host,
    ):
        made = Bench(host, host.catalogue.machine(options.image, options.profile), options)
        made.sweep()
        try:
            yield made
        finally:
            made.sweep()


def about(host: VirtualBoxHost | None = None) -> dict[str, Any]:
    """What was measured on."""
    described: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if host is not None:
        described |= {"virtualbox": host.version, "memory": host.capacity[0], "cores": host.capacity[1]}
        described["rig"] = bool(os.environ.get("PYTEST_VBOX_RIG"))
    return described


def warn_if_busy() -> None:
    """Say so when others use this computer: figures from a busy computer are worth nothing."""
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.3 * (os.cpu_count() or 1):
        print(
            f"this computer is busy (load {os.getloadavg()[0]:.1f}): the figures will be worth little", flush=True
        )


def save(options: Options, name: str, document: Mapping[str, Any]) -> None:
    """Write the raw results of a benchmark."""
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The raw results of all benchmarks that were run, by their name."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}


def median_of(runs: Iterable[Mapping[str, float]], phase: str) -> float:
    """The median of a phase over the runs that have it; 0 if none has."""
    values = [run[phase] for run in runs if phase in run]
    return statistics.median(values) if values else 0.0


def phases_table(results: Mapping[str, Sequence[Mapping[str, float]]], phases: Sequence[str]) -> str:
    """Medians of each phase in milliseconds, a column for each way."""
    widths = {way: max(12, len(way) + 2) for way in results}
    lines = [f"{'median, ms':16}" + "".join(f"{way:>{widths[way]}}" for way in results)]
    for phase in phases:
        if not any(phase in run for runs in results.values() for run in runs):
            continue
        cells = []
        for runs in results.values():
            there = any(phase in run for run in runs)
            cells.append(f"{median_of(runs, phase):.0f}" if there else "")
        lines.append(
            f"{phase:16}" + "".join(f"{cell:>{widths[way]}}" for way, cell in zip(results, cells, strict=True))
        )
    return "\n".join(lines)


def clean_environment(**more: str) -> dict[str, str]:
    """An environment for a pytest of its own, with this pytest_vbox, whichever is installed."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_XDIST", "PYTEST_ADD"))
    }
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, **more}


def run_to_end(command: Sequence[str], folder: Path, environ: Mapping[str, str], limit: float) -> tuple[int, str]:
    """Run a program; if we are interrupted, or it takes too long, it gets the time to remove its machines.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        environ: Its environment.
        limit: Seconds it may take.

    Returns:
        Its exit status and what it wrote.
    """
    # In a session of its own, so that Ctrl-C reaches it once, through us: a second one would end its clean-up.
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except BaseException:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        return process.returncode, output


def _is_in_group(path: str) -> bool:
    """Whether a file or folder is one of the benchmarks' machines'."""
    return f"{GROUP}/" in path.replace("\\", "/")


def _below(medium: Medium) -> Iterator[Medium]:
    with suppress(VirtualBoxError):
        for child in medium.children:
            yield child
            yield from _below(child)


def locations_of_children(host: VirtualBoxHost) -> set[str]:
    """Where all media are that VirtualBox knows and that are differences to others."""
    found = set()
    for base in host.api.hard_disks:
        for medium in _below(base):
            with suppress(VirtualBoxError):  # gone between two looks
                found.add(medium.location)
    return found


def _vboxmanage() -> str | None:
    folder = os.environ.get("VBOX_RIG_BIN")
    return shutil.which("VBoxManage", path=folder) if folder else shutil.which("VBoxManage")
