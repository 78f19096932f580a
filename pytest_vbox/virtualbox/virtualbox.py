"""IVirtualBox, IHost and ISystemProperties: the VirtualBox installation itself."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_vbox.virtualbox.appliance import Appliance
from pytest_vbox.virtualbox.enums import AccessMode, DeviceType, HostNetworkInterfaceType, PlatformArchitecture
from pytest_vbox.virtualbox.events import EventSource
from pytest_vbox.virtualbox.interface import Interface, ReadOnly, text, texts
from pytest_vbox.virtualbox.machine import Machine
from pytest_vbox.virtualbox.media import Medium
from pytest_vbox.virtualbox.network import DHCPServer, HostNetworkInterface, HostOnlyNetwork, NATNetwork
from pytest_vbox.virtualbox.progress import Progress


class HostX86(Interface):
    """IHostX86; until 7.0 it was part of IHost."""

    interface = "IHostX86"

    def get_processor_cpuid_leaf(self, cpu_id: int, leaf: int, sub_leaf: int = 0) -> tuple[int, int, int, int]:
        """The registers EAX, EBX, ECX and EDX that the instruction CPUID gives for a leaf."""
        result = self._call("getProcessorCPUIDLeaf", cpuId=cpu_id, leaf=leaf, subLeaf=sub_leaf)
        return int(result.valEax), int(result.valEbx), int(result.valEcx), int(result.valEdx)


class Host(Interface):
    """IHost: the computer VirtualBox runs on."""

    interface = "IHost"
    processor_online_count = ReadOnly("processorOnlineCount", int)
    memory_size = ReadOnly("memorySize", int)
    memory_available = ReadOnly("memoryAvailable", int)
    operating_system = ReadOnly("operatingSystem", text)

    def get_processor_description(self, cpu_id: int = 0) -> str:
        """What a processor calls itself."""
        return text(self._call("getProcessorDescription", cpuId=cpu_id))

    @property
    def x86(self) -> HostX86:
        """What only x86 hosts have."""
        return HostX86(self.api, str(self._call("getX86")))

    def find_host_network_interfaces_of_type(self, type_: HostNetworkInterfaceType) -> list[HostNetworkInterface]:
        references = texts(self._call("findHostNetworkInterfacesOfType", type=type_))
        return [HostNetworkInterface(self.api, reference) for reference in references]

    def create_host_only_network_interface(self) -> tuple[Progress, HostNetworkInterface]:
        """Make a host-only interface. VirtualBox chooses its name: the lowest number that is free."""
        result = self._call("createHostOnlyNetworkInterface")
        return (
            Progress(self.api, str(result.returnval)),
            HostNetworkInterface(self.api, str(result.hostInterface)),
        )

    def remove_host_only_network_interface(self, id_: str) -> Progress:
        return Progress(self.api, str(self._call("removeHostOnlyNetworkInterface", id=id_)))


class SystemProperties(Interface):
    """ISystemProperties."""

    interface = "ISystemProperties"
    default_machine_folder = ReadOnly("defaultMachineFolder", text)


class VirtualBox(Interface):
    """IVirtualBox: the way to everything else."""

    interface = "IVirtualBox"
    version = ReadOnly("version", text)
    api_version = ReadOnly("APIVersion", text)
    revision = ReadOnly("revision", int)
    home_folder = ReadOnly("homeFolder", text)

    @property
    def host(self) -> Host:
        return Host(self.api, str(self._call("getHost")))

    @property
    def system_properties(self) -> SystemProperties:
        return SystemProperties(self.api, str(self._call("getSystemProperties")))

    @property
    def event_source(self) -> EventSource:
        return EventSource(self.api, str(self._call("getEventSource")))

    @property
    def machines(self) -> list[Machine]:
        """Every registered machine, the user's own too."""
        return [self._machine(reference) for reference in texts(self._call("getMachines"))]

    @property
    def hard_disks(self) -> list[Medium]:
        """The base media of the **global** registry (those in a machine's registry are not in it)."""
        return [Medium(self.api, reference) for reference in texts(self._call("getHardDisks"))]

    @property
    def dvd_images(self) -> list[Medium]:
        """The discs that VirtualBox knows, those of machines too."""
        return [Medium(self.api, reference) for reference in texts(self._call("getDVDImages"))]

    @property
    def floppy_images(self) -> list[Medium]:
        """The floppies that VirtualBox knows, those of machines too."""
        return [Medium(self.api, reference) for reference in texts(self._call("getFloppyImages"))]

    @property
    def guest_os_type_ids(self) -> list[str]:
        """The ids of the guest operating system types this VirtualBox knows."""
        return [str(entry.id) for entry in self._call("getGuestOSTypes")]

    @property
    def nat_networks(self) -> list[NATNetwork]:
        return [NATNetwork(self.api, reference) for reference in texts(self._call("getNATNetworks"))]

    @property
    def host_only_networks(self) -> list[HostOnlyNetwork]:
        return [HostOnlyNetwork(self.api, reference) for reference in texts(self._call("getHostOnlyNetworks"))]

    @property
    def dhcp_servers(self) -> list[DHCPServer]:
        return [DHCPServer(self.api, reference) for reference in texts(self._call("getDHCPServers"))]

    def create_host_only_network(self, network_name: str) -> HostOnlyNetwork:
        return HostOnlyNetwork(self.api, str(self._call("createHostOnlyNetwork", networkName=network_name)))

    def create_dhcp_server(self, name: str) -> DHCPServer:
        return DHCPServer(self.api, str(self._call("createDHCPServer", name=name)))

    def machines_by_groups(self, groups: Sequence[str]) -> list[Machine]:
        references = texts(self._call("getMachinesByGroups", groups=list(groups)))
        return [self._machine(reference) for reference in references]

    def find_machine(self, name_or_id: str) -> Machine:
        """A registered machine.

        Raises:
            ObjectNotFound: There is none of that name or id.
        """
        return self._machine(str(self._call("findMachine", nameOrId=name_or_id)), name_or_id)

    def compose_machine_filename(
        self, name: str, group: str, create_flags: str = "", base_folder: str = ""
    ) -> str:
        """Where the settings file of a machine goes."""
        return text(
            self._call(
                "composeMachineFilename",
                name=name,
                group=group,
                createFlags=create_flags,
                baseFolder=base_folder,
            )
        )

    def create_machine(
        self, settings_file: str, name: str, groups: Sequence[str], os_type_id: str, flags: str = ""
    ) -> Machine:
        """A new machine in memory; it exists for others once it is saved and registered.

        Args:
            settings_file: Where its settings go, or an empty string for the usual place.
            groups: Such as ``["/pytest-vbox"]``.
            os_type_id: Such as ``Linux26_64``.
            flags: Such as ``forceOverwrite=1`` or ``UUID=…``.
        """
        reference = self._call(
            "createMachine",
            settingsFile=settings_file,
            name=name,
            platform=PlatformArchitecture.X86,
            groups=list(groups),
            osTypeId=os_type_id,
            flags=flags,
            cipher="",
            passwordId="",
            password="",
        )
        return Machine(self.api, str(reference))

    def register_machine(self, machine: Machine) -> None:
        self._call("registerMachine", machine=machine.reference)

    def create_appliance(self) -> Appliance:
        return Appliance(self.api, str(self._call("createAppliance")))

    def create_medium(
        self,
        format_: str,
        location: str,
        access_mode: AccessMode = AccessMode.READ_WRITE,
        device_type: DeviceType = DeviceType.HARD_DISK,
    ) -> Medium:
        """A new medium in memory; it has no file until its storage is created.

        Args:
            format_: Such as ``VDI``.
            location: The path of the file.
            access_mode: How it will be opened.
            device_type: What it is.
        """
        reference = self._call(
            "createMedium",
            format=format_,
            location=location,
            accessMode=access_mode,
            aDeviceTypeType=device_type,
        )
        return Medium(self.api, str(reference))

    def open_medium(
        self,
        location: str,
        device_type: DeviceType = DeviceType.HARD_DISK,
        access_mode: AccessMode = AccessMode.READ_WRITE,
        force_new_uuid: bool = False,
    ) -> Medium:
        """The medium of a file; the same object for the same file.

        ``force_new_uuid`` writes into the user's file.
        """
        return Medium(
            self.api,
            str(
                self._call(
                    "openMedium",
                    location=location,
                    deviceType=device_type,
                    accessMode=access_mode,
                    forceNewUuid=force_new_uuid,
                )
            ),
        )

    def get_extra_data(self, key: str) -> str:
        return text(self._call("getExtraData", key=key))

    def set_extra_data(self, key: str, value: str) -> None:
        self._call("setExtraData", key=key, value=value)

    def _machine(self, reference: str, name_or_id: str | None = None) -> Machine:
        """A machine that is found again by its name or id, should the web session be lost."""
        known = name_or_id or Machine(self.api, reference).id
        return Machine(self.api, reference, lambda: str(self._call("findMachine", nameOrId=known)))
