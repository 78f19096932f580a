"""Bases: checked each time, anchored once, and every refusal with the file and the way out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.images import Bases, ImageError
from pytest_vbox.images.bases import anchor_id
from pytest_vbox.ownership import Busy
from pytest_vbox.virtualbox import Medium
from pytest_vbox.virtualbox.enums import MediumType
from pytest_vbox.virtualbox.errors import ServiceUnavailable
from unit.kit.service import Arguments, FakeService, HangUp, Refusal


class Media:
    """A VirtualBox that knows one disk, and lets it be multi-attach only as the real one does."""

    def __init__(self, service: FakeService, disk: Path) -> None:
        self.service = service
        self.disk = disk
        self.machines: dict[str, str] = {}
        self.base = service.objects.setdefault("base", {})
        self.base |= {"State": "Created", "Type": "Normal", "Parent": "", "MachineIds": [], "Location": str(disk)}
        self.base["Children"] = []
        self.attached: set[str] = set()
        service.add("s", State="Locked", Machine="mutable")
        service.add("mutable")
        service.answer("IWebsessionManager_getSessionObject", "s")
        service.answer("IVirtualBox_openMedium", "base")
        service.handlers |= {
            "IVirtualBox_createMachine": self._create,
            "IVirtualBox_registerMachine": self._register,
            "IVirtualBox_findMachine": self._find,
            "IMedium_refreshState": lambda _: self.base["State"],
            "IMedium_close": self._close,
            "IMedium_setType": self._set_type,
            "IMachine_attachDevice": lambda arguments: self.attached.add(arguments["medium"]),
            "IMachine_detachDevice": lambda _: self.attached.clear(),
        }
        for name in ("IMachine_setExtraData", "IMachine_saveSettings", "IMachine_lockMachine"):
            service.answer(name, None)
        service.answer("ISession_unlockMachine", None)
        service.answer("IMachine_addStorageController", "controller")
        self.in_machines_registry = False

    def add_machine(self, identity: str, name: str) -> None:
        """A machine that VirtualBox knows."""
        self.machines[identity] = self.service.add(f"machine-{identity}", Id=identity, Name=name)
        self.service.objects[self.machines[identity]] |= {
            "SessionState": "Unlocked",
            "MediumAttachments": [],
        }

    def _create(self, arguments: Arguments) -> str:
        identity = arguments["flags"].partition(",")[0].removeprefix("UUID=")
        self.service.add("new", Id=identity, Name=arguments["name"], SessionState="Unlocked")
        return "new"

    def _register(self, arguments: Arguments) -> None:
        attributes = self.service.objects[arguments["machine"]]
        self.machines[attributes["Id"]] = arguments["machine"]

    def _find(self, arguments: Arguments) -> str:
        try:
            return self.machines[arguments["nameOrId"]]
        except KeyError:
            raise Refusal(0x80BB0001, "Could not find a registered machine") from None

    def _close(self, _: Arguments) -> None:
        self.base["Type"] = "Normal"
        self.in_machines_registry = False

    def _set_type(self, arguments: Arguments) -> None:
        if self.attached or self.service.names.count("IMachine_detachDevice") == 0:
            raise Refusal(0x80BB0007, "can only be used on media registered with a machine")
        self.base["Type"] = arguments["type"]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The user's file."""
    path = tmp_path / "images" / "tiny.vdi"
    path.parent.mkdir()
    path.write_bytes(b"the user's")
    return path


@pytest.fixture
def media(service: FakeService, disk: Path) -> Media:
    return Media(service, disk)


@pytest.fixture
def ready(service: FakeService, media: Media, disk: Path, tmp_path: Path) -> Callable[..., Medium]:
    """Makes the disk ready, once."""

    def ready(kind: MediumType = MediumType.MULTI_ATTACH, path: Path = disk, *, local: bool = True) -> Medium:
        with Bases(service.session, tmp_path, local=local).ready(path, kind, Deadline(10)) as medium:
            assert media.attached == set()
            return medium

    return ready


@pytest.mark.parametrize("kind", [MediumType.MULTI_ATTACH, MediumType.IMMUTABLE])
def test_a_new_base_gets_an_anchor_and_its_type(
    service: FakeService, media: Media, disk: Path, ready: Callable[..., Medium], kind: MediumType
) -> None:
    medium = ready(kind)
    assert (medium.reference, medium.type) == ("base", kind)
    (created,) = service.called("IVirtualBox_createMachine")
    assert created["flags"] == f"UUID={anchor_id(str(disk))},forceOverwrite=1"
    assert created["groups"] == ["/pytest-vbox/bases"]
    (extra,) = service.called("IMachine_setExtraData")
    assert (extra["key"], extra["value"]) == ("pytest-vbox/base", str(disk))
    assert str(anchor_id(str(disk))) in media.machines


def test_a_base_that_is_ready_is_left_as_it_is(
    service: FakeService, media: Media, disk: Path, ready: Callable[..., Medium]
) -> None:
    media.add_machine(str(anchor_id(str(disk))), "anchor")
    media.base["Type"] = "MultiAttach"
    ready()
    changes = [name for name in service.names if "_get" not in name]
    assert changes == ["IVirtualBox_openMedium", "IMedium_refreshState", "IVirtualBox_findMachine"]


def test_a_base_in_the_global_registry_is_moved_to_its_anchors(
    service: FakeService, media: Media, ready: Callable[..., Medium]
) -> None:
    # What is left when an anchor was removed by hand.
    media.base["Type"] = "MultiAttach"
    ready()
    assert service.names.index("IMedium_close") < service.names.index("IMachine_attachDevice")
    assert service.names.count("IVirtualBox_openMedium") == 2


def test_what_a_process_that_died_half_way_left_attached_is_detached(
    service: FakeService, media: Media, disk: Path, ready: Callable[..., Medium]
) -> None:
    anchor = str(anchor_id(str(disk)))
    media.add_machine(anchor, "anchor")
    attachment = {
        "machine": "x",
        "medium": "base",
        "controller": "SATA",
        "port": 0,
        "device": 0,
        "type": "HardDisk",
    }
    service.add("mutable", MediumAttachments=[attachment])
    media.base["MachineIds"] = [anchor]
    media.attached.add("base")
    ready()
    assert service.names.index("IMachine_detachDevice") < service.names.index("IMachine_attachDevice")
    assert "IVirtualBox_createMachine" not in service.names


def test_several_names_of_one_file_are_one_base(
    disk: Path, ready: Callable[..., Medium], service: FakeService
) -> None:
    link = disk.with_name("link.vdi")
    link.symlink_to(disk)
    ready(path=link)
    ready(path=disk.parent / ".." / "images" / "tiny.vdi")
    assert {call["location"] for call in service.called("IVirtualBox_openMedium")} == {str(disk)}
    assert service.names.count("IVirtualBox_createMachine") == 1


def test_files_of_another_computer_are_not_looked_at(service: FakeService, ready: Callable[..., Medium]) -> None:
    ready(path=Path("/there/only.vdi"), local=False)
    assert service.called("IVirtualBox_openMedium")[0]["location"] == "/there/only.vdi"


def test_the_user_file_is_opened_without_a_new_uuid(service: FakeService, ready: Callable[..., Medium]) -> None:
    ready()
    assert all(call["forceNewUuid"] is False for call in service.called("IVirtualBox_openMedium"))


@pytest.mark.usefixtures("media")
def test_workers_make_a_base_ready_one_after_another(service: FakeService, disk: Path, tmp_path: Path) -> None:
    inside = threading.Lock()

    def work(_: int) -> MediumType:
        with Bases(service.session, tmp_path).ready(disk, MediumType.MULTI_ATTACH, Deadline(10)) as medium:
            assert inside.acquire(blocking=False)
            kind = medium.type
            inside.release()
            return kind

    with ThreadPoolExecutor(3) as threads:
        assert set(threads.map(work, range(3))) == {MediumType.MULTI_ATTACH}
    assert service.names.count("IVirtualBox_createMachine") == 1


@pytest.mark.usefixtures("media")
def test_a_worker_that_waits_in_vain_says_for_which_base(service: FakeService, disk: Path, tmp_path: Path) -> None:
    bases = Bases(service.session, tmp_path)
    with (
        bases.ready(disk, MediumType.MULTI_ATTACH, Deadline(10)),
        pytest.raises(Busy, match=str(disk)),
        bases.ready(disk, MediumType.MULTI_ATTACH, Deadline(0)),
    ):
        raise AssertionError("two at once")


# Let go


def test_a_base_without_its_anchor_is_in_use_as_long_as_machines_stand_on_it(
    service: FakeService, media: Media, disk: Path, tmp_path: Path
) -> None:
    bases = Bases(service.session, tmp_path)
    media.base["Children"] = ["difference"]
    assert bases.in_use(disk)
    assert not bases.forget(disk, Deadline(10))
    media.base["Children"] = []
    media.add_machine("id-5", "one")
    media.base["MachineIds"] = ["id-5"]
    assert bases.in_use(disk)
    assert not bases.forget(disk, Deadline(10))
    assert "IMedium_close" not in service.names


def test_a_base_without_its_anchor_that_nothing_stands_on_is_forgotten(
    service: FakeService, media: Media, disk: Path, tmp_path: Path
) -> None:
    bases = Bases(service.session, tmp_path)
    media.base["Type"] = "MultiAttach"
    assert bases.forget(disk, Deadline(10))
    assert service.names.count("IMedium_close") == 1
    # To look at a file leaves nothing of it in VirtualBox.
    assert not bases.in_use(disk)
    assert service.names.count("IMedium_close") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("media")
def test_a_base_that_another_worker_has_is_in_use(service: FakeService, disk: Path, tmp_path: Path) -> None:
    bases = Bases(service.session, tmp_path)
    with bases.ready(disk, MediumType.MULTI_ATTACH, Deadline(10)):
        assert bases.in_use(disk)


def test_a_file_that_virtualbox_does_not_take_for_a_disk_is_none_of_its(
    service: FakeService, media: Media, disk: Path, tmp_path: Path
) -> None:
    bases = Bases(service.session, tmp_path)
    service.answer("IVirtualBox_openMedium", Refusal(0x80004005, "no known format"))
    service.answer("IVirtualBox_getHardDisks", [])
    assert media.machines == {}
    assert not bases.in_use(disk)
    assert bases.forget(disk, Deadline(10))
    service.answer("IVirtualBox_openMedium", HangUp())
    with pytest.raises(ServiceUnavailable):
        bases.forget(disk, Deadline(10))


@pytest.fixture
def anchored(service: FakeService, media: Media, disk: Path) -> str:
    """The reference of the anchor of the disk, and beside it a clone that a user made of it."""
    identity = str(anchor_id(str(disk)))
    media.add_machine(identity, "pytest-vbox base tiny")
    anchor = media.machines[identity]
    service.objects[anchor]["SettingsFilePath"] = str(disk.parent / "anchor.vbox")
    media.add_machine("id-7", "pytest-vbox base tiny clone")
    service.answer("IVirtualBox_getMachinesByGroups", [anchor, "machine-id-7"])
    service.answer("IMachine_getExtraData", str(disk))
    service.add("p", Completed=True, ResultCode=0)
    service.answer("IProgress_waitForCompletion", None)
    service.answer("IMachine_unregister", [])
    service.answer("IMachine_deleteConfig", "p")
    return anchor


def test_an_anchor_is_removed_when_its_file_was_deleted_and_nothing_stands_on_it(
    service: FakeService, media: Media, disk: Path, tmp_path: Path, anchored: str
) -> None:
    bases = Bases(service.session, tmp_path)
    assert bases.baseless() == []
    disk.unlink()
    (left,) = bases.baseless()
    assert (left.name, left.location) == ("pytest-vbox base tiny", str(disk))
    assert Bases(service.session, tmp_path, local=False).baseless() == []
    media.base["Children"] = ["difference"]
    assert bases.is_stood_on(left)
    assert not bases.remove_baseless(left, Deadline(10))
    assert "IMachine_unregister" not in service.names
    media.base["Children"] = []
    assert bases.remove_baseless(left, Deadline(10))
    (unregistered,) = service.called("IMachine_unregister")
    assert unregistered == {"_this": anchored, "cleanupMode": "DetachAllReturnNone"}
    assert service.called("IMachine_deleteConfig") == [{"_this": anchored, "media": []}]
    assert service.called("IMedium_close") == [{"_this": "base"}]


@pytest.mark.usefixtures("anchored")
def test_a_deleted_disk_that_virtualbox_does_not_open_is_closed_where_it_is_listed(
    service: FakeService, disk: Path, tmp_path: Path
) -> None:
    bases = Bases(service.session, tmp_path)
    disk.unlink()
    (left,) = bases.baseless()
    service.answer("IVirtualBox_openMedium", Refusal(0x80BB0004, "VERR_FILE_NOT_FOUND"))
    service.answer("IVirtualBox_getHardDisks", ["base", service.add("other", Location="/other.vdi")])
    assert bases.remove_baseless(left, Deadline(10))
    assert service.called("IMedium_close") == [{"_this": "base"}]


@pytest.mark.usefixtures("anchored")
def test_an_anchor_whose_file_came_back_stays(service: FakeService, disk: Path, tmp_path: Path) -> None:
    bases = Bases(service.session, tmp_path)
    disk.unlink()
    (left,) = bases.baseless()
    disk.touch()
    assert not bases.remove_baseless(left, Deadline(10))
    assert "IMachine_unregister" not in service.names


# Refused


def _refusal(ready: Callable[..., Medium], **arguments: Any) -> str:
    with pytest.raises(ImageError) as caught:
        ready(**arguments)
    return str(caught.value)


def test_a_missing_file(ready: Callable[..., Medium], service: FakeService, tmp_path: Path) -> None:
    words = _refusal(ready, path=tmp_path / "none.vdi")
    assert f"image {tmp_path}/none.vdi: there is no such file. Correct `disk:`" in words
    assert service.calls == []


def test_a_folder(ready: Callable[..., Medium], tmp_path: Path) -> None:
    assert f"image {tmp_path} is not a file" in _refusal(ready, path=tmp_path)


def test_a_file_that_may_not_be_read(
    ready: Callable[..., Medium], disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Modes do not keep root from reading.
    monkeypatch.setattr("os.access", lambda *_: False)
    assert f"image {disk}: no permission to read it. Try: chmod u+r {disk}" in _refusal(ready)


def test_links_in_a_circle(ready: Callable[..., Medium], tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert f"image {tmp_path}/a" in _refusal(ready, path=tmp_path / "a")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "Cannot register the hard disk '{disk}' {{1}} since '/b.vdi' with UUID {{1}} already exists",
            "VBoxManage internalcommands sethduuid {disk}",
        ),
        ("Could not get the storage format of the medium '{disk}' (VERR_NOT_SUPPORTED)", "qemu-img convert"),
        ("Parent medium with UUID {{2}} of the medium '{disk}' is not found", "VBoxManage clonemedium"),
        ("Something else entirely", "VirtualBox cannot open it: Something else entirely"),
    ],
)
def test_what_virtualbox_cannot_open_is_explained(
    service: FakeService, ready: Callable[..., Medium], disk: Path, said: str, advice: str
) -> None:
    service.answer("IVirtualBox_openMedium", Refusal(0x80BB0001, said.format(disk=disk)))
    words = _refusal(ready)
    assert words.startswith(f"image {disk}")
    assert said.format(disk=disk) in words
    assert advice.format(disk=disk) in words


def test_the_name_of_a_folder_explains_nothing(
    service: FakeService, ready: Callable[..., Medium], tmp_path: Path
) -> None:
    folder = tmp_path / "parent UUID already exists"
    folder.mkdir()
    disk = folder / "x.vdi"
    disk.touch()
    service.answer("IVirtualBox_openMedium", Refusal(0x80004005, f"Could not lock '{disk}'"))
    assert _refusal(ready, path=disk).startswith(f"image {disk}: VirtualBox cannot open it: Could not lock")


def test_a_disk_that_virtualbox_cannot_use(media: Media, ready: Callable[..., Medium]) -> None:
    media.base |= {"State": "Inaccessible", "LastAccessError": "VERR_FILE_NOT_FOUND"}
    assert "VirtualBox cannot use it: VERR_FILE_NOT_FOUND" in _refusal(ready)


def test_a_differencing_disk(service: FakeService, media: Media, ready: Callable[..., Medium]) -> None:
    media.base["Parent"] = service.add("parent", Location="/images/whole.vdi")
    words = _refusal(ready)
    assert "is a differencing disk (its parent is /images/whole.vdi)" in words
    assert "VBoxManage clonemedium" in words


@pytest.mark.parametrize("kind", ["Writethrough", "Shareable", "Readonly"])
def test_a_type_that_cannot_be_shared(media: Media, ready: Callable[..., Medium], kind: str) -> None:
    media.base["Type"] = kind
    words = _refusal(ready)
    assert f"has the type {kind} in VirtualBox" in words
    assert "--type normal" in words


def test_a_disk_that_a_machine_writes_to(media: Media, ready: Callable[..., Medium]) -> None:
    media.add_machine("id-5", "my desktop")
    media.base["MachineIds"] = ["gone", "id-5"]
    words = _refusal(ready)
    assert "is attached, writable, to machine 'my desktop'" in words
    assert "Detach it there" in words


def test_a_disk_that_is_shared_in_another_way(media: Media, ready: Callable[..., Medium]) -> None:
    media.base |= {"Type": "Immutable", "Children": ["difference"]}
    words = _refusal(ready)
    assert "is in use as Immutable, and cannot be MultiAttach at the same time" in words


def test_a_disk_that_the_user_shares_in_the_same_way_is_used(
    service: FakeService, media: Media, ready: Callable[..., Medium]
) -> None:
    media.base |= {"Type": "MultiAttach", "Children": ["difference"]}
    assert ready().reference == "base"
    assert "IMedium_close" not in service.names


@pytest.mark.parametrize("code", [0x80BB0007, 0x80BB000C])
def test_a_type_that_cannot_be_set(
    service: FakeService, ready: Callable[..., Medium], disk: Path, code: int
) -> None:
    service.answer("IMedium_setType", Refusal(code, "it is locked"))
    words = _refusal(ready)
    assert f"image {disk}: VirtualBox does not let it become MultiAttach: it is locked" in words
    assert "media manager" in words


@pytest.mark.usefixtures("media")
def test_the_anchor_of_a_path_is_always_the_same() -> None:
    assert anchor_id("/a/b.vdi") == anchor_id("/a/b.vdi") != anchor_id("/a/c.vdi")
