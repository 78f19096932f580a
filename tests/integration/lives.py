"""Lives of machines, led in processes of their own, so that these can be killed; and what may be left of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Final

import psutil
import time_machine
from fault_proxy import FaultProxy
from machine_support import locations

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.hosts import connect_host
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.golden import GOLDEN_KEY
from pytest_vbox.machines.plan import GOLDEN_GROUP, GROUP, OWNER_KEY
from pytest_vbox.ownership.ledger import Abandoned, run_folder
from pytest_vbox.ownership.reaper import address_file
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.errors import AccessDenied, InvalidObjectReference, ObjectNotFound

# What a call is that changes nothing, by the words behind the interface's name.
_LOOKING: Final = re.compile(
    r"_(get|find|waitFor|readLog|openMedium|refreshState|compose|takeScreenShot|getStats)"
)
_PATIENCE: Final = 60.0
PRELOADED: Final = ("lives", "pytest_vbox.hosts", "pytest_vbox.guest", "paramiko", "zeep")


def _cold(host: VirtualBoxHost, name: str) -> None:
    host.remove(host.machine(name=name, start=False))


def _boot(host: VirtualBoxHost, name: str) -> None:
    _fork(host, name)
    _remove_golden(host)


def _remove_golden(host: VirtualBoxHost) -> None:
    for golden in host.golden.all():
        host.golden.remove(golden)


def _fork(host: VirtualBoxHost, name: str) -> None:
    machine = host.machine(name=name)
    machine.run("true")
    host.remove(machine)


def _reset(host: VirtualBoxHost, name: str) -> None:
    machine = host.machine(name=name)
    machine.reset()
    machine.run("true")
    host.remove(machine)


def _park(host: VirtualBoxHost, name: str) -> None:  # noqa: ARG001 - what is parked has a name of its own
    wanted = host.wanted()
    host.expect([wanted, wanted])
    machine = host.machine()
    host.discard(machine)
    again = host.machine()
    again.run("true")
    host.discard(again)


LIVES: Final[dict[str, Callable[[VirtualBoxHost, str], None]]] = {
    "cold": _cold,
    "boot": _boot,
    "fork": _fork,
    "reset": _reset,
    "park": _park,
}


def _set_clock(host: VirtualBoxHost, name: str) -> None:
    """What a machine's owner takes for the time of day jumps, forth and back."""
    machine = host.machine(name=name)
    for days in (400, -400):
        with time_machine.travel(datetime.now(UTC) + timedelta(days), tick=True):
            machine.run("true")
            machine.reset()
            machine.run("true")
            host.remove(host.machine(name=name, start=False))
    machine.run("true")
    host.remove(machine)


def _wait(host: VirtualBoxHost, name: str) -> None:
    machine = host.machine(name=name)
    machine.run("sleep 1", timeout=4)
    host.remove(machine)


#: Those that are not among the ones that are tried at every call.
_OF_SOME_TESTS: Final[dict[str, Callable[[VirtualBoxHost, str], None]]] = {"set-clock": _set_clock, "wait": _wait}


def lead(life: str, environ: dict[str, str], run: str, name: str, told: Connection) -> None:
    """What the process does. Puts ``ok`` or the error's class and text into the pipe."""
    try:
        os.environ.update(environ)
        with connect_host(run=run, clean_up=False) as host:
            {**LIVES, **_OF_SOME_TESTS}[life](host, name)
        told.send(("ok", ""))
    except BaseException as error:  # noqa: BLE001 - the test looks at it
        told.send((type(error).__module__ + "." + type(error).__name__, traceback.format_exc()))
    told.close()


@dataclass
class Life:
    """A life in a process of its own."""

    run: str
    name: str
    process: ForkServerProcess
    told: Connection

    def kill(self) -> None:
        """SIGKILL, and nothing else of it happens."""
        self.process.kill()
        self.process.join(10)

    def kill_reaper(self) -> bool:
        """SIGKILL for its reaper. Returns whether there was one yet."""
        reaper = self.reaper()
        if reaper is not None:
            with suppress(psutil.NoSuchProcess):  # it went just now
                reaper.kill()
            psutil.wait_procs([reaper], 10)
        return reaper is not None

    def reaper(self) -> psutil.Process | None:
        """Its reaper, once there is one."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            document = json.loads(address_file(places.state_folder(), self.run).read_text(encoding="utf-8"))
            return psutil.Process(int(document["pid"]))
        return None

    def kill_with_reaper(self) -> None:
        """SIGKILL for both at once, so that neither can do anything about the other's death."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        self.kill_reaper()
        self.kill()

    def outcome(self, patience: float) -> tuple[str, str]:
        """How it ended; ``hangs`` if it did not."""
        with self.told:
            if not self.told.poll(patience):
                self.kill()
                return "hangs", ""
            try:
                said: tuple[str, str] = self.told.recv()
            except EOFError:
                return "killed", ""
            finally:
                self.process.join(20)
            return said


class Stage:
    """Where lives are led: VirtualBox, a proxy before it, and someone who looks at what is left.

    Args:
        proxy: The proxy.
        host: The same VirtualBox, for looking.
        environ: What the processes shall have in their environment.
    """

    def __init__(self, proxy: FaultProxy, host: VirtualBoxHost, environ: dict[str, str]) -> None:
        self.proxy = proxy
        self.host = host
        self._environ = {**environ, "PYTEST_VBOX_URL": proxy.url}
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))

    def begin(self, life: str) -> Life:
        """Begin a life."""
        if life == "boot":
            _remove_golden(self.host)  # of one that did not get so far
        run = uuid.uuid4().hex
        name = f"life-{run[:8]}"
        told, tells = self._context.Pipe(duplex=False)
        process = self._context.Process(target=lead, args=(life, self._environ, run, name, tells), daemon=True)
        process.start()
        tells.close()
        return Life(run, name, process, told)

    def steps(self, life: str, *, every: bool = False) -> list[tuple[str, int]]:
        """The calls of a life, as it is led now: operation, and the how manyth call of it.

        Args:
            life: Which one.
            every: Those too that only look.
        """
        for _ in range(2):  # the first one may have to make a golden machine
            self.proxy.reset()
            outcome, words = self.begin(life).outcome(120)
            assert outcome == "ok", words
        seen: dict[str, int] = {}
        steps = []
        for operation in self.proxy.calls:
            if not operation or operation.startswith("IWebsessionManager_log"):
                continue
            if every or is_changing(operation):
                seen[operation] = seen.get(operation, 0) + 1
                steps.append((operation, seen[operation]))
        self.proxy.reset()
        return steps

    def wait_until_reaped(self, life: Life) -> bool:
        """Wait until the reaper has gone; whether it did, within the minute that we promise."""
        folder = run_folder(places.state_folder(), life.run)
        return self._wait_while(lambda: folder.exists() or any(self._processes(life)), _PATIENCE)

    def wait_until_nobody_lives(self, life: Life) -> bool:
        """Wait until the reaper has gone, even if it had to give up."""
        return self._wait_while(lambda: any(self._processes(life)), 2 * _PATIENCE)

    def _wait_while(self, condition: Callable[[], bool], patience: float) -> bool:
        deadline, pause = time.monotonic() + patience, multiprocessing.Event()
        while condition():
            if time.monotonic() > deadline:
                return False
            pause.wait(0.05)
        return True

    def end_session(self, life: Life) -> None:
        """End the web session of a life, as VirtualBox does when it has heard nothing for too long."""
        for file in run_folder(places.state_folder(), life.run).glob("[0-9]*.json"):
            self.host.session.end_other(Abandoned.read(file).session)

    def left_of(self, life: Life) -> list[str]:
        """What is left of a life, in words."""
        return [*self._in_virtualbox(life), *self._processes(life), *self._files(life)]

    def _in_virtualbox(self, life: Life) -> Iterator[str]:
        for machine in self.host.api.machines_by_groups([GROUP, GOLDEN_GROUP]):
            with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):
                if machine.get_extra_data(GOLDEN_KEY):
                    continue  # it is for all runs
                if life.run in machine.get_extra_data(OWNER_KEY) or life.name in machine.name:
                    yield f"machine {machine.name}"
        media = list(self.host.api.hard_disks)
        for golden in self.host.golden.all():
            # VirtualBox's server has crashed over a snapshot that somebody looked at while it was removed.
            with (
                suppress(AccessDenied, InvalidObjectReference, ObjectNotFound),
                self.host.golden.lease(golden, Deadline(60)),
            ):
                attached = self.host.golden.snapshot(golden).machine.medium_attachments
                media += [entry.medium for entry in attached if entry.medium is not None]
        for location in locations([child for medium in media for child in _descendants(medium)]):
            if life.name in location:
                yield f"medium {location}"

    def _processes(self, life: Life) -> Iterator[str]:
        for process in psutil.process_iter(["cmdline", "status"]):
            words = " ".join(process.info["cmdline"] or [])
            if (life.name in words or life.run in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid}: {words[:100]}"

    def _files(self, life: Life) -> Iterator[str]:
        folder = Path(self.host.api.compose_machine_filename("x", GROUP)).parent.parent
        for place in (folder, folder / "golden", places.state_folder() / "keys", places.state_folder() / "runs"):
            for path in place.glob("*") if place.is_dir() else ():
                if life.name in path.name or path.name.startswith(life.run):
                    yield f"file {path}"


def _descendants(medium: Medium) -> list[Medium]:
    with suppress(AccessDenied, InvalidObjectReference, ObjectNotFound):
        return list(medium.children)
    return []


def is_changing(operation: str) -> bool:
    """Whether a call does more than look."""
    return not _LOOKING.search(operation)


def sample(steps: list[tuple[str, int]], most: int | None) -> list[tuple[str, int]]:
    """Some of the steps, evenly spread, with every operation's first call before another's second."""
    if most is None or len(steps) <= most:
        return steps
    first = [step for step in steps if step[1] == 1]
    chosen = first if len(first) <= most else [first[index * len(first) // most] for index in range(most)]
    return [step for step in steps if step in chosen]


def outside_locks(steps: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those steps during which no machine is locked."""
    held = in_locks(steps)
    return [step for step in steps if step not in held]


def in_locks(steps: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those steps during which a machine is locked, or may become so."""
    found, held = [], 0
    for step in steps:
        held += step[0] == "IMachine_lockMachine"
        if held:
            found.append(step)
        held -= step[0] == "ISession_unlockMachine" and held > 0
    return found
