"""One rig: starting it, ending it, and what state it is in."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vboxrig import files, namespace, recipes, services
from vboxrig.cache import Recipe, check_space, obtain, use_mark
from vboxrig.debian import check_host, install_tools
from vboxrig.errors import ProcessDiedError, RigDownError, RigError
from vboxrig.locks import locked
from vboxrig.places import Places
from vboxrig.processes import Process, end, has_variable, members, mount_namespace
from vboxrig.progress import say, step, tail
from vboxrig.record import Record, load
from vboxrig.sandbox import stop_all

STATE_MEGABYTES = 300


@dataclass(frozen=True)
class Parts:
    """What a rig is made of, all from the cache."""

    virtualbox: Path
    headless: Path
    image: Path

    @property
    def running(self) -> list[str]:
        """The folders that a rig uses for as long as it is up; another image can be had without a restart."""
        return [str(self.virtualbox), str(self.headless)]


def up(places: Places) -> Path:
    """Start the rig, or what is missing of it, and return the path of its shell file.

    Raises:
        NotUsableError: this computer cannot carry a rig.
        BuildError: something could not be built.
        ProcessDiedError: a process of the rig did not come up.
    """
    check_host()
    parts = prepare()
    with locked(places.lock, f"the rig {places.name}"):
        record = load(places.record)
        if record is None or not record.holds:
            if record is not None:
                _end(places, record)
            record = _begin(places, parts)
        elif record.parts != parts.running:
            say("this rig still runs an older VirtualBox root; `rig down` and `rig up` renew it")
        _start_missing(places, record)
        files.write_profile(places, parts.image)
        files.write_environment(places, record.port)
    return places.environment


def prepare() -> Parts:
    """Build what the cache lacks: VirtualBox's root beside what the guest is made of, then the image."""
    virtualbox, headless, image = recipes.virtualbox(), recipes.headless(), recipes.image()
    if not all(recipe.folder.is_dir() for recipe in (virtualbox, headless, image)):
        install_tools()
        for_image = [] if image.folder.is_dir() else [recipes.kernel(), recipes.programs()]
        _side_by_side(virtualbox, headless, *for_image)
    return Parts(obtain(virtualbox), obtain(headless), obtain(image))


def image(places: Places) -> Path:
    """Build the guest alone, for a VirtualBox that needs no rig; return the folder with the YAML that names it.

    Raises:
        NotUsableError: this computer cannot build it.
        BuildError: something could not be built.
    """
    check_host()
    recipe = recipes.image()
    if not recipe.folder.is_dir():
        install_tools()
        for needed in (recipes.builder(), recipes.kernel(), recipes.programs()):
            obtain(needed)
    files.write_profile(places, obtain(recipe))
    return places.profiles


def _side_by_side(beside: Recipe, *others: Recipe) -> None:
    """Build `beside` in a thread of its own, and the others meanwhile, one after the other."""
    failures: list[RigError] = []

    def build_beside() -> None:
        try:
            obtain(beside)
        except RigError as error:
            failures.append(error)

    thread = threading.Thread(target=build_beside)
    thread.start()
    try:
        for recipe in others:
            obtain(recipe)
    except BaseException:
        stop_all()
        raise
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _begin(places: Places, parts: Parts) -> Record:
    """Make the namespace of a rig that is down."""
    for folder in (places.state, places.home, places.machines, places.logs):
        folder.mkdir(parents=True, exist_ok=True)
    places.state.chmod(0o700)
    check_space(places.state, STATE_MEGABYTES)
    shutil.rmtree(places.ipc_folder, ignore_errors=True)
    records: list[Record] = []

    def keep(holder: Process) -> None:
        records.append(Record(holder, mount_namespace(holder.pid) or "", parts.running))
        records[0].save(places.record)

    view = namespace.View(
        name=places.name,
        virtualbox=str(parts.virtualbox / "root"),
        headless=str(parts.headless / "VBoxHeadless"),
        target=str(places.root),
        in_use=[str(use_mark(folder)) for folder in (parts.virtualbox, parts.headless, parts.image)],
    )
    namespace.start_holder(view, places.logs / "holder.log", keep)
    return records[0]


def _start_missing(places: Places, record: Record) -> None:
    """Start the services that do not run, each recorded at once so that `rig down` finds it."""
    for name in record.dead:
        say(f"{name} has ended; starting it again. Its log's end:")
        say(tail(services.log_of(places, name).read_text(errors="replace"), 5))
        del record.processes[name]
    nsenter = shutil.which("nsenter") or "/usr/bin/nsenter"
    files.write_programs(places, record.holder, services.variables(places), nsenter)
    if "vboxwebsrv" not in record.processes:
        with step("starting VirtualBox's web service"):
            services.seed(places, record)
            services.start_web_service(places, record)
        record.save(places.record)


def down(places: Places, *, delete: bool = False) -> bool:
    """End all that the rig started, and with it its mounts; return False if it was not up.

    Args:
        places: the rig's places.
        delete: also delete its state folder: VirtualBox's settings, machines and logs.

    Raises:
        ProcessDiedError: a process could not be ended.
    """
    with locked(places.lock, f"the rig {places.name}"):
        record = load(places.record)
        was_up = record is not None and record.holds
        if record is not None:
            _end(places, record)
        places.record.unlink(missing_ok=True)
        places.environment.unlink(missing_ok=True)
        if delete:
            shutil.rmtree(places.state, ignore_errors=True)
    return was_up


def _end(places: Places, record: Record) -> None:
    """End the machines in VirtualBox's way, then the services, then whatever else lives in the namespace."""
    if record.holds:
        services.power_off_machines(places, record)
    stubborn = end(record.processes.values(), patience=5)
    stubborn += end(_others(places, record), patience=3)
    stubborn += end([record.holder], patience=1)
    if stubborn:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in stubborn)
        raise ProcessDiedError(f"these processes could not be ended: {names}")
    shutil.rmtree(places.ipc_folder, ignore_errors=True)


def _others(places: Places, record: Record) -> list[Process]:
    """Return the processes of the rig that it did not start itself: VirtualBox's server, the machines.

    A namespace's number may be given to another one once it is gone. So without the holder, which would
    prove that it is not, only those count that also have this rig's VirtualBox home in their environment.
    """
    own = {record.holder, *record.processes.values()}
    return [
        process
        for process in members(record.namespace)
        if process not in own and (record.holds or has_variable(process, "VBOX_USER_HOME", str(places.home)))
    ]


def status(places: Places) -> list[str]:
    """Return lines that describe the rig.

    Raises:
        RigDownError: it is not up.
        ProcessDiedError: it is up, but one of its processes has ended.
    """
    record = load(places.record)
    if record is None or not record.holds:
        raise RigDownError(f"the rig {places.name} is down")
    if record.dead:
        name = record.dead[0]
        log = services.log_of(places, name)
        end_of_log = tail(log.read_text(errors="replace"))
        raise ProcessDiedError(f"{name} has ended; `rig up` starts it again", end_of_log)
    lines = [
        f"the rig {places.name} is up",
        f"  web service   http://127.0.0.1:{record.port}",
        f"  state         {places.state}",
        f"  shell file    {places.environment}",
    ]
    processes = [("(holds the mounts)", record.holder), *record.processes.items()]
    processes += [(process.name, process) for process in _others(places, record)]
    return lines + [f"  process       {process.pid:7} {name}" for name, process in processes]


def execute(places: Places, command: list[str], directory: Path) -> NoReturn:
    """Become a command that runs inside the rig: signals reach it, and its exit code is this program's.

    Raises:
        RigDownError: the rig is not up.
    """
    record = load(places.record)
    if record is None or not record.holds:
        raise RigDownError(f"the rig {places.name} is down")
    environment = namespace.environment(services.variables(places))
    inside = [*namespace.entering(record.holder, str(directory)), *command]
    os.execvpe(inside[0], inside, environment)  # noqa: S606 - no shell is wanted
