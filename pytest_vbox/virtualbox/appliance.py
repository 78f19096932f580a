"""IAppliance: machines in the Open Virtualization Format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_vbox.virtualbox.enums import ImportOptions
from pytest_vbox.virtualbox.interface import Interface, text, texts
from pytest_vbox.virtualbox.progress import Progress


@dataclass
class Description:
    """One entry of what an appliance says of a machine.

    Attributes:
        type: What it is about, such as ``Name``, ``HardDiskImage`` or ``Memory``; versions have ever more of them.
        ovf_value: What the appliance says.
        vbox_value: What VirtualBox makes of it; may be changed.
        extra_config_value: More of that.
        enabled: Whether it is imported.
    """

    type: str
    ovf_value: str
    vbox_value: str
    extra_config_value: str
    enabled: bool = True


class VirtualSystemDescription(Interface):
    """IVirtualSystemDescription: one machine of an appliance."""

    interface = "IVirtualSystemDescription"

    def get_description(self) -> list[Description]:
        found = self._call("getDescription")
        columns = zip(found.types, found.OVFValues, found.VBoxValues, found.extraConfigValues, strict=True)
        return [Description(str(kind), text(ovf), text(vbox), text(extra)) for kind, ovf, vbox, extra in columns]

    def set_final_values(self, descriptions: Sequence[Description]) -> None:
        """Say what is imported; all entries, in the order in which they were given."""
        self._call(
            "setFinalValues",
            enabled=[entry.enabled for entry in descriptions],
            VBoxValues=[entry.vbox_value for entry in descriptions],
            extraConfigValues=[entry.extra_config_value for entry in descriptions],
        )


class Appliance(Interface):
    """IAppliance."""

    interface = "IAppliance"

    def read(self, file: str) -> Progress:
        """Read an OVF or OVA file."""
        return Progress(self.api, str(self._call("read", file=file)))

    def interpret(self) -> None:
        """Make descriptions of what was read."""
        self._call("interpret")

    @property
    def virtual_system_descriptions(self) -> list[VirtualSystemDescription]:
        references = texts(self._call("getVirtualSystemDescriptions"))
        return [VirtualSystemDescription(self.api, reference) for reference in references]

    @property
    def warnings(self) -> list[str]:
        return texts(self._call("getWarnings"))

    @property
    def machines(self) -> list[str]:
        """The ids of the machines that were imported."""
        return texts(self._call("getMachines"))

    def import_machines(self, options: Sequence[ImportOptions]) -> Progress:
        return Progress(self.api, str(self._call("importMachines", options=list(options))))
