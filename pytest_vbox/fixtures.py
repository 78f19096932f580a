"""The fixtures: each a few lines over a context manager."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from pytest_vbox.forecast import HORIZON, Forecast
from pytest_vbox.printable import printable
from pytest_vbox.settings import Keep, Mode, Reset, Settings, SettingsError

if TYPE_CHECKING:
    from pytest_vbox.live import LiveLine
    from pytest_vbox.machines import Machine, VirtualBoxHost
    from pytest_vbox.records import Journal

#: What the user set.
SETTINGS: Final = pytest.StashKey[Settings]()
#: The id of the run, shared by all its workers.
RUN: Final = pytest.StashKey[str]()
#: The connected host, once a test has asked for it.
HOST: Final = pytest.StashKey["VirtualBoxHost"]()
#: How machines came, once a test has asked for one.
JOURNAL: Final[pytest.StashKey[Journal]] = pytest.StashKey()
#: The line on the terminal, if there is one.
LIVE: Final[pytest.StashKey[LiveLine]] = pytest.StashKey()
#: Set on a test that failed, and on its class, module, package and session.
FAILED: Final = pytest.StashKey[bool]()
#: A line for each machine that was kept: how to enter it, how to remove it.
KEPT: Final = pytest.StashKey[list[str]]()
#: What the tests that come next will ask for.
FORECAST: Final = pytest.StashKey[Forecast]()
#: The test that runs, and the one after it.
CURRENT: Final = pytest.StashKey[tuple[pytest.Item, pytest.Item | None]]()
#: Set on a test that got a factory of machines, which it may have asked for while it ran.
USED: Final = pytest.StashKey[bool]()
#: The place of each test in the run.
_PLACES: Final = pytest.StashKey[dict[pytest.Item, int]]()
#: The factories whose machines live longer than a test: name, what they live as long as, and the machines.
WIDE: Final = pytest.StashKey[list[tuple[str, pytest.Collector | pytest.Item, list["Machine"]]]]()

MACHINE_FIXTURES: Final = frozenset(
    {
        "vbox",
        "vbox_host",
        "vbox_machine",
        "class_vbox_machine",
        "module_vbox_machine",
        "package_vbox_machine",
        "session_vbox_machine",
    }
)
_MARKER_KEYS: Final = ("image", "profile", "name", "hardware", "reset", "start", "boot_timeout")
_SIGNATURE: Final = (
    "@pytest.mark.vbox(image='NAME', profile='NAME', name='WISH', hardware={'memory': 512}, reset='live', "
    "start=True, boot_timeout=300)"
)
#: As a marker's ``reset``: machines of wider scope are reset before every test.
EACH: Final = "each"


class PytestVboxWarning(pytest.PytestWarning):
    """Something about machines that did not fail a test, but that somebody should look at."""


class MachineFactory(Protocol):
    """Makes machines; see :func:`vbox_machine`."""

    def __call__(
        self,
        image: str | Mapping[str, object] | None = None,
        profile: str | Mapping[str, object] | None = None,
        *,
        name: str | None = None,
        hardware: Mapping[str, object] | None = None,
        reset: Reset | str | None = None,
        start: bool = True,
        boot_timeout: float | None = None,
    ) -> Machine: ...


@pytest.fixture(scope="session")
def vbox_settings(pytestconfig: pytest.Config) -> Settings:
    """What is set on the command line, in the environment and in the ini file. Override it to change anything."""
    return pytestconfig.stash[SETTINGS]


@pytest.fixture(scope="session")
def vbox_ssh_key() -> Path | None:
    """A private SSH key to log in with instead of the images' own. Override it in your conftest.py."""
    return None


@pytest.fixture(scope="session")
def vbox_artifacts_dir(vbox_settings: Settings) -> Path:
    """Where screenshots, serial logs and VBox.log of machines in failed tests go. Override it to move them."""
    return vbox_settings.artifacts


@pytest.fixture(scope="session")
def vbox_host(
    pytestconfig: pytest.Config, vbox_settings: Settings, vbox_ssh_key: Path | None, vbox_artifacts_dir: Path
) -> Iterator[VirtualBoxHost]:
    """The connected VirtualBox: its version, capacity and machines, and the way down to the raw API."""
    from pytest_vbox import hosts
    from pytest_vbox.records import Journal

    live = pytestconfig.stash.get(LIVE, None)
    journal = pytestconfig.stash[JOURNAL] = Journal(live.watch if live is not None else lambda _: None)
    with _usable(vbox_settings):
        host = hosts.connect_host(
            vbox_settings,
            root=pytestconfig.rootpath,
            run=pytestconfig.stash[RUN],
            ssh_key=vbox_ssh_key,
            artifacts=vbox_artifacts_dir,
            journal=journal,
        )
    pytestconfig.stash[HOST] = host
    expect(pytestconfig)
    try:
        yield host
    finally:
        del pytestconfig.stash[HOST]
        _close(host)


@pytest.fixture
def vbox_machine(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """A factory of machines: ``vm = vbox_machine(image="ubuntu-1204-64", profile="medium")``.

    Each call clones another machine from the image, boots it and waits for SSH; all of them are gone after the
    test. Without arguments it uses ``--vbox-image`` and ``--vbox-profile``. Instead of names it takes what is
    wanted: ``vbox_machine(image={"os_family": "ubuntu", "os_version": ">=22.04"}, profile={"min_cpus": 2})``.
    """
    with machines_for(request) as factory:
        yield factory


@pytest.fixture(scope="class")
def class_vbox_machine(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """Like ``vbox_machine``, for machines that live as long as the test class."""
    with machines_for(request) as factory:
        yield factory


@pytest.fixture(scope="module")
def module_vbox_machine(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """Like ``vbox_machine``, for machines that live as long as the module."""
    with machines_for(request) as factory:
        yield factory


@pytest.fixture(scope="package")
def package_vbox_machine(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """Like ``vbox_machine``, for use in fixtures of the scope ``package``.

    A package, for pytest, is the one that a fixture is defined in. This one is defined in a plugin, so its
    machines live until the end of the run.
    """
    with machines_for(request) as factory:
        yield factory


@pytest.fixture(scope="session")
def session_vbox_machine(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """Like ``vbox_machine``, for machines that live until the end; with pytest-xdist, of each worker."""
    with machines_for(request) as factory:
        yield factory


@pytest.fixture
def vbox(request: pytest.FixtureRequest, vbox_machine: MachineFactory) -> Machine:
    """The one machine of this test, described by ``@pytest.mark.vbox(image=…, profile=…)``, else the default."""
    marked = check_marker(request.node)
    if marked.get("reset") == EACH:
        del marked["reset"]  # this machine is new for every test
    return vbox_machine(**marked)


def check_marker(item: pytest.Item) -> dict[str, Any]:
    """What the markers of a test, its class and its module say together; the closest wins.

    Raises:
        pytest.UsageError: A marker is used wrongly; shows how it is right.
    """
    merged: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("vbox"))):
        unknown = [key for key in marker.kwargs if key not in _MARKER_KEYS]
        if marker.args or unknown:
            what = f"unknown {', '.join(unknown)}" if unknown else "arguments have to be named"
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.vbox: {what}; it goes like this: {_SIGNATURE}")
        merged.update(marker.kwargs)
    reset = merged.get("reset")
    if reset is not None and reset not in {*Reset, EACH}:
        right = ", ".join((*Reset, EACH))
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.vbox: reset has to be one of {right}, not {reset!r}")
    return merged


def expect(config: pytest.Config) -> None:
    """Tell the host, if there is one, what the tests that come next will ask for."""
    host, current = config.stash.get(HOST, None), config.stash.get(CURRENT, None)
    if host is None or current is None:
        return
    forecast = config.stash[FORECAST]
    forecast.begin(current[0])
    upcoming = _upcoming(*current)
    try:
        marked = {item: check_marker(item) for item in upcoming if "vbox" in getattr(item, "fixturenames", ())}
    except pytest.UsageError:
        return  # the test itself says so
    host.expect([host.wanted(**arguments) for arguments in forecast.upcoming(upcoming, marked)])


def _upcoming(item: pytest.Item, next_item: pytest.Item | None) -> Sequence[pytest.Item]:
    if hasattr(item.config, "workerinput"):
        # A worker of xdist is told of one test after the one that runs.
        return [item] if next_item is None else [item, next_item]
    places = item.config.stash.setdefault(_PLACES, {})
    if item not in places:
        places.update({known: place for place, known in enumerate(item.session.items)})
    place = places.get(item, 0)
    return item.session.items[place : place + HORIZON]


def reset_before(item: pytest.Item) -> None:
    """Reset the machines of wider scope that a test with ``reset="each"`` uses."""
    factories = item.config.stash.get(WIDE, [])
    if not factories or check_marker(item).get("reset") != EACH:
        return
    names, chain = getattr(item, "fixturenames", ()), item.listchain()
    for fixture, node, machines in factories:
        if fixture in names and node in chain:
            for machine in machines:
                machine.reset()


@contextmanager
def machines_for(request: pytest.FixtureRequest) -> Iterator[MachineFactory]:
    """A factory whose machines are gone (or kept, if they are to be) at the end of the block.

    The host is asked for only now, and not as an argument of the fixture: pytest goes through all that a test's
    fixtures ask for at its collection, which took a quarter of the collection's time.

    Whatever goes wrong while they are removed becomes a warning: it does not mask the test's own result.
    """
    host: VirtualBoxHost = request.getfixturevalue("vbox_host")
    if CURRENT in request.config.stash:
        request.config.stash[CURRENT][0].stash[USED] = True
    made: list[Machine] = []
    name_of_factory = str(request.fixturename)

    def factory(
        image: str | Mapping[str, object] | None = None,
        profile: str | Mapping[str, object] | None = None,
        *,
        name: str | None = None,
        hardware: Mapping[str, object] | None = None,
        reset: Reset | str | None = None,
        start: bool = True,
        boot_timeout: float | None = None,
    ) -> Machine:
        __tracebackhide__ = True
        machine = host.machine(
            image,
            profile,
            name=name,
            hardware=hardware,
            reset=reset,
            start=start,
            boot_timeout=boot_timeout,
            test=request.node.nodeid,
        )
        made.append(machine)
        request.config.stash[FORECAST].learn(
            name_of_factory,
            request.node.nodeid,
            str(request.node.path),
            {"image": image, "profile": profile, "hardware": hardware},
        )
        return machine

    entry = (name_of_factory, request.node, made)
    if request.scope != "function":
        request.config.stash[WIDE].append(entry)
    try:
        yield factory
    finally:
        if request.scope != "function":
            request.config.stash[WIDE].remove(entry)
        _part_with(request, host, made)


def save_artifacts(host: VirtualBoxHost, test: str) -> list[tuple[str, str]]:
    """Save what the machines of a failed test show. Returns sections for its report."""
    sections = []
    for machine in host.machines:
        try:
            shown = machine.diagnose()
            files = shown.save(host.artifacts_folder(machine.name, test))
            lines = [shown.text(), *(f"saved: {file}" for file in files)]
        except Exception as error:  # noqa: BLE001 - the test's own failure comes first, whatever this is
            lines = [f"what it shows cannot be had: {error}"]
        sections.append((f"VirtualBox machine {machine.name}", "\n".join(lines)))
    return sections


def _part_with(request: pytest.FixtureRequest, host: VirtualBoxHost, made: list[Machine]) -> None:
    keep = host.settings.keep
    kept = keep is Keep.ALWAYS or (keep is Keep.FAILED and request.node.stash.get(FAILED, False))
    problems = []
    for machine in made:
        name = machine.name
        try:
            if kept:
                request.config.stash[KEPT].append(host.keep(machine))
            else:
                # It goes while the next test runs.
                host.discard(machine)
        except Exception as error:  # noqa: BLE001 - the test's own result comes first, whatever this is
            problems.append(_left(name, error))
    problems += [_left(name, error) for name, error in host.problems()]
    for problem in problems:
        warnings.warn(PytestVboxWarning(problem), stacklevel=2)


def _left(name: str, error: Exception) -> str:
    return printable(f"machine {name} could not be removed: {error}. The next run will try again")


def _close(host: VirtualBoxHost) -> None:
    try:
        host.close()
    except Exception as error:  # noqa: BLE001 - at the very end there is nobody to raise to
        warnings.warn(PytestVboxWarning(printable(f"closing VirtualBox at {host.url}: {error}")), stacklevel=2)


@contextmanager
def _usable(settings: Settings) -> Iterator[None]:
    """Turn what keeps VirtualBox from being used into a skip or an error, as the user wants it."""
    from pytest_vbox.models import ModelError
    from pytest_vbox.service import VirtualBoxNotFound, VirtualBoxUnusable
    from pytest_vbox.virtualbox.errors import ServiceUnavailable

    if settings.mode is Mode.OFF:
        pytest.skip("machine tests are switched off (--vbox=off)")
    try:
        yield
        return
    except (SettingsError, ModelError) as error:
        raise pytest.UsageError(str(error)) from None
    except (VirtualBoxNotFound, VirtualBoxUnusable, ServiceUnavailable) as error:
        reason = printable(error.text if isinstance(error, ServiceUnavailable) else str(error))
    # Outside of the handler, so that the reason is not shown twice.
    if settings.mode is Mode.AUTO:
        pytest.skip(f"VirtualBox cannot be used: {reason}")
    pytest.fail(f"VirtualBox cannot be used, and --vbox=require: {reason}", pytrace=False)
