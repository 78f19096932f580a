"""The doctor: looks at everything that machines need, and says what to do about what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pytest_vbox import places, service, trust
from pytest_vbox.catalogues import load_catalogue
from pytest_vbox.hosts import connect_host
from pytest_vbox.images import Library
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Catalogue, ModelError
from pytest_vbox.ownership import Kind, abandoned
from pytest_vbox.settings import Settings, SettingsError
from pytest_vbox.virtualbox.errors import VirtualBoxError

_GIB: Final = 1024**3
_LITTLE_SPACE: Final = 5 * _GIB
_KVM: Final = ("kvm_intel", "kvm_amd")


class State(StrEnum):
    """How a check went."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: What was looked at.
        state: How it is.
        found: What was seen.
        means: What that means, where it is not as it should be.
        mend: The command that mends it, or what else to do.
    """

    name: str
    state: State
    found: str
    means: str = ""
    mend: str = ""


def examine(settings: Settings, root: Path) -> Iterator[Finding]:
    """Look at everything, in the order in which it is needed.

    Args:
        settings: What the user set.
        root: The project's folder.
    """
    yield _python()
    yield from _own_folders()
    try:
        places.state_folder(), places.cache_folder()
    except places.UnsafeFolder:
        return  # all that follows would need them
    yield from _security(settings)
    if settings.url is None:
        yield from _installation()
    host = None
    for finding, connected in _service(settings, root):
        host = connected or host
        yield finding
    if host is not None:
        with host:
            yield from _host(host)
    yield from _models(settings, root)
    yield _qemu_img()
    yield from _leftovers()


def _python() -> Finding:
    import pytest

    found = f"Python {sys.version.split()[0]}, pytest {pytest.__version__}"
    return Finding("Python", State.PASS, found)


def _own_folders() -> Iterator[Finding]:
    for name, get in (
        ("state folder", places.state_folder),
        ("cache folder", places.cache_folder),
        ("config folder", places.config_folder),
    ):
        try:
            folder = get()
            there = next(path for path in (folder, *folder.parents) if path.exists())
        except (OSError, places.UnsafeFolder) as error:
            yield Finding(
                name, State.FAIL, str(error), "pytest-vbox cannot keep its own files", "chmod, or set HOME"
            )
            continue
        if not os.access(there, os.W_OK):
            means = "pytest-vbox cannot keep its own files" if name != "config folder" else "no image can be added"
            state = State.FAIL if name != "config folder" else State.WARN
            yield Finding(name, state, f"{there} cannot be written to", means, f"sudo chown $USER {there}")
        elif name == "cache folder" and (free := shutil.disk_usage(there).free) < _LITTLE_SPACE:
            means = "images that are fetched or provisioned may not fit"
            yield Finding(name, State.WARN, f"{folder}, {_gib(free)} free", means, f"make room in {folder}")
        else:
            yield Finding(name, State.PASS, str(folder))


def _installation() -> Iterator[Finding]:
    try:
        installation = service.find_installation()
    except service.VirtualBoxNotFound as error:
        means = "machines can only be made on another computer, by --url"
        yield Finding("VirtualBox", State.FAIL, str(error), means, _install_command())
        return
    yield Finding("VirtualBox", State.PASS, f"{installation.vboxmanage}, {installation.vboxwebsrv}")
    try:
        installation.check_driver()
        found = "/dev/vboxdrv" if Path("/dev/vboxdrv").exists() else "none, and VirtualBox may do without"
        yield Finding("kernel driver", State.PASS, found)
    except service.VirtualBoxUnusable as error:
        means = "no machine can start"
        yield Finding(
            "kernel driver", State.FAIL, str(error), means, "sudo modprobe vboxdrv || sudo /sbin/vboxconfig"
        )
    yield _kvm()


def _install_command() -> str:
    if sys.platform == "darwin":
        return "brew install --cask virtualbox"
    if sys.platform == "win32":
        return "winget install Oracle.VirtualBox"
    return "sudo apt-get install virtualbox (or Oracle's package, from virtualbox.org)"


def _kvm() -> Finding:
    """On Linux, KVM and VirtualBox cannot use the processor's virtualisation at the same time."""
    name = "virtualisation"
    try:
        modules = [line.split() for line in Path("/proc/modules").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return Finding(name, State.SKIP, "nothing is known of it on this system")
    users = {module[0]: int(module[2]) for module in modules if module[0] in _KVM and module[2].isdigit()}
    if any(users.values()):
        module = next(name for name, count in users.items() if count)
        means = "another hypervisor may hold VT-x or AMD-V; machines then fail with VERR_VMX_IN_VMX_ROOT_MODE"
        return Finding(
            name,
            State.WARN,
            f"{module} is in use",
            means,
            f"stop the other machines, or: sudo modprobe -r {module}",
        )
    return Finding(name, State.PASS, "no other hypervisor is at work")


def _security(settings: Settings) -> Iterator[Finding]:
    """What the user allowed that is not secure; nothing where there is nothing to say."""
    for risk in trust.risks(settings):
        means = "others may use your machines, or the password"
        yield Finding("security", State.WARN, risk, means, "take --vbox-insecure, or vbox_insecure, away")


def _service(settings: Settings, root: Path) -> Iterator[tuple[Finding, VirtualBoxHost | None]]:
    """Connects; broken YAML is another check's."""
    name = "web service"
    try:
        host = connect_host(settings, root=root, clean_up=False)
    except SettingsError as error:
        yield Finding(name, State.FAIL, str(error), "no machine test can run", "correct the setting"), None
        return
    except ModelError:
        yield Finding(name, State.SKIP, "not tried, since the YAML is broken"), None
        return
    except service.VirtualBoxNotFound:
        yield Finding(name, State.SKIP, "not tried, since there is no VirtualBox"), None
        return
    except service.VirtualBoxUnusable as error:
        yield (
            Finding(
                name, State.FAIL, str(error), "nothing can be asked of VirtualBox", "pytest-vbox service stop"
            ),
            None,
        )
        return
    except VirtualBoxError as error:
        where = f"the service at {settings.url}" if settings.url else "the private service"
        mend = "start it there: vboxwebsrv -H 127.0.0.1" if settings.url else "pytest-vbox service stop"
        yield Finding(name, State.FAIL, error.text, f"{where} cannot be used", mend), None
        return
    yield Finding(name, State.PASS, f"{host.url}, VirtualBox {host.version}"), host


def _host(host: VirtualBoxHost) -> Iterator[Finding]:
    memory, cores = host.capacity
    free = host.api.host.memory_available
    found = f"{cores} cores, {memory} MiB memory, {free} MiB of it free"
    if free < 1024:
        yield Finding("capacity", State.WARN, found, "a small machine needs 1 GiB", "end other programs")
    else:
        yield Finding("capacity", State.PASS, found)
    folder = Path(host.api.system_properties.default_machine_folder)
    if not host.local:
        yield Finding("machine folder", State.SKIP, f"{folder}, on {host.address}")
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    space = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        mend = "VBoxManage setproperty machinefolder FOLDER"
        yield Finding(
            "machine folder", State.FAIL, f"{there} cannot be written to", "no machine can be made", mend
        )
    elif space < _LITTLE_SPACE:
        means = "machines may run out of space for what they write"
        yield Finding(
            "machine folder", State.WARN, f"{folder}, {_gib(space)} free", means, f"make room in {there}"
        )
    else:
        yield Finding("machine folder", State.PASS, f"{folder}, {_gib(space)} free")


def _models(settings: Settings, root: Path) -> Iterator[Finding]:
    name = "images and profiles"
    try:
        catalogue = load_catalogue(settings, root)
    except ModelError as error:
        yield Finding(
            name, State.FAIL, str(error), "no machine test can run", "correct the YAML at the lines named"
        )
        return
    if not catalogue.images:
        folders = ", ".join(str(folder) for folder in catalogue.folders)
        means = "there is nothing to make a machine of"
        yield Finding(name, State.WARN, f"no image in {folders}", means, "pytest-vbox images add NAME SOURCE")
        return
    yield Finding(name, State.PASS, f"{len(catalogue.images)} images, {len(catalogue.profiles)} profiles")
    if settings.url is None:
        yield from _disks(catalogue)


def _disks(catalogue: Catalogue) -> Iterator[Finding]:
    library = Library(places.cache_folder(), places.state_folder())
    for name, image in catalogue.images.items():
        what = f"image {name}"
        where = str(catalogue.images.source(name))
        if image.disk is not None:
            if not image.disk.is_file():
                means = f"its tests fail; {where} describes it"
                yield Finding(what, State.FAIL, f"{image.disk} is not there", means, f"correct disk: in {where}")
            elif not os.access(image.disk, os.R_OK):
                mend = f"chmod u+r {image.disk}"
                yield Finding(what, State.FAIL, f"{image.disk} cannot be read", "its tests fail", mend)
            else:
                yield Finding(what, State.PASS, str(image.disk))
        elif library.find(image) is None:
            means = "the first test that needs it fetches it"
            yield Finding(
                what, State.WARN, f"{image.source} was not fetched", means, f"pytest-vbox images fetch {name}"
            )
        else:
            yield Finding(what, State.PASS, f"{image.source}, fetched")
        key = image.private_key
        if key is not None and not key.is_file():
            mend = f"correct private_key: in {where}"
            yield Finding(f"{what}: key", State.FAIL, f"{key} is not there", "nobody can log in", mend)


def _qemu_img() -> Finding:
    tool = shutil.which("qemu-img")
    if tool is not None:
        return Finding("qemu-img", State.PASS, tool)
    means = "only needed for disks that VirtualBox cannot read by itself"
    return Finding("qemu-img", State.SKIP, "not installed", means)


def _leftovers() -> Iterator[Finding]:
    with abandoned(places.state_folder()) as ledgers:
        entries = [entry for ledger in ledgers for entry in ledger.entries]
    names = [entry.name for entry in entries if entry.kind is Kind.MACHINE]
    if names:
        means = "the next run removes them"
        yield Finding("leftovers", State.WARN, f"{len(names)} machines of runs that died", means, "pytest-vbox gc")
    else:
        yield Finding("leftovers", State.PASS, "none")


def _gib(size: int) -> str:
    return f"{size / _GIB:.0f} GiB"
