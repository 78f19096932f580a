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
from typing import Final

import psutil
import time_machine
from fault_proxy import FaultProxy
from inventory import machine_processes, there
from machine_support import disk_of, forget
from own_rig import OwnRig

from pytest_vbox import places
from pytest_vbox.deadline import Deadline
from pytest_vbox.hosts import connect_host
from pytest_vbox.machines import Machine, VirtualBoxHost
from pytest_vbox.machines.plan import OWNER_KEY
from pytest_vbox.ownership.ledger import Abandoned, run_folder
from pytest_vbox.ownership.reaper import address_file

# What a call is that changes nothing, by the words behind the interface's name.
_LOOKING: Final = re.compile(r"_(get|find|waitFor|readLog|compose|takeScreenShot|getStats)")
_PATIENCE: Final = 60.0
PRELOADED: Final = ("lives", "pytest_vbox.hosts", "pytest_vbox.guest", "paramiko", "zeep")


def _cold(host: VirtualBoxHost, name: str) -> None:
    machine = host.machine(name=name, start=False)
    _is_what_was_asked_for(host, machine)
    host.remove(machine)


def _is_what_was_asked_for(host: VirtualBoxHost, machine: Machine) -> None:
    """A call that failed shall not have been taken for one that did what it should."""
    api = machine.api
    assert api.memory_size == host.catalogue.machine("tiny", "tiny").hardware.memory
    assert json.loads(api.get_extra_data(OWNER_KEY))["id"] == machine.id
    (disk,) = [entry.medium for entry in api.medium_attachments if entry.medium is not None]
    assert disk.parent is not None
    assert machine.name in disk.location
    rules = api.get_network_adapter(0).nat_engine.redirects
    assert [rule.guest_port for rule in rules if rule.name == "ssh"] == [22]


def _seeded(host: VirtualBoxHost, name: str) -> None:
    """With a key of the run's and a disc of the machine's."""
    machine = host.machine("keyed", name=name, start=False)
    assert any(entry.medium and entry.medium.location.endswith(".iso") for entry in machine.api.medium_attachments)
    host.remove(machine)


def _anchor(host: VirtualBoxHost, name: str) -> None:
    """On a base that VirtualBox does not know yet, if it is begun as ``anchor``."""
    host.remove(host.machine("fresh", name=name, start=False))


def _keyed_golden(host: VirtualBoxHost, name: str) -> None:
    """Booted to be forked from, with a key of its own."""
    machine = host.machine("keyed", name=name)
    machine.run("true")
    host.remove(machine)
    _remove_golden(host)


def _boot(host: VirtualBoxHost, name: str) -> None:
    _fork(host, name)
    _remove_golden(host)


def _remove_golden(host: VirtualBoxHost) -> None:
    for golden in host.golden.all():
        host.golden.remove(golden)


def _fork(host: VirtualBoxHost, name: str) -> None:
    machine = host.machine(name=name)
    machine.run("true")
    _is_what_was_asked_for(host, machine)
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
    "seeded": _seeded,
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
_OF_SOME_TESTS: Final[dict[str, Callable[[VirtualBoxHost, str], None]]] = {
    "anchor": _anchor,
    "known": _anchor,
    "keyed-golden": _keyed_golden,
    "set-clock": _set_clock,
    "wait": _wait,
}


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
    """A life in a process of its own.

    Attributes:
        run: The run that it is, or is part of.
        name: In the names of its machines, if it names them.
        process: The process.
        told: How it ended.
        before: What was there when it began.
    """

    run: str
    name: str
    process: ForkServerProcess
    told: Connection
    before: frozenset[str]

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
            wait_for_end([reaper])
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
        rig: Its processes, and what the lives shall have in their environment.
    """

    def __init__(self, proxy: FaultProxy, host: VirtualBoxHost, rig: OwnRig) -> None:
        self.proxy = proxy
        self.host = host
        self._rig = rig
        self._environ = {**rig.environ, "PYTEST_VBOX_URL": proxy.url}
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))

    def begin(self, life: str, *, beside: Life | None = None) -> Life:
        """Begin a life.

        Args:
            life: Which one.
            beside: One whose run it is part of, as another worker.
        """
        if life in {"boot", "keyed-golden"}:
            _remove_golden(self.host)  # of one that did not get so far
        if life == "anchor":
            forget(self.host, [disk_of(self.host.catalogue.images["fresh"])])
        run = uuid.uuid4().hex if beside is None else beside.run
        name = f"life-{run[:8]}" if beside is None else f"{beside.name}-b"
        told, tells = self._context.Pipe(duplex=False)
        before = there(self.host, self._rig)
        process = self._context.Process(target=lead, args=(life, self._environ, run, name, tells), daemon=True)
        process.start()
        tells.close()
        return Life(run, name, process, told, before)

    def through(self, proxy: FaultProxy) -> Stage:
        """The same stage, but that lives are led through another proxy."""
        return Stage(proxy, self.host, self._rig)

    def steps(self, life: str, *, every: bool = False) -> list[tuple[str, int]]:
        """The calls of a life: operation, and the how manyth call of it. It is led here, and has to end well.

        Args:
            life: Which one.
            every: Those too that only look.
        """
        for _ in range(2):  # the first one may have to make a golden machine
            self.proxy.reset()
            outcome, words = self.begin(life).outcome(120)
            assert outcome == "ok", words
            if (life, every) in self._rig.steps:
                return self._rig.steps[life, every]
        seen: dict[str, int] = {}
        steps = []
        for operation in self.proxy.calls:
            if not operation or operation.startswith("IWebsessionManager_log"):
                continue
            if every or is_changing(operation):
                seen[operation] = seen.get(operation, 0) + 1
                steps.append((operation, seen[operation]))
        self.proxy.reset()
        self._rig.steps[life, every] = steps
        return steps

    def wait_until_reaped(self, life: Life) -> bool:
        """Wait until the reaper has gone; whether it did, within the minute that we promise."""
        folder = run_folder(places.state_folder(), life.run)
        self._wait_while(lambda: any(self._processes(life)), _PATIENCE)
        if folder.exists() and all(path.suffix == ".lock" for path in folder.iterdir()):
            # Killed before it wrote anything down, and so before it had a reaper: its folder is for the next run.
            self.host.clean_up_abandoned()
        return self._wait_while(lambda: folder.exists() or any(self._processes(life)), _PATIENCE)

    def wait_until_nobody_lives(self, life: Life) -> bool:
        """Wait until the reaper has gone, even if it had to give up; it waits for a lock for a minute, twice."""
        return self._wait_while(lambda: any(self._processes(life)), 3 * _PATIENCE)

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
        """What is left of a life, in words: whatever was not there when it began, and is not for later runs."""
        # VirtualBox has a machine go a moment before the process that it ran in.
        self._wait_while(lambda: bool(set(machine_processes(self._rig)) - life.before), _PATIENCE)
        return [*sorted(there(self.host, self._rig) - life.before), *self._processes(life)]

    def _processes(self, life: Life) -> Iterator[str]:
        for process in psutil.process_iter(["cmdline", "status"]):
            words = " ".join(process.info["cmdline"] or [])
            if (life.name in words or life.run in words) and process.info["status"] != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid}: {words[:100]}"


def wait_for_end(processes: list[psutil.Process], patience: float = 20) -> None:
    """Wait until processes have ended, whether or not their parents have heard of it."""
    deadline, pause = Deadline(patience), multiprocessing.Event()
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        assert not deadline.expired
        pause.wait(0.01)


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
        held += step[0] in {"IMachine_lockMachine", "IMachine_launchVMProcess"}  # the latter keeps it locked, too
        if held:
            found.append(step)
        held -= step[0] == "ISession_unlockMachine" and held > 0
    return found
