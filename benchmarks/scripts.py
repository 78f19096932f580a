"""What people write as shell scripts around VBoxManage: a machine on a shared disk, and a linked clone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.common import GROUP, Bench, Clock, Phases
from pytest_vbox import guest
from pytest_vbox.deadline import Deadline

_SNAPSHOT = "base"


def create(bench: Bench, name: str, port: int) -> None:
    """Create a machine and attach the base, as the manual shows it."""
    bench.manage("createvm", "--name", name, "--groups", GROUP, "--ostype", bench.model.os_type, "--register")
    settings = ["--memory", str(bench.model.hardware.memory), "--nic1", "nat", "--nictype1", "82540EM"]
    settings += ["--natpf1", _rule(bench, port)]
    settings += ["--bios-logo-fade-in=off", "--bios-logo-fade-out=off", "--bios-boot-menu=disabled"]
    bench.manage("modifyvm", name, *settings)
    bench.manage("storagectl", name, "--name", "SATA", "--add", "sata", "--portcount", "1")
    disk = ["--type", "hdd", "--medium", str(bench.model.image.disk), "--mtype", "multiattach"]
    bench.manage("storageattach", name, "--storagectl", "SATA", "--port", "0", *disk)


def cold(bench: Bench) -> Phases:
    """A machine that is created and booted."""
    with bench.machine("script") as (name, port):
        clock = Clock()
        with clock.phase("create"):
            create(bench, name, port)
        return _live(bench, name, port, clock)


@contextmanager
def template(bench: Bench) -> Iterator[str]:
    """A machine with a snapshot, switched off, to be cloned. Gives its name."""
    bench.prepare_base()
    with bench.machine("template") as (name, port):
        create(bench, name, port)
        bench.manage("snapshot", name, "take", _SNAPSHOT)
        yield name


def linked_clone(bench: Bench, source: str) -> Phases:
    """A linked clone of a machine, booted: what Vagrant does with linked_clone."""
    with bench.machine("clone") as (name, port):
        clock = Clock()
        with clock.phase("create"):
            options = ["--snapshot", _SNAPSHOT, "--options", "link", "--groups", GROUP]
            bench.manage("clonevm", source, *options, "--name", name, "--register")
            bench.manage("modifyvm", name, "--natpf1", "delete", "ssh")
            bench.manage("modifyvm", name, "--natpf1", _rule(bench, port))
        return _live(bench, name, port, clock)


def _live(bench: Bench, name: str, port: int, clock: Clock) -> Phases:
    with clock.phase("launch"):
        bench.manage("startvm", name, "--type", "headless")
    with clock.phase("boot + SSH"):
        connection = bench.connect(name, port, booting=True)
    clock.phases["ready"] = sum(clock.phases.values())
    with clock.phase("run"):
        guest.run(connection, "true")
    connection.close()
    with clock.phase("teardown"):
        bench.manage("controlvm", name, "poweroff")
        bench.host.session.wait_for_unlock(bench.host.api.find_machine(name), Deadline(60))
        bench.manage("unregistervm", name, "--delete")
    return clock.phases


def _rule(bench: Bench, port: int) -> str:
    return f"ssh,tcp,127.0.0.1,{port},,{bench.model.image.ssh_port}"
