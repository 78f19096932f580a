"""A VirtualBox in which machines can be made."""

from __future__ import annotations

from unit.kit.service import Arguments, FakeService, Refusal

#: The name of the machine that a workshop makes, as `machine_name` would make it.
NAME = "pytest-one-0123abcd"


def workshop(service: FakeService, folder: str = f"/vms/pytest-vbox/{NAME}") -> FakeService:
    """Let a service make the machine ``m``, each part of it an object, and take it away again."""
    parts = {
        "BIOSSettings": service.add("firmware"),
        "FirmwareSettings": "firmware",
        "Platform": service.add("platform"),
        "GraphicsAdapter": service.add("graphics"),
    }
    service.add(
        "m",
        Id="id-1",
        Name=NAME,
        SettingsFilePath=f"{folder}/{NAME}.vbox",
        MediumAttachments=[],
        SnapshotFolder=f"{folder}/Snapshots",
        State="PoweredOff",
        SessionState="Unlocked",
        **parts,
    )
    service.add("controller", PortCount=1)
    service.add("serial")
    service.add("s", State="Locked", Machine=service.add("mutable"))
    service.add("progress", Completed=True, ResultCode=0)
    for slot in range(8):
        service.add(f"adapter-{slot}", NATEngine=service.add(f"nat-{slot}"))
    service.answer("IWebsessionManager_getSessionObject", "s")
    service.answer("IVirtualBox_createMachine", "m")
    service.answer("IMachine_getSerialPort", "serial")
    service.answer("IMachine_addStorageController", "controller")
    service.handlers["IMachine_getNetworkAdapter"] = lambda arguments: f"adapter-{arguments['slot']}"
    service.answer("IMachine_unregister", [])
    service.answer("IVirtualBox_getMachinesByGroups", [])
    service.answer("IVirtualBox_getHardDisks", [])
    service.answer("IMachine_deleteConfig", "progress")
    for operation in (
        *("setExtraData", "setBootOrder", "setStorageControllerBootable", "saveSettings"),
        *("lockMachine", "attachDevice", "detachDevice"),
    ):
        service.answer(f"IMachine_{operation}", None)
    for operation in ("ISession_unlockMachine", "INATEngine_addRedirect", "IProgress_waitForCompletion"):
        service.answer(operation, None)
    service.answer("IVirtualBox_getHost", service.add("host", ProcessorOnlineCount=4, MemorySize=8192))
    _register(service)
    return service


def _register(service: FakeService) -> None:
    """Machines are found once they are registered."""
    registered: list[str] = []

    def find(arguments: Arguments) -> str:
        if not registered:
            raise Refusal(0x80BB0001, f"Could not find a registered machine named '{arguments['nameOrId']}'")
        return registered[0]

    service.handlers["IVirtualBox_registerMachine"] = lambda arguments: registered.append(arguments["machine"])
    service.handlers["IVirtualBox_findMachine"] = find
