"""pytest's hooks and options; everything else is behind the fixtures, and imported when they are used."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vbox import settings as vbox_settings_module
from pytest_vbox.fixtures import (
    CURRENT,
    FAILED,
    FORECAST,
    HOST,
    JOURNAL,
    KEPT,
    LIVE,
    MACHINE_FIXTURES,
    RUN,
    SETTINGS,
    USED,
    WIDE,
    check_marker,
    class_vbox_machine,
    expect,
    module_vbox_machine,
    package_vbox_machine,
    reset_before,
    save_artifacts,
    session_vbox_machine,
    vbox,
    vbox_artifacts_dir,
    vbox_host,
    vbox_machine,
    vbox_settings,
    vbox_ssh_key,
)
from pytest_vbox.forecast import Forecast
from pytest_vbox.settings import OPTIONS, Mode, SettingsError
from pytest_vbox.testreports import make_printable

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

    from pytest_vbox.summary import Story

__all__ = [
    "class_vbox_machine",
    "module_vbox_machine",
    "package_vbox_machine",
    "session_vbox_machine",
    "vbox",
    "vbox_artifacts_dir",
    "vbox_host",
    "vbox_machine",
    "vbox_settings",
    "vbox_ssh_key",
]

#: What the processes of the run told of their machines.
_TOLD = pytest.StashKey[list[dict[str, Any]]]()
#: The marker that every test with a machine gets; made once, for it takes a while.
_MARK = pytest.StashKey[pytest.MarkDecorator]()
_MARKER = (
    "vbox(*, image=None, profile=None, name=None, hardware=None, reset=None, start=True, boot_timeout=None): "
    "describe the machine of the `vbox` fixture; reset='each' resets machines of wider scope before every test. "
    "Every test that uses a machine has this marker by itself, so "
    "`-m 'not vbox'` is the quick run and `-m vbox` the integration run."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vbox", "real VirtualBox machines (pytest-vbox)")
    group.addoption(
        "--vbox-list",
        action="store_true",
        default=False,
        help="Show the images and hardware profiles there are, and where they are described; run no test.",
    )
    for option in OPTIONS:
        if option.flag is None:
            continue
        keywords: dict[str, Any] = {"dest": f"vbox_{option.name}", "default": None, "help": option.help}
        if option.repeatable:
            keywords["action"] = "append"
        if option.switch:
            keywords |= {"action": "store_const", "const": "true"}
        elif option.choices:
            keywords["metavar"] = "{" + ",".join(option.choices) + "}"
        else:
            keywords["metavar"] = option.metavar
        group.addoption(option.flag, **keywords)
        shown = f"{option.help} (Like {option.flag}.)"
        if option.repeatable:
            parser.addini(option.ini, shown, type="linelist", default=None)
        else:
            parser.addini(option.ini, shown, type="string", default=None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    config.stash[_MARK] = pytest.mark.vbox
    try:
        config.stash[SETTINGS] = vbox_settings_module.load(
            command_line={option.name: config.getoption(f"vbox_{option.name}", None) for option in OPTIONS},
            ini={option.name: config.getini(option.ini) for option in OPTIONS if option.flag is not None},
            root=config.rootpath,
        )
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from None
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    config.stash[RUN] = worker.get("testrunuid") or uuid.uuid4().hex
    config.stash[KEPT] = []
    config.stash[_TOLD] = []
    config.stash[WIDE] = []
    config.stash[FORECAST] = Forecast()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Keep a way to the terminal, which is captured while tests run; only where somebody looks at it."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or os.environ.get("CI"):
        return
    try:
        # Where pytest itself writes to.
        descriptor = reporter._tw._file.fileno()
        if not os.isatty(descriptor) or os.environ.get("TERM", "dumb") == "dumb":
            return
        copy = os.dup(descriptor)
    except (AttributeError, OSError, ValueError):
        return
    from pytest_vbox.live import LiveLine

    config.stash[LIVE] = LiveLine(copy, lambda: int(reporter._tw.width_of_current_line))


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Show the images and profiles instead of running tests, as ``--fixtures`` and ``--markers`` do."""
    if not config.getoption("vbox_list"):
        return None
    from pytest_vbox.catalogues import load_catalogue
    from pytest_vbox.listing import show
    from pytest_vbox.models import ModelError

    config._do_configure()
    try:
        catalogue = load_catalogue(config.stash[SETTINGS], config.rootpath)
        terminal = config.get_terminal_writer()
        show(catalogue, config.rootpath, terminal.line, lambda title: terminal.sep("-", title))
    except ModelError as error:
        raise pytest.UsageError(str(error)) from None
    finally:
        config._ensure_unconfigure()
    return pytest.ExitCode.OK


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give every test that uses a machine the marker, before ``-m`` selects by it."""
    if MACHINE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return
    # At the end, so that a marker of the test's own stays the closest one.
    item.add_marker(item.config.stash[_MARK])
    if item.config.stash[SETTINGS].mode is Mode.OFF:
        item.add_marker(pytest.mark.skip(reason="machine tests are switched off (--vbox=off)"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """See before the first test that the YAML and the markers of the selected tests are right."""
    config = session.config
    if config.option.collectonly or config.stash[SETTINGS].mode is Mode.OFF or hasattr(config, "workerinput"):
        return
    items = [item for item in session.items if item.get_closest_marker("vbox") is not None]
    if not items:
        return
    for item in items:
        check_marker(item)
    # Only where machines are asked for: reading the models costs an import of pydantic.
    from pytest_vbox.catalogues import load_catalogue
    from pytest_vbox.models import ModelError

    try:
        load_catalogue(config.stash[SETTINGS], config.rootpath)
    except ModelError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Say which tests come next, so that their machines can be made ready."""
    item.config.stash[CURRENT] = (item, nextitem)
    expect(item.config)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make machines of wider scope pristine again for tests that want it, before their fixtures are set up."""
    reset_before(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember failures for all scopes, and save what the machines show while they are still there."""
    report = yield
    if report.failed:
        for node in item.listchain():
            node.stash[FAILED] = True
        host = item.config.stash.get(HOST, None)
        if host is not None and call.when in {"setup", "call"}:
            report.sections.extend(save_artifacts(host, item.nodeid))
    if item.get_closest_marker("vbox") is not None or item.stash.get(USED, False):
        reporter = item.config.pluginmanager.get_plugin("terminalreporter")
        make_printable(report, colours=reporter is not None and reporter.hasmarkup)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what an xdist worker kept, and how its machines came, to its controller."""
    config = session.config
    told = []
    if JOURNAL in config.stash:
        from pytest_vbox.summary import told_by

        told.append(told_by(config.stash[JOURNAL]))
    output: dict[str, Any] | None = getattr(config, "workeroutput", None)
    if output is not None:
        output["vbox_kept"] = config.stash[KEPT]
        output["vbox_told"] = told
    else:
        config.stash[_TOLD] += told


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker kept."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[KEPT].extend(output.get("vbox_kept", []))
    node.config.stash[_TOLD].extend(output.get("vbox_told", []))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write the report, and give the terminal back."""
    live = config.stash.get(LIVE, None)
    if live is not None:
        live.close()
    report = config.stash[SETTINGS].report if SETTINGS in config.stash else None
    if report is None or hasattr(config, "workerinput") or config.option.collectonly:
        return
    from pytest_vbox import summary

    story, about = _story(config)
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps(summary.document(story, about), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"--vbox-report: cannot write {report}: {error.strerror or error}\n")


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    _show_machines(terminalreporter, config)
    _show_what_was_reaped(terminalreporter, config)
    kept = config.stash[KEPT]
    if kept:
        terminalreporter.section("VirtualBox machines that were kept")
        for line in kept:
            terminalreporter.write_line(line)


def _show_machines(terminal: TerminalReporter, config: pytest.Config) -> None:
    """Say how machines came, if that is wanted; and what everybody should know, in any case."""
    if not config.stash[_TOLD]:
        return
    from pytest_vbox import summary

    story, _ = _story(config)
    lines = summary.table(story) if config.stash[SETTINGS].durations or config.option.verbose > 0 else []
    if lines or story.notes:
        terminal.section("VirtualBox machines")
        for line in (*lines, *story.notes):
            terminal.write_line(line)


def _show_what_was_reaped(terminal: TerminalReporter, config: pytest.Config) -> None:
    """Say what was cleaned up after runs, or workers of this one, that died."""
    if not config.stash[_TOLD]:
        return
    from pytest_vbox import places
    from pytest_vbox.ownership import log_file, take_unseen

    state = places.state_folder()
    lines = take_unseen(state)
    if lines:
        terminal.section("VirtualBox machines of processes that died")
        for line in lines:
            terminal.write_line(line)
        terminal.write_line(f"(all of it: {log_file(state)})")


def _story(config: pytest.Config) -> tuple[Story, dict[str, Any]]:
    from importlib.metadata import version

    from pytest_vbox.summary import Story

    story = Story()
    for document in config.stash[_TOLD]:
        story.add(document)
    return story, {
        "pytest-vbox": version("pytest-vbox"),
        "virtualbox": story.virtualbox,
        "processes": len(story.peaks),
    }
