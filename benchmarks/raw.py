"""The least number of API calls that make, start and remove a machine, without looking left or right.

What any program that uses the web service would have to do; the floor that the plugin is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.common import GROUP, Bench, Clock, Phases
from pytest_vbox import guest
from pytest_vbox.deadline import Deadline

# VirtualBox holds the link down for 5 s after a resume unless it is told not to.
_LINK_UP = "VBoxInternal/Devices/e1000/0/Config/LinkUpDelay"
_SNAPSHOT = "ready"


def wait(bench: Bench, progress: Any) -> None:
    """Wait for what VirtualBox does in the background."""
    reference = progress if isinstance(progress, str) else progress["returnval"]
    bench.call("IProgress_waitForCompletion", _this=reference, timeout=120000)
    code = bench.call("IProgress_getResultCode", _this=reference)
    if code:
        raise RuntimeError(f"VirtualBox refused: {code & 0xFFFFFFFF:#x}")


def create(bench: Bench, name: str) -> str:
    """A machine that is not registered yet."""
    reference: str = bench.call(
        "IVirtualBox_createMachine",
        _this=bench.host.api.reference,
        settingsFile="",
        name=name,
        platform="x86",
        groups=[GROUP],
        osTypeId=bench.model.os_type,
        flags="",
        cipher="",
        passwordId="",
        password="",
    )
    return reference


def configure(bench: Bench, machine: str, port: int) -> None:
    """The hardware of the benchmark's profile, as far as a cold boot needs it."""
    call, model = bench.call, bench.model
    call("IMachine_setMemorySize", _this=machine, memorySize=model.hardware.memory)
    firmware = call("IMachine_getFirmwareSettings", _this=machine)
    call("IFirmwareSettings_setLogoFadeIn", _this=firmware, logoFadeIn=False)
    call("IFirmwareSettings_setLogoFadeOut", _this=firmware, logoFadeOut=False)
    call("IFirmwareSettings_setBootMenuMode", _this=firmware, bootMenuMode="Disabled")
    adapter = call("IMachine_getNetworkAdapter", _this=machine, slot=0)
    call("INetworkAdapter_setAdapterType", _this=adapter, adapterType="I82540EM")
    call("INetworkAdapter_setAttachmentType", _this=adapter, attachmentType="NAT")
    redirect(bench, machine, port)
    controller = call("IMachine_addStorageController", _this=machine, name="SATA", connectionType="SATA")
    call("IStorageController_setPortCount", _this=controller, portCount=1)
    call("IMachine_saveSettings", _this=machine)


def redirect(bench: Bench, machine: str, port: int, *, replace: bool = False) -> None:
    """Let a port of this computer lead to the guest's SSH server."""
    adapter = bench.call("IMachine_getNetworkAdapter", _this=machine, slot=0)
    engine = bench.call("INetworkAdapter_getNATEngine", _this=adapter)
    if replace:
        bench.call("INATEngine_removeRedirect", _this=engine, name="ssh")
    bench.call(
        "INATEngine_addRedirect",
        _this=engine,
        name="ssh",
        proto="TCP",
        hostIP="127.0.0.1",
        hostPort=port,
        guestIP="",
        guestPort=bench.model.image.ssh_port,
    )


def attach(bench: Bench, machine: str, disk: str) -> None:
    """Attach the base, which can be shared, to a registered machine."""
    call, vbox = bench.call, bench.host.api.reference
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


def register(bench: Bench, machine: str) -> None:
    """Let VirtualBox know a machine."""
    bench.call("IVirtualBox_registerMachine", _this=bench.host.api.reference, machine=machine)


def launch(bench: Bench, machine: str) -> str:
    """Start a machine without a window. Returns the session, which holds it no more."""
    session: str = bench.call("IWebsessionManager_getSessionObject", refIVirtualBox=bench.host.api.reference)
    wait(
        bench,
        bench.call(
            "IMachine_launchVMProcess", _this=machine, session=session, name="headless", environmentChanges=[]
        ),
    )
    bench.call("ISession_unlockMachine", _this=session)
    return session


def power_down(bench: Bench, name: str, machine: str, session: str) -> None:
    """Pull the plug, and wait until nobody holds the machine any more."""
    bench.call("IMachine_lockMachine", _this=machine, session=session, lockType="Shared")
    console = bench.call("ISession_getConsole", _this=session)
    wait(bench, bench.call("IConsole_powerDown", _this=console))
    bench.host.session.wait_for_unlock(bench.host.api.find_machine(name), Deadline(60))


def delete(bench: Bench, machine: str, mode: str) -> None:
    """Unregister a machine and delete its files, and of its media those that VirtualBox names."""
    media = bench.call("IMachine_unregister", _this=machine, cleanupMode=mode)
    wait(bench, bench.call("IMachine_deleteConfig", _this=machine, media=media))


@contextmanager
def golden_machine(bench: Bench) -> Iterator[str]:
    """A machine that has booted once and has an online snapshot, to be forked. Gives its reference."""
    disk = bench.prepare_base()
    call = bench.call
    with bench.machine("golden") as (name, port):
        machine = create(bench, name)
        configure(bench, machine, port)
        for key, value in bench.model.hardware.extra_data.items():
            call("IMachine_setExtraData", _this=machine, key=key, value=str(value))
        call("IMachine_setExtraData", _this=machine, key=_LINK_UP, value="0")
        call("IMachine_saveSettings", _this=machine)
        register(bench, machine)
        attach(bench, machine, str(disk))
        session = launch(bench, machine)
        bench.connect(name, port, booting=True).close()
        call("IMachine_lockMachine", _this=machine, session=session, lockType="Shared")
        mutable = call("ISession_getMachine", _this=session)
        wait(bench, call("IMachine_takeSnapshot", _this=mutable, name=_SNAPSHOT, description="", pause=True))
        call("ISession_unlockMachine", _this=session)
        power_down(bench, name, machine, session)
        yield machine


def fork(bench: Bench, golden: str) -> Phases:
    """Fork the golden machine: the floor. Each phase is that of the calls alone."""
    clock, call = Clock(), bench.call
    with bench.machine("fork") as (name, port):
        with clock.phase("create"):
            machine = create(bench, name)
            snapshot = call("IMachine_findSnapshot", _this=golden, nameOrId=_SNAPSHOT)
            source = call("ISnapshot_getMachine", _this=snapshot)
            options = ["Link", "KeepAllMACs", "KeepHwUUIDs"]
            wait(
                bench,
                call("IMachine_cloneTo", _this=source, target=machine, mode="MachineState", options=options),
            )
            redirect(bench, machine, port, replace=True)
            call("IMachine_setExtraData", _this=machine, key=_LINK_UP, value="0")
            call("IMachine_saveSettings", _this=machine)
            register(bench, machine)
        with clock.phase("launch"):
            session = launch(bench, machine)
        with clock.phase("ssh"):
            connection = bench.connect(name, port, booting=False)
        clock.phases["ready"] = sum(clock.phases.values())
        with clock.phase("run"):
            guest.run(connection, "true")
        connection.close()
        with clock.phase("teardown"):
            power_down(bench, name, machine, session)
            delete(bench, machine, "Full")
    return clock.phases
