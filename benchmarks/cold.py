"""The phases of a cold machine's life: ours, beside the raw API calls and a VBoxManage script in the same run.

    python benchmarks/cold.py [--runs N] [--image NAME] [--profile NAME] [--json FILE]

Each run makes one machine in each of the three ways, in turn, so that a busy computer slows them alike. What is
compared is what each way adds; how long the guest itself boots is shown, but is the guest's business.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest_vbox
from pytest_vbox import guest
from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.machines.plan import Owner, Plan
from pytest_vbox.machines.power import wait_for_first_packet
from pytest_vbox.models import MachineModel
from pytest_vbox.ownership import reserve_port
from pytest_vbox.places import state_folder

PHASES = ("connect", "clone", "launch", "boot + SSH", "run", "teardown")
#: What each way does itself; the rest is the guest.
OWN = ("connect", "clone", "launch", "teardown")
GROUP = "/pytest-vbox-bench"
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


def ours(image: str, profile: str) -> Phases:
    """The plugin's own way."""
    clock = Clock()
    with clock.phase("connect"):
        host = pytest_vbox.connect()
    with host:
        with clock.phase("clone"):
            vm = host.machine(image, profile, start=False)
        with clock.phase("boot + SSH"):
            vm.start()
        # start() is one call for the user; what it took to launch is told by the machine.
        clock.phases["launch"] = (vm.phases["launch"] + vm.phases["forward"]) * 1000
        clock.phases["boot + SSH"] -= clock.phases["launch"]
        with clock.phase("run"):
            vm.run("true")
        with clock.phase("teardown"):
            host.remove(vm)
    return clock.phases


def _login(host: VirtualBoxHost, model: MachineModel) -> guest.Login:
    return host.context.login(Plan("bench", model, Owner("bench"), 300))


def _ssh(host: VirtualBoxHost, model: MachineModel, name: str, port: int, clock: Clock) -> None:
    """Wait for the guest and run a command in it, alike for all ways."""
    with clock.phase("boot + SSH"):
        wait_for_first_packet(host.session, host.api.find_machine(name), Deadline(10), lambda: None)
        connection = guest.connect(("127.0.0.1", port), _login(host, model), Deadline(300))
    with clock.phase("run"):
        guest.run(connection, "true")
    connection.close()


def raw(helper: VirtualBoxHost, model: MachineModel) -> Phases:
    """The least number of API calls that make such a machine, without looking left or right."""
    clock = Clock()
    name = f"raw-{uuid.uuid4().hex[:8]}"
    port = reserve_port(state_folder())
    with clock.phase("connect"):
        host = pytest_vbox.connect()  # zeep, WSDL and logon are the floor here too
    call, vbox = host.session.api.call, host.api.reference
    with clock.phase("clone"):
        machine = call(
            "IVirtualBox_createMachine",
            _this=vbox,
            settingsFile="",
            name=name,
            platform="x86",
            groups=[GROUP],
            osTypeId=model.os_type,
            flags="",
            cipher="",
            passwordId="",
            password="",
        )
        _configure_raw(call, machine, model, port.port)
        call("IVirtualBox_registerMachine", _this=vbox, machine=machine)
        disk = str(model.image.disk)
        base = call(
            "IVirtualBox_openMedium",
            _this=vbox,
            location=disk,
            deviceType="HardDisk",
            accessMode="ReadWrite",
            forceNewUuid=False,
        )
        session = call("IWebsessionManager_getSessionObject", refIVirtualBox=vbox)
        call("IMachine_lockMachine", _this=machine, session=session, lockType="Write")
        mutable = call("ISession_getMachine", _this=session)
        call(
            "IMachine_attachDevice",
            _this=mutable,
            name="SATA",
            controllerPort=0,
            device=0,
            type="HardDisk",
            medium=base,
        )
        call("IMachine_saveSettings", _this=mutable)
        call("ISession_unlockMachine", _this=session)
    with clock.phase("launch"):
        progress = call(
            "IMachine_launchVMProcess", _this=machine, session=session, name="headless", environmentChanges=[]
        )
        call("IProgress_waitForCompletion", _this=progress, timeout=60000)
        call("ISession_unlockMachine", _this=session)
    _ssh(helper, model, name, port.port, clock)
    with clock.phase("teardown"):
        call("IMachine_lockMachine", _this=machine, session=session, lockType="Shared")
        progress = call("IConsole_powerDown", _this=call("ISession_getConsole", _this=session))
        call("IProgress_waitForCompletion", _this=progress, timeout=60000)
        host.session.wait_for_unlock(host.api.find_machine(name), Deadline(60))
        media = call("IMachine_unregister", _this=machine, cleanupMode="DetachAllReturnHardDisksOnly")
        progress = call("IMachine_deleteConfig", _this=machine, media=media)
        call("IProgress_waitForCompletion", _this=progress, timeout=60000)
    host.close()
    port.release()
    return clock.phases


def _configure_raw(call: Callable[..., str], machine: str, model: MachineModel, port: int) -> None:
    call("IMachine_setMemorySize", _this=machine, memorySize=model.hardware.memory)
    firmware = call("IMachine_getFirmwareSettings", _this=machine)
    call("IFirmwareSettings_setLogoFadeIn", _this=firmware, logoFadeIn=False)
    call("IFirmwareSettings_setLogoFadeOut", _this=firmware, logoFadeOut=False)
    call("IFirmwareSettings_setBootMenuMode", _this=firmware, bootMenuMode="Disabled")
    adapter = call("IMachine_getNetworkAdapter", _this=machine, slot=0)
    call("INetworkAdapter_setAdapterType", _this=adapter, adapterType="I82540EM")
    call("INetworkAdapter_setAttachmentType", _this=adapter, attachmentType="NAT")
    engine = call("INetworkAdapter_getNATEngine", _this=adapter)
    call(
        "INATEngine_addRedirect",
        _this=engine,
        name="ssh",
        proto="TCP",
        hostIP="127.0.0.1",
        hostPort=port,
        guestIP="",
        guestPort=model.image.ssh_port,
    )
    call("IMachine_addStorageController", _this=machine, name="SATA", connectionType="SATA")
    call("IMachine_saveSettings", _this=machine)


def vboxmanage(helper: VirtualBoxHost, model: MachineModel, program: str) -> Phases:
    """What people write as a shell script."""
    clock = Clock()
    name = f"script-{uuid.uuid4().hex[:8]}"
    port = reserve_port(state_folder())

    def manage(*arguments: str) -> None:
        subprocess.run([program, *arguments], check=True, capture_output=True)

    with clock.phase("connect"):
        manage("--version")
    with clock.phase("clone"):
        manage("createvm", "--name", name, "--groups", GROUP, "--ostype", model.os_type, "--register")
        rule = f"ssh,tcp,127.0.0.1,{port.port},,{model.image.ssh_port}"
        settings = [
            "--memory",
            str(model.hardware.memory),
            "--nic1",
            "nat",
            "--nictype1",
            "82540EM",
            "--natpf1",
            rule,
        ]
        settings += ["--bios-logo-fade-in=off", "--bios-logo-fade-out=off", "--bios-boot-menu=disabled"]
        manage("modifyvm", name, *settings)
        manage("storagectl", name, "--name", "SATA", "--add", "sata", "--portcount", "1")
        disk = ["--type", "hdd", "--medium", str(model.image.disk), "--mtype", "multiattach"]
        manage("storageattach", name, "--storagectl", "SATA", "--port", "0", *disk)
    with clock.phase("launch"):
        manage("startvm", name, "--type", "headless")
    _ssh(helper, model, name, port.port, clock)
    with clock.phase("teardown"):
        manage("controlvm", name, "poweroff")
        helper.session.wait_for_unlock(helper.api.find_machine(name), Deadline(60))
        manage("unregistervm", name, "--delete")
    port.release()
    return clock.phases


def table(results: Mapping[str, list[Phases]]) -> str:
    """Medians of each phase in milliseconds, a column for each way."""
    lines = [f"{'phase':12}" + "".join(f"{way:>14}" for way in results)]
    for phase in PHASES:
        medians = (statistics.median(run[phase] for run in runs) for runs in results.values())
        lines.append(f"{phase:12}" + "".join(f"{value:11.0f} ms" for value in medians))
    sums = {
        way: statistics.median(sum(run[phase] for phase in OWN) for run in runs) for way, runs in results.items()
    }
    lines.append(f"{'own work':12}" + "".join(f"{value:11.0f} ms" for value in sums.values()))
    lines.append(f"ours - raw: {sums['ours'] - sums['raw']:+.0f} ms of own work (bar: at most +200 ms)")
    if "VBoxManage" in sums:
        lines.append(f"VBoxManage / ours: {sums['VBoxManage'] / sums['ours']:.2f} times the own work")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="machines in each way (default 5)")
    parser.add_argument("--image", default="tiny")
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--vboxmanage", default=_vboxmanage(), help="the VBoxManage to compare with")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "cold.json")
    options = parser.parse_args()
    results: dict[str, list[Phases]] = {"ours": [], "raw": []}
    if options.vboxmanage:
        results["VBoxManage"] = []
    with pytest_vbox.connect() as helper:
        model = helper.catalogue.machine(options.image, options.profile)
        for number in range(options.runs):
            results["ours"].append(ours(options.image, options.profile))
            results["raw"].append(raw(helper, model))
            if options.vboxmanage:
                results["VBoxManage"].append(vboxmanage(helper, model, options.vboxmanage))
            print(f"run {number + 1} of {options.runs} done", flush=True)
        about = {"virtualbox": helper.version, "memory": helper.capacity[0], "cores": helper.capacity[1]}
    about |= {"python": platform.python_version(), "system": platform.platform(terse=True)}
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_text(json.dumps({"about": about, "milliseconds": results}, indent=1) + "\n")
    print(f"medians of {options.runs} runs, VirtualBox {about['virtualbox']}, {about['cores']} cores")
    print(table(results))


def _vboxmanage() -> str | None:
    folder = os.environ.get("VBOX_RIG_BIN")
    return shutil.which("VBoxManage", path=folder) if folder else shutil.which("VBoxManage")


if __name__ == "__main__":
    main()
