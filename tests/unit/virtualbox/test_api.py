"""One call over the wire: what arrives, and what becomes of everything that can come back."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from pathlib import Path

import pytest

from pytest_vbox.secret import Secret
from pytest_vbox.virtualbox import Machine, NATEngine, Redirect, Session, connect
from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.enums import DeviceType, LockType, MachineState, NATProtocol
from pytest_vbox.virtualbox.errors import (
    Failed,
    InvalidObjectReference,
    LogonRefused,
    NotSupported,
    ObjectInUse,
    ObjectNotFound,
    ServiceUnavailable,
    VirtualBoxError,
)
from pytest_vbox.virtualbox.websession import Credentials
from pytest_vbox.virtualbox.wire import Wire
from unit.kit.descriptions import description
from unit.kit.service import FakeService, Garbage, HangUp, Refusal, Silence, UnknownObject
from unit.kit.tracebacks import shown

WHO = Credentials("me", "hush")


@pytest.fixture
def machine(service: FakeService) -> Machine:
    service.add("m", Name="one", Id="id-1", State="Running", MemorySize=512, Groups=["/a", "/b"], Description="")
    return Machine(service.api, "m")


# What goes there and back


def test_neither_an_error_nor_what_caused_it_has_what_a_terminal_obeys(
    service: FakeService, machine: Machine
) -> None:
    # XML has no other control characters, but these do.
    service.answer("IMachine_getName", Refusal(0x80004005, "no \x9b31m\u202e", "no"))
    with pytest.raises(Failed) as caught:
        _ = machine.name
    assert caught.value.text.startswith(r"no \x9b31m\u202e")
    told = "".join(traceback.format_exception(caught.value))
    assert "Fault: " in told
    assert not {"\x9b", "\u202e"} & set(told)


def test_attributes_are_read_from_the_server_each_time(service: FakeService, machine: Machine) -> None:
    assert (machine.name, machine.memory_size, machine.state) == ("one", 512, MachineState.RUNNING)
    service.objects["m"]["State"] = "Paused"
    assert machine.state is MachineState.PAUSED


def test_attributes_are_set_on_the_server(service: FakeService, machine: Machine) -> None:
    machine.memory_size = 1024
    assert service.objects["m"]["MemorySize"] == 1024
    assert service.calls == [("IMachine_setMemorySize", {"_this": "m", "memorySize": 1024})]


def test_what_is_absent_is_an_empty_text_or_an_empty_list(service: FakeService, machine: Machine) -> None:
    assert machine.description == ""
    assert machine.groups == ["/a", "/b"]
    service.objects["m"]["Groups"] = []
    assert machine.groups == []
    service.answer("IMachine_getMediumAttachments", [])
    assert machine.medium_attachments == []


def test_structs_and_enumerations_arrive(service: FakeService, machine: Machine) -> None:
    struct = {"machine": "m", "medium": "", "controller": "SATA", "port": 1, "device": 0, "type": "DVD"}
    service.answer("IMachine_getMediumAttachments", [struct, struct | {"medium": "d", "type": "HardDisk"}])
    empty, disk = machine.medium_attachments
    assert (empty.medium, empty.type, empty.port) == (None, DeviceType.DVD, 1)
    assert disk.medium is not None
    assert (disk.medium.reference, disk.type) == ("d", DeviceType.HARD_DISK)


def test_out_parameters_arrive_beside_the_result(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_takeSnapshot", {"returnval": "p", "id": "snapshot-1"})
    assert machine.take_snapshot("s").reference == "p"


def test_forwards_are_read_as_virtualbox_writes_them(service: FakeService) -> None:
    service.answer("INATEngine_getRedirects", ["ssh,1,127.0.0.1,2222,,22", "dns,0,,53,10.0.2.15,5353"])
    assert NATEngine(service.api, "nat").redirects == [
        Redirect("ssh", NATProtocol.TCP, "127.0.0.1", 2222, "", 22),
        Redirect("dns", NATProtocol.UDP, "", 53, "10.0.2.15", 5353),
    ]
    service.answer("INATEngine_getRedirects", [])
    assert NATEngine(service.api, "nat").redirects == []


def test_letters_of_all_kinds_survive(service: FakeService, machine: Machine) -> None:
    name = "<a & b> ü 🦆 'x' \"y\""
    machine.name = name
    assert service.objects["m"]["Name"] == name
    assert machine.name == name


def test_a_call_without_arguments_needs_no_list(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_deleteConfig", "p")
    machine.delete_config([])
    assert service.called("IMachine_deleteConfig") == [{"_this": "m", "media": []}]


def test_an_operation_that_is_not_there_is_not_sent(service: FakeService) -> None:
    with pytest.raises(NotSupported, match="no IMachine::fly"):
        service.api.call("IMachine_fly", _this="m")
    assert service.calls == []
    assert service.api.parameters("IMachine_fly") is None
    assert service.api.parameters("IMachine_setName") == ("_this", "name")


# Faults


def test_a_fault_becomes_the_class_of_its_code(service: FakeService) -> None:
    service.answer("IMachine_lockMachine", Refusal(0x80BB000C, "The machine is locked", "by VirtualBoxVM"))
    with pytest.raises(ObjectInUse) as caught:
        service.api.call("IMachine_lockMachine", _this="m", session="s", lockType="Write")
    error = caught.value
    assert error.text == "The machine is locked\nby VirtualBoxVM"
    assert error.operation == "IMachine_lockMachine"
    assert error.arguments == {"session": "s", "lockType": "Write"}
    assert type(error.__cause__).__name__ == "Fault"


def test_texts_that_say_the_same_are_said_once(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", Refusal(0x80004005, "No disk", "No disk ", "", "File missing"))
    with pytest.raises(Failed) as caught:
        _ = machine.name
    assert caught.value.text == "No disk\nFile missing"


def test_a_chain_of_causes_without_an_end_ends(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", Refusal(0x80004005, *(f"cause {number}" for number in range(20))))
    with pytest.raises(Failed) as caught:
        _ = machine.name
    assert caught.value.text.splitlines() == [f"cause {number}" for number in range(5)]


def test_without_error_info_the_words_of_the_fault_are_used(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", Refusal(0x80BB0001, "Could not find 'nope'"))
    service.answer("IVirtualBoxErrorInfo_getText", UnknownObject())
    with pytest.raises(ObjectNotFound) as caught:
        _ = machine.name
    assert caught.value.text == "Could not find 'nope'"


def test_without_any_words_the_code_is_explained(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", Refusal(0x80BB0001))
    with pytest.raises(ObjectNotFound, match="no such machine"):
        _ = machine.name


def test_a_lost_connection_while_asking_for_texts_does_not_hide_the_error(
    service: FakeService, machine: Machine
) -> None:
    service.answer("IMachine_getName", Refusal(0x80BB0001, "Could not find 'nope'"))
    service.answer("IVirtualBoxErrorInfo_getText", HangUp())
    with pytest.raises(ObjectNotFound, match="Could not find 'nope'"):
        _ = machine.name


def test_an_unknown_reference_is_an_error_of_its_own(service: FakeService) -> None:
    with pytest.raises(InvalidObjectReference) as caught:
        _ = Machine(service.api, "gone").name
    assert caught.value.operation == "IMachine_getName"


def test_a_fault_without_a_word_is_still_an_error(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", Silence())
    with pytest.raises(VirtualBoxError, match="without a message"):
        _ = machine.name


def test_a_refused_logon_says_so_and_not_the_password(service: FakeService) -> None:
    service.answer("IWebsessionManager_logon", Silence())
    with pytest.raises(LogonRefused, match="user or password not accepted") as caught:
        connect(service.url, WHO)
    assert "me" in str(caught.value)
    assert "hush" not in str(caught.value)


# No SOAP at all


@pytest.mark.parametrize(
    "garbage",
    [
        Garbage(500, "<html><body>Internal error</body></html>"),
        Garbage(500, "Internal error <br>"),
        Garbage(500, ""),
        Garbage(404, "<html/>"),
        Garbage(403, '{"error": "forbidden"}', "application/json"),
        Garbage(200, "<html><body>It works!</body></html>"),
        Garbage(200, "hello"),
        Garbage(200, ""),
    ],
    ids=lambda garbage: f"{garbage.status}-{garbage.body[:12]}",
)
def test_another_web_server_is_neither_a_refused_logon_nor_a_virtualbox(
    service: FakeService, garbage: Garbage
) -> None:
    service.answer("IWebsessionManager_logon", garbage)
    with pytest.raises(ServiceUnavailable, match=r"what answers at .* is not VirtualBox's web service") as caught:
        connect(service.url, WHO)
    assert service.url in str(caught.value)
    assert garbage.body == "" or garbage.body not in str(caught.value)


_SOAP = '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>{}</e:Body></e:Envelope>'
_FAULT = (
    "<e:Fault><faultcode>e:Client</faultcode><faultstring>no</faultstring><detail>"
    '<v:RuntimeFault xmlns:v="http://www.virtualbox.org/"><resultCode>{}</resultCode></v:RuntimeFault></detail></e:Fault>'
)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/xml", _SOAP.format("")),
        ("text/xml", _SOAP.format("<e:Fault/>")),
        ("text/xml", _SOAP.format("<!-- nothing -->")),
        ("text/xml", '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"/>'),
        ("text/xml", _SOAP.format(_FAULT.format("much"))),
        ("text/xml", _SOAP.format(_FAULT.format("9" * 5000))),
        ("multipart/related; boundary=a", "--a\r\nnothing\r\n--a--"),
        ("multipart/related", "--a\r\n\r\n--a--"),
    ],
)
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_zeep_trips_over_is_an_error_of_ours(
    service: FakeService, machine: Machine, kind: str, body: str, status: int
) -> None:
    service.answer("IMachine_getName", Garbage(status, body, kind))
    with pytest.raises(VirtualBoxError):
        _ = machine.name


def test_a_dropped_connection_says_so(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", HangUp())
    with pytest.raises(ServiceUnavailable, match="does not answer: it closed the connection"):
        _ = machine.name


def test_a_refused_connection_names_the_address(unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    with pytest.raises(ServiceUnavailable) as caught:
        connect(url, WHO)
    assert caught.value.text == f"VirtualBox's web service at {url}/ does not answer: connection refused"


def test_a_host_that_does_not_exist_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ServiceUnavailable, match="does not answer: no such host"):
        connect("http://nowhere.invalid:18083", WHO)


def test_a_certificate_authority_that_is_no_file_is_named(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    with pytest.raises(ServiceUnavailable, match=str(ca)):
        connect("https://127.0.0.1:1", WHO, ca=ca)


def test_a_service_without_tls_behind_https_says_so(service: FakeService) -> None:
    with pytest.raises(ServiceUnavailable, match="does not speak https"):
        connect(service.url.replace("http:", "https:"), WHO)


def test_a_description_that_is_not_one_is_refused(service: FakeService) -> None:
    service.wsdl = b"<html/>"
    with pytest.raises(ServiceUnavailable, match=r"\?wsdl serves is not the description of VirtualBox"):
        connect(service.url, WHO)


# What can be seen of calls


def test_calls_can_be_watched_without_secrets(service: FakeService) -> None:
    seen: list[tuple[str, dict[str, object]]] = []
    service.api.on_call = lambda name, arguments, _: seen.append((name, dict(arguments)))
    try:
        service.api.call("IWebsessionManager_logon", username="me", password="hush")
        with pytest.raises(InvalidObjectReference):
            service.api.call("IMachine_getName", _this="gone")
    finally:
        service.api.on_call = None
    assert seen == [("IWebsessionManager_logon", {"username": "me", "password": "…"})]


def test_the_log_has_no_password(service: FakeService, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), connect(service.url, WHO):
        pass
    assert "IWebsessionManager_logon" in caplog.text
    assert "hush" not in caplog.text


def test_neither_the_log_nor_an_error_shows_a_password_or_a_reference(
    service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    reference = "a85ddede49422f48-0000000000000009"
    service.answer("IMachine_setTeleporterPassword", None, Refusal(0x80004005, "no"))
    service.answer("IMachine_lockMachine", None, Refusal(0x80004005, "no"))
    machine = Machine(service.api, "machine-1")
    with caplog.at_level(logging.DEBUG):
        machine.teleporter_password = "hush-hush"
        machine.lock_machine(Session(service.api, reference), LockType.SHARED)
    with pytest.raises(Failed) as first:
        machine.teleporter_password = "hush-hush"
    with pytest.raises(Failed) as second:
        machine.lock_machine(Session(service.api, reference), LockType.SHARED)
    with pytest.raises(InvalidObjectReference) as third:
        service.api.call("IMachine_getName", _this=reference)
    text = "\n".join(
        [caplog.text, str(first.value), str(second.value), str(third.value), repr(third.value.__cause__)]
    )
    assert "IMachine_setTeleporterPassword" in text
    assert "IMachine_lockMachine" in text
    assert "hush-hush" not in text
    assert reference not in text


@pytest.mark.parametrize(
    "error", [Refusal(0x80004005, "no"), HangUp(), Garbage(200, "<a>no soap</a>", "text/xml")]
)
def test_a_secret_is_in_no_variable_of_the_traceback_of_a_call_that_fails(
    service: FakeService, error: Exception
) -> None:
    service.answer("IMachine_setTeleporterPassword", error)
    with pytest.raises(VirtualBoxError) as caught:
        Machine(service.api, "machine-1").teleporter_password = Secret("hush-hush")
    text = shown(caught.value, __file__)
    assert "Api.call: operation=" in text
    assert "hush-hush" not in text


def test_every_thread_has_a_connection_of_its_own(service: FakeService) -> None:
    wire = Wire(service.url)
    sessions = [wire.session]
    thread = threading.Thread(target=lambda: sessions.append(wire.session))
    thread.start()
    thread.join()
    assert sessions[0] is wire.session
    assert sessions[0] is not sessions[1]
    wire.close()


def test_proxies_of_the_environment_are_not_used(
    service: FakeService, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port}")
    wire = Wire(service.url)
    assert Api(wire, description().wsdl()).call("IVirtualBox_getVersion", _this="virtualbox") == "7.2.99"
    wire.close()
