"""The drive with a seed: where it goes, and that VirtualBox forgets its disc."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Seed
from pytest_vbox.machines import MachineError, seed_drive
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.removal import remove
from pytest_vbox.machines.run_key import RunKey, remove_abandoned_keys
from pytest_vbox.models import Catalogue
from pytest_vbox.virtualbox import Machine
from unit.kit.service import FakeService

from .workshop import NAME, workshop

SEED = Seed("m: 1\n", "#cloud-config\n{}\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The machine's folder."""
    folder = tmp_path / "pytest-vbox" / NAME
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def service(service: FakeService, folder: Path) -> FakeService:
    """A VirtualBox with the machine ``m`` and no controllers."""
    workshop(service, str(folder))
    service.answer("IVirtualBox_findMachine", "m")
    service.answer("IVirtualBox_openMedium", service.add("disc"))
    service.answer("IMedium_close", None)
    service.objects["mutable"].update(Name=NAME, StorageControllers=[], MediumAttachments=[])
    return service


def give(service: FakeService, name: str, bus: str, ports: int, *taken: tuple[int, int]) -> None:
    """Add a controller, some places of which are taken."""
    service.objects["mutable"]["StorageControllers"].append(service.add(name, Name=name, Bus=bus, PortCount=ports))
    service.objects["mutable"]["MediumAttachments"] += [
        {"machine": "m", "medium": "", "controller": name, "port": port, "device": device, "type": "HardDisk"}
        for port, device in taken
    ]


def place(service: FakeService) -> tuple[str, int, int]:
    """Attach a seed; where it went."""
    seed_drive.attach(service.session, Machine(service.api, "m"), SEED, Deadline(10))
    (attached,) = service.called("IMachine_attachDevice")
    assert (attached["type"], attached["medium"], attached["_this"]) == ("DVD", "disc", "mutable")
    assert service.names.index("IMachine_saveSettings") > service.names.index("IMachine_attachDevice")
    return attached["name"], int(attached["controllerPort"]), int(attached["device"])


def test_a_free_port_of_a_sata_controller_is_taken_first(service: FakeService, folder: Path) -> None:
    give(service, "IDE", "IDE", 2)
    give(service, "SATA", "SATA", 2, (0, 0))
    assert place(service) == ("SATA", 1, 0)
    (opened,) = service.called("IVirtualBox_openMedium")
    assert (opened["location"], opened["deviceType"], opened["accessMode"]) == (
        str(folder / "cloud-init.iso"),
        "DVD",
        "ReadOnly",
    )
    assert (folder / "cloud-init.iso").stat().st_size > 0


def test_then_a_free_position_of_an_ide_controller(service: FakeService) -> None:
    give(service, "SATA", "SATA", 1, (0, 0))
    give(service, "IDE", "IDE", 2, (0, 0), (1, 0))
    assert place(service) == ("IDE", 1, 1)


@pytest.mark.parametrize(("bus", "name"), [("VirtioSCSI", "cloud-init seed"), ("SATA", "cloud-init")])
def test_then_an_ide_controller_is_added(service: FakeService, bus: str, name: str) -> None:
    give(service, "SATA" if bus == "SATA" else "cloud-init", bus, 1, (0, 0))
    assert place(service) == (name, 1, 0)
    (added,) = service.called("IMachine_addStorageController")
    assert (added["name"], added["connectionType"]) == (name, "IDE")


FULL_IDE = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_then_a_sata_controller_gets_one_more_port(service: FakeService) -> None:
    give(service, "IDE", "IDE", 2, *FULL_IDE)
    give(service, "SATA", "SATA", 1, (0, 0))
    assert place(service) == ("SATA", 1, 0)
    assert service.objects["SATA"]["PortCount"] == 2


def test_a_machine_without_any_place_is_told_of(service: FakeService) -> None:
    give(service, "IDE", "IDE", 2, *FULL_IDE)
    give(service, "SATA", "SATA", 30, *[(port, 0) for port in range(30)])
    with pytest.raises(MachineError, match=rf"{NAME}: every place .* is taken.*Leave a port"):
        place(service)


def test_a_folder_that_cannot_be_written_is_told_of(service: FakeService, folder: Path) -> None:
    service.objects["m"]["SettingsFilePath"] = f"{folder}/nowhere/one.vbox"
    with pytest.raises(MachineError, match=r"nowhere/cloud-init\.iso: No such file .*same user as the tests"):
        place(service)


def test_removing_the_machine_makes_virtualbox_forget_the_disc(service: FakeService, folder: Path) -> None:
    (folder / "cloud-init.iso").touch()
    remove(service.session, "id-1", NAME, local=True)
    assert service.called("IMedium_close") == [{"_this": "disc"}]
    assert service.names.index("IMachine_unregister") < service.names.index("IMedium_close")
    assert not folder.exists()


def test_a_machine_without_a_seed_has_none_to_forget(service: FakeService) -> None:
    remove(service.session, "id-1", NAME, local=True)
    assert not service.called("IVirtualBox_openMedium")


# Keys, and what is asked before anything is made


def context_of(service: FakeService, state: Path, *, local: bool = True, ssh_key: Path | None = None) -> Context:
    return Context(service.session, state, local, "far.example", state, ssh_key, RunKey(state, "run-1"))


def catalogue(folder: Path) -> Catalogue:
    text = "images:\n  a: {disk: a.vdi, cloud_init: {user_data_file: none}}\n  b: {disk: b.vdi}\n"
    (folder / "models.yaml").write_text(text + "  c: {disk: c.vdi, private_key: mine, cloud_init: {}}\n")
    return Catalogue.load([folder])


def test_another_computers_virtualbox_and_wrong_user_data_are_told_of_early(
    service: FakeService, tmp_path: Path
) -> None:
    models = catalogue(tmp_path)
    far = context_of(service, tmp_path / "state", local=False)
    with pytest.raises(MachineError, match=r"image a has cloud_init.*not at far\.example"):
        seed_drive.check(far, models.machine("a"))
    seed_drive.check(far, models.machine("b"))
    near = context_of(service, tmp_path / "state")
    with pytest.raises(Exception, match=r"none: images\.a\.cloud_init\.user_data_file: can't be read"):
        seed_drive.check(near, models.machine("a"))
    assert service.names == []


def test_whose_key_logs_in(service: FakeService, tmp_path: Path) -> None:
    images, state = catalogue(tmp_path).images, tmp_path / "state"
    context = context_of(service, state)
    assert context.private_key(images["b"]) is None
    assert context.private_key(images["c"]) == tmp_path / "mine"
    assert not state.exists(), "a key is made only when it is needed"
    key = context.private_key(images["a"])
    assert key is not None
    assert key.is_relative_to(state / "keys")
    assert context.private_key(images["a"]) == key
    remove_abandoned_keys(state)
    assert key.exists()
    assert context.run_key is not None
    context.run_key.close()
    assert list((state / "keys").iterdir()) == []
    given = context_of(service, state, ssh_key=tmp_path / "given")
    assert given.private_key(images["a"]) == given.private_key(images["c"]) == tmp_path / "given"


def test_a_kept_machine_keeps_the_key(service: FakeService, tmp_path: Path, folder: Path) -> None:
    images, machine = catalogue(tmp_path).images, Machine(service.api, "m")
    context = context_of(service, tmp_path / "state")
    key = context.private_key(images["a"])
    assert key is not None
    text = key.read_text()
    lasting = context.lasting_key(key, machine)
    assert context.run_key is not None
    context.run_key.close()
    assert lasting == folder / "id_ed25519"
    assert (lasting.read_text(), lasting.stat().st_mode & 0o777) == (text, 0o600)
    assert context.lasting_key(images["c"].private_key, machine) == tmp_path / "mine"


def test_the_host_of_another_computers_virtualbox_names_no_folder_that_a_key_is_copied_to(
    service: FakeService, tmp_path: Path
) -> None:
    ssh = tmp_path / ".ssh"
    ssh.mkdir()
    (ssh / "id_ed25519").write_text("precious")
    service.objects["m"]["SettingsFilePath"] = f"{ssh}/x.vbox"
    context = context_of(service, tmp_path / "state", local=False)
    key = tmp_path / "state" / "keys" / "mine"
    assert context.lasting_key(key, Machine(service.api, "m")) == key
    assert (ssh / "id_ed25519").read_text() == "precious"
