"""The web session: logon, what happens when it is lost, locks, waiting, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.virtualbox import Machine, WebSession, WsdlCache, connect, websession
from pytest_vbox.virtualbox.enums import LockType, MachineState
from pytest_vbox.virtualbox.errors import (
    Failed,
    HungUp,
    InvalidObjectReference,
    InvalidObjectState,
    LogonRefused,
    NeverArrived,
    ObjectInUse,
    OperationTimeout,
    ServiceUnavailable,
    UnsupportedVersion,
    VirtualBoxError,
)
from pytest_vbox.virtualbox.websession import Credentials
from pytest_vbox.virtualbox.wsdl import distil
from unit.kit.descriptions import NEWEST, VERSIONS, description
from unit.kit.service import FakeService, HangUp, Refusal, Silence, UnknownObject

WHO = Credentials("me", "hush")
# The fewer operations are described, the sooner a connection stands.
SMALL = distil(
    description().wsdl(),
    [
        *(name for name in description().operations if name.startswith(("IWebsession", "IEvent", "ISession_"))),
        *(f"IMachine_{name}" for name in ("getId", "getName", "setName", "getState", "getSessionState")),
        *(
            f"IVirtualBox_{name}"
            for name in ("getVersion", "getAPIVersion", "getMachines", "findMachine", "getEventSource")
        ),
        *("IMachine_lockMachine", "IMachine_saveSettings", "IManagedObjectRef_release"),
        *("IVirtualBoxErrorInfo_getText", "IVirtualBoxErrorInfo_getNext"),
    ],
)


@pytest.fixture
def service(service_of: Callable[[str], FakeService]) -> FakeService:
    """The newest VirtualBox, with a short description."""
    service = service_of(NEWEST)
    service.wsdl = SMALL
    return service


@pytest.fixture
def session(service: FakeService) -> Iterator[WebSession]:
    """Logged on; the same for all tests, with its first reference again."""
    session = service.session
    session._idle.clear()  # of other modules' tests
    yield session
    session.virtualbox.reference = "virtualbox"
    session._idle.clear()
    session._doubtful.clear()


@pytest.fixture
def machine(service: FakeService, session: WebSession) -> Machine:
    """A machine that is off, as found by its id."""
    service.add("m", Id="id-1", Name="one", State="PoweredOff", SessionState="Unlocked")
    service.answer("IVirtualBox_findMachine", "m")
    service.add("s", State="Locked", Machine="mutable")
    service.answer("IWebsessionManager_getSessionObject", "s")
    service.answer("IMachine_lockMachine", None)
    service.answer("ISession_unlockMachine", None)
    _events(service)
    found = session.virtualbox.find_machine("id-1")
    service.calls.clear()
    return found


def _events(service: FakeService, on_event: Callable[[], object] = lambda: None) -> None:
    """An event source that always has an event; before it comes, a function is called."""
    service.objects["virtualbox"]["EventSource"] = "events"
    service.answer("IEventSource_createListener", "listener")
    service.answer("IEventSource_registerListener", None)
    service.answer("IEventSource_unregisterListener", None)
    service.answer("IEventSource_eventProcessed", None)

    def get_event(_: object) -> str:
        on_event()
        return "event"

    service.handlers["IEventSource_getEvent"] = get_event


def _lose(service: FakeService) -> None:
    """What the server does after its timeout, or when it is started anew: all references get new names."""
    for reference in list(service.objects):
        service.objects[f"new-{reference}"] = service.objects.pop(reference)
    service.answer("IWebsessionManager_logon", "new-virtualbox")


# Logon and versions


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_supported_version_lets_us_in(service_of: Callable[[str], FakeService], version: str) -> None:
    service = service_of(version)
    service.wsdl = distil(description(version).wsdl(), ["IVirtualBox_getHomeFolder", "IWebsessionManager_logoff"])
    with connect(service.url, WHO) as session:
        assert session.api_version == tuple(map(int, version.split(".")))
        assert session.version == f"{version}.99"
        assert session.virtualbox.home_folder == "/home/me/.config/VirtualBox"
    assert service.called("IWebsessionManager_logon") == [{"username": "me", "password": "hush"}]


@pytest.mark.parametrize(
    ("version", "api", "shown"),
    [
        ("5.1.38", "5_1", r"VirtualBox 5\.1\.38 \(API 5\.1\) is not supported"),
        ("4.3.40", "4_3", r"VirtualBox 4\.3\.40 \(API 4\.3\) is not supported"),
        ("8.0.2", "8_0", r"VirtualBox 8\.0\.2 \(API 8\.0\) is not supported"),
    ],
)
def test_an_unsupported_version_is_refused_with_its_version_and_ours(
    service: FakeService, version: str, api: str, shown: str
) -> None:
    service.add("virtualbox", Version=version, APIVersion=api, Revision=1)
    with pytest.raises(UnsupportedVersion, match=shown) as caught:
        connect(service.url, WHO)
    assert "works with 5.2 to 7.2" in str(caught.value)


@pytest.mark.parametrize("api", ["", "7", "seven_two", "7.2"])
def test_a_version_that_is_none_is_refused(service: FakeService, api: str) -> None:
    service.add("virtualbox", Version="7.2.0", APIVersion=api, Revision=1)
    with pytest.raises(UnsupportedVersion, match="which is unknown"):
        connect(service.url, WHO)


@pytest.mark.parametrize("api", ["7_3", "7_2_1"])
def test_a_newer_one_of_the_same_generation_is_let_in(service: FakeService, api: str) -> None:
    service.add("virtualbox", Version="7.3.0", APIVersion=api, Revision=1)
    with connect(service.url, WHO) as session:
        assert session.api_version[0] == 7


def test_the_description_is_fetched_once_and_kept(service: FakeService, tmp_path: Path) -> None:
    cache = WsdlCache(tmp_path)
    connect(service.url, WHO, cache=cache).close()
    service.wsdl = b"not served again"
    with connect(service.url, WHO, cache=cache) as session:
        assert session.version == "7.2.99"


def test_a_damaged_cache_is_made_anew(service: FakeService, tmp_path: Path) -> None:
    cache = WsdlCache(tmp_path)
    connect(service.url, WHO, cache=cache).close()
    path = cache.path("7.2.99r170000")
    good = path.read_bytes()
    path.write_bytes(good[:1000])
    connect(service.url, WHO, cache=cache).close()
    assert path.read_bytes() == good


def test_credentials_hide_the_password() -> None:
    assert "hush" not in repr(WHO)


# A lost web session


def test_the_way_in_is_found_again_after_the_session_was_lost(service: FakeService, session: WebSession) -> None:
    _lose(service)
    assert session.virtualbox.version == "7.2.99"
    assert session.virtualbox.reference == "new-virtualbox"
    assert len(service.called("IWebsessionManager_logon")) == 1


def test_a_machine_is_found_again_by_its_id(service: FakeService, machine: Machine) -> None:
    _lose(service)
    service.answer("IVirtualBox_findMachine", "new-m")
    machine.name = "two"
    assert service.objects["new-m"]["Name"] == "two"
    assert service.called("IVirtualBox_findMachine")[-1]["nameOrId"] == "id-1"
    assert (machine.reference, machine.name) == ("new-m", "two")


def test_a_machine_from_a_list_is_found_again_by_its_id(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    service.answer("IVirtualBox_getMachines", [machine.reference])
    (listed,) = session.virtualbox.machines
    _lose(service)
    service.answer("IVirtualBox_findMachine", "new-m")
    assert listed.name == "one"
    assert service.called("IVirtualBox_findMachine")[-1]["nameOrId"] == "id-1"


def test_one_more_try_and_no_more(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", UnknownObject())
    with pytest.raises(InvalidObjectReference):
        _ = machine.name
    assert len(service.called("IMachine_getName")) == 2


@pytest.mark.usefixtures("machine")
def test_what_has_no_name_of_its_own_is_lost(service: FakeService, session: WebSession) -> None:
    with session.session_object() as held:
        service.calls.clear()
        _lose(service)
        with pytest.raises(InvalidObjectReference):
            _ = held.state
    assert service.names == ["ISession_getState"]


def test_other_errors_do_not_log_on_again(service: FakeService, machine: Machine) -> None:
    service.answer("IMachine_getName", Refusal(0x80004005, "no"))
    with pytest.raises(Failed):
        _ = machine.name
    assert service.names.count("IMachine_getName") == 1
    assert service.called("IWebsessionManager_logon") == []


def test_a_password_that_was_changed_meanwhile_is_refused_by_name(
    service: FakeService, session: WebSession
) -> None:
    _lose(service)
    service.answer("IWebsessionManager_logon", Silence())
    with pytest.raises(LogonRefused):
        _ = session.virtualbox.version


def test_threads_that_lose_the_session_together_log_on_once(service: FakeService, session: WebSession) -> None:
    _lose(service)
    start = threading.Barrier(4)
    versions = []

    def ask() -> None:
        start.wait()
        versions.append(session.virtualbox.version)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions == ["7.2.99"] * 4
    assert len(service.called("IWebsessionManager_logon")) == 1


def test_a_session_that_is_idle_is_kept_alive(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websession, "KEEP_ALIVE", 0.01)
    # A service that is away for a moment does not end it.
    service.answer("IVirtualBox_getAPIVersion", "7_2", HangUp(), "7_2")
    asked = threading.Semaphore(0)
    answer = service.handlers["IVirtualBox_getAPIVersion"]

    def count(arguments: dict[str, object]) -> object:
        asked.release()
        return answer(arguments)

    service.handlers["IVirtualBox_getAPIVersion"] = count
    with connect(service.url, WHO):
        for _ in range(4):
            assert asked.acquire(timeout=10)


def test_a_session_is_kept_alive_though_nobody_can_write_down_that_it_was_begun_anew(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websession, "KEEP_ALIVE", 0.01)
    service.answer("IVirtualBox_getAPIVersion", "7_2", UnknownObject(), "7_2")
    told = threading.Event()
    asked = threading.Semaphore(0)

    def count(_: dict[str, object]) -> str:
        asked.release()
        return "7_2"

    def full(_: str) -> None:
        told.set()
        raise OSError(28, "No space left on device")

    with connect(service.url, WHO) as session:
        session.on_logon = full
        assert told.wait(10)
        service.handlers["IVirtualBox_getAPIVersion"] = count
        for _ in range(2):
            assert asked.acquire(timeout=10)


def test_what_was_changed_half_way_is_saved_before_it_is_unlocked_after_an_error(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    service.answer("IMachine_saveSettings", None)
    with pytest.raises(ZeroDivisionError), session.lock(machine, LockType.WRITE, Deadline(5)):
        raise ZeroDivisionError
    assert service.called("IMachine_saveSettings") == [{"_this": "mutable"}]
    assert service.names.index("IMachine_saveSettings") < service.names.index("ISession_unlockMachine")


def test_what_a_dead_process_changed_half_way_is_saved_before_it_is_unlocked(
    service: FakeService, session: WebSession
) -> None:
    service.add("its-object", State="Locked", Machine="mutable")
    service.answer("IMachine_saveSettings", Refusal(0x80004005), None)
    service.answer("ISession_unlockMachine", None)
    service.answer("IWebsessionManager_logoff", None)
    for _ in range(2):
        session.end_other("its-session", ["its-object"])
    operations = [name for name in service.names if name.startswith(("IMachine", "ISession_u", "IWebsession"))]
    assert operations == ["IMachine_saveSettings", "ISession_unlockMachine", "IWebsessionManager_logoff"] * 2


# A service that died


@pytest.fixture
def dead(unused_port: int, session: WebSession, machine: Machine) -> Iterator[str]:  # noqa: ARG001
    """The address of a service that is not there any more, to which the session goes."""
    alive = session.url
    session.api.wire.move(f"http://127.0.0.1:{unused_port}")
    yield session.url
    session.api.wire.move(alive)
    session.elsewhere, session._credentials = None, WHO


@pytest.fixture
def replaced(service: FakeService, session: WebSession, dead: str) -> list[str]:  # noqa: ARG001
    """There is another one in its place; where it was asked for is in the list."""
    asked: list[str] = []

    def elsewhere() -> tuple[str, Credentials]:
        asked.append(session.url)
        return service.url, Credentials("me", f"hush {len(asked)}")

    session.elsewhere = elsewhere
    return asked


def test_a_call_that_nobody_can_have_heard_goes_to_the_service_that_took_the_place(
    service: FakeService, session: WebSession, machine: Machine, replaced: list[str], dead: str
) -> None:
    _lose(service)
    service.answer("IVirtualBox_findMachine", "new-m")
    machine.name = "two"
    assert service.objects["new-m"]["Name"] == "two"
    assert (replaced, session.url) == ([dead], service.url)
    assert service.called("IWebsessionManager_logon") == [{"username": "me", "password": "hush 1"}]


@pytest.mark.usefixtures("dead")
def test_where_nothing_takes_its_place_the_address_is_told(session: WebSession, machine: Machine) -> None:
    for ask in (session.refresh, lambda: machine.name):
        with pytest.raises(NeverArrived, match=f"{session.url}/ does not answer: connection refused"):
            ask()


def test_a_call_whose_connection_breaks_is_not_said_twice(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    session.elsewhere = lambda: pytest.fail("it may have been heard")
    service.answer("IMachine_getName", HangUp())
    with pytest.raises(ServiceUnavailable):
        _ = machine.name
    assert len(service.called("IMachine_getName")) == 1
    session.elsewhere = None


@pytest.mark.parametrize("times", [1, 2])
def test_a_service_that_hangs_up_is_asked_once_more_and_then_replaced_before_the_next_thing_is_begun(
    service: FakeService, session: WebSession, replaced: list[str], times: int
) -> None:
    session.api.wire.move(service.url)
    service.answer("IVirtualBox_getAPIVersion", *[HangUp()] * times, "7_2")
    session.refresh()
    assert replaced == [service.url][: times - 1]
    assert len(service.called("IVirtualBox_getAPIVersion")) == 2


def test_of_one_that_hangs_up_and_has_nobody_in_its_place_that_is_said(
    service: FakeService, session: WebSession
) -> None:
    service.answer("IVirtualBox_getAPIVersion", HangUp(), HangUp())
    with pytest.raises(HungUp, match=f"{service.url}/ does not answer: it closed the connection"):
        session.refresh()
    assert service.called("IWebsessionManager_logon") == []


def test_a_service_whose_server_died_is_replaced_before_the_next_thing_is_begun(
    service: FakeService, session: WebSession, replaced: list[str]
) -> None:
    session.api.wire.move(service.url)
    service.answer("IVirtualBox_getAPIVersion", Refusal(0x80004004))
    session.refresh()
    assert replaced == [service.url]
    assert service.called("IWebsessionManager_logon") == [{"username": "me", "password": "hush 1"}]


def test_of_a_service_whose_server_died_and_which_is_not_ours_it_is_said_what_to_do(
    service: FakeService, session: WebSession
) -> None:
    service.answer("IVirtualBox_getAPIVersion", Refusal(0x80004004))
    with pytest.raises(ServiceUnavailable, match=f"{service.url} is of no use .* start the web service again"):
        session.refresh()
    assert service.called("IWebsessionManager_logon") == []


@pytest.mark.parametrize("refusals", [2, 3])
def test_one_that_met_the_dying_server_is_replaced_too_but_not_for_ever(
    service: FakeService, session: WebSession, replaced: list[str], refusals: int
) -> None:
    service.answer("IWebsessionManager_logon", *[Silence()] * refusals, "virtualbox")
    if refusals < websession.MOST_REPLACED:
        session.refresh()
    else:
        with pytest.raises(LogonRefused):
            session.refresh()
    assert len(replaced) == 3


# The end


def test_closing_logs_off_once(service: FakeService) -> None:
    session = connect(service.url, WHO)
    session.close()
    session.close()
    assert service.called("IWebsessionManager_logoff") == [{"refIVirtualBox": "virtualbox"}]


@pytest.mark.parametrize("error", [HangUp(), UnknownObject(), Refusal(0x80004005)], ids=lambda e: type(e).__name__)
def test_a_service_that_is_gone_at_the_end_is_no_error(service: FakeService, error: Exception) -> None:
    session = connect(service.url, WHO)
    service.answer("IWebsessionManager_logoff", error)
    session.close()


def test_an_error_inside_the_block_logs_off_too(service: FakeService) -> None:
    with pytest.raises(ZeroDivisionError), connect(service.url, WHO):
        raise ZeroDivisionError
    assert service.names[-1] == "IWebsessionManager_logoff"


# Locks


def test_a_lock_is_given_back(service: FakeService, session: WebSession, machine: Machine) -> None:
    with session.lock(machine, LockType.SHARED, Deadline(5)) as held:
        assert held.machine.reference == "mutable"
        assert "ISession_unlockMachine" not in service.names
    assert service.called("IMachine_lockMachine") == [{"_this": "m", "session": "s", "lockType": "Shared"}]
    assert service.names[-1] == "ISession_unlockMachine"


def test_one_session_object_serves_all_locks_one_after_the_other_and_is_told_of_before(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    told: list[tuple[str, int]] = []
    session.on_session_object = lambda reference: told.append(
        (reference, service.names.count("IMachine_lockMachine"))
    )
    for _ in range(3):
        with session.lock(machine, LockType.SHARED, Deadline(5)):
            pass
    assert told == [("s", 0)]
    with session.session_object(), session.session_object():
        assert told == [("s", 0), ("s", 3)]


@pytest.mark.parametrize("lost", [True, False])
def test_a_session_object_is_not_used_again_after_an_error_or_a_lost_web_session(
    service: FakeService, session: WebSession, machine: Machine, *, lost: bool
) -> None:
    told: list[str] = []
    session.on_session_object = told.append
    with suppress(ZeroDivisionError), session.lock(machine, LockType.SHARED, Deadline(5)):
        if not lost:
            raise ZeroDivisionError
    if lost:
        _lose(service)
        assert session.virtualbox.api_version
    with session.lock(session.virtualbox.find_machine("one"), LockType.SHARED, Deadline(5)):
        pass
    assert len(told) == 2


def test_what_a_dead_process_holds_is_unlocked_before_its_session_is_ended(
    service: FakeService, session: WebSession
) -> None:
    service.objects["held"] = {"State": "Locked"}
    service.objects["free"] = {"State": "Unlocked"}
    session.end_other("its-session", ["held", "gone", "free"])
    assert service.called("ISession_unlockMachine") == [{"_this": "held"}]
    assert service.names[-1] == "IWebsessionManager_logoff"


@pytest.mark.parametrize(
    ("error", "ended"),
    [(HangUp(), False), (Refusal(0x80BB0007, "it is not locked"), True)],
    ids=["lost", "refused"],
)
def test_the_session_of_a_dead_process_is_not_ended_while_it_may_still_hold_a_lock(
    service: FakeService, session: WebSession, error: Exception, *, ended: bool
) -> None:
    service.objects["held"] = {"State": "Locked"}
    service.answer("ISession_unlockMachine", error)
    with nullcontext() if ended else pytest.raises(ServiceUnavailable):
        session.end_other("its-session", ["held"])
    assert ("IWebsessionManager_logoff" in service.names) == ended


def test_an_error_inside_gives_the_lock_back(service: FakeService, session: WebSession, machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), session.lock(machine, LockType.WRITE, Deadline(5)):
        raise ZeroDivisionError
    assert service.names[-1] == "ISession_unlockMachine"


@pytest.mark.parametrize("error", [Refusal(0x80BB0007, "busy"), HangUp()], ids=["refused", "dropped"])
@pytest.mark.parametrize("first", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_while_unlocking_never_masks_the_first_one(
    service: FakeService, session: WebSession, machine: Machine, error: Exception, first: type[BaseException]
) -> None:
    service.answer("ISession_unlockMachine", error)
    with pytest.raises(first) as caught, session.lock(machine, LockType.SHARED, Deadline(5)):
        raise first
    (note,) = caught.value.__notes__
    assert "then unlocking the machine failed too" in note


def test_an_error_while_unlocking_is_raised_if_it_is_the_only_one(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    service.answer("ISession_unlockMachine", Refusal(0x80BB0007, "busy"))
    with pytest.raises(InvalidObjectState), session.lock(machine, LockType.SHARED, Deadline(5)):
        pass


@pytest.mark.parametrize("code", [0x8000FFFF, 0x80004005])
def test_a_lock_that_went_with_its_machine_need_not_be_given_back(
    service: FakeService, session: WebSession, machine: Machine, code: int
) -> None:
    service.answer("ISession_unlockMachine", Refusal(code, "The session is not locked"))
    with session.lock(machine, LockType.SHARED, Deadline(5)):
        service.objects["s"]["State"] = "Unlocked"


def test_a_machine_that_cannot_be_locked_is_not_unlocked(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    service.answer("IMachine_lockMachine", Refusal(0x80BB000C, "locked by a user interface"))
    with pytest.raises(ObjectInUse), session.lock(machine, LockType.SHARED, Deadline(5)):
        raise AssertionError("inside without a lock")
    assert "ISession_unlockMachine" not in service.names


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("operation", ["IMachine_lockMachine", "ISession_unlockMachine"])
@pytest.mark.parametrize("next_use", ["lock", "close"])
def test_a_lock_whose_answer_never_came_is_given_back(service: FakeService, operation: str, next_use: str) -> None:
    def unlock(_: object) -> None:
        service.objects["m"]["SessionState"] = service.objects["s"]["State"] = "Unlocked"

    with connect(service.url, WHO) as session:
        machine = session.virtualbox.find_machine("one")
        service.answer(operation, HangUp())
        with pytest.raises(ServiceUnavailable), session.lock(machine, LockType.WRITE, Deadline(5)):
            pass
        service.objects["m"]["SessionState"] = "Locked"
        service.answer(operation, None)
        service.handlers["ISession_unlockMachine"] = unlock
        service.calls.clear()
        if next_use == "lock":
            with session.lock(machine, LockType.WRITE, Deadline(5)):
                assert service.names.index("ISession_unlockMachine") < service.names.index("IMachine_lockMachine")
    if next_use == "close":
        assert service.names[-2:] == ["ISession_unlockMachine", "IWebsessionManager_logoff"]


def test_a_write_lock_waits_until_the_last_one_is_given_back(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    service.objects["m"]["SessionState"] = "Unlocking"
    _events(service, lambda: service.objects["m"].update(SessionState="Unlocked"))
    with session.lock(machine, LockType.WRITE, Deadline(5)):
        pass
    assert service.names.index("IEventSource_getEvent") < service.names.index("IMachine_lockMachine")


def test_a_shared_lock_does_not_wait(service: FakeService, session: WebSession, machine: Machine) -> None:
    service.objects["m"]["SessionState"] = "Locked"
    with session.lock(machine, LockType.SHARED, Deadline(5)):
        pass
    assert "IEventSource_getEvent" not in service.names


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("Running", ", after"),
        ("PoweredOff", ", by its settings window .* .`pytest-vbox service stop` ends .*, after"),
    ],
)
def test_a_machine_that_stays_locked_is_named(
    service: FakeService, session: WebSession, machine: Machine, state: str, advice: str
) -> None:
    service.objects["m"].update(SessionState="Locked", State=state)
    with (
        pytest.raises(OperationTimeout, match=rf"machine one is still locked \(session Locked, {state}\){advice}"),
        session.lock(machine, LockType.WRITE, Deadline(0.01)),
    ):
        raise AssertionError("inside without a lock")
    assert service.names.count("IEventSource_unregisterListener") == 1


# Waiting


def test_waiting_for_a_state_returns_which_one_it_became(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    states = iter(["Starting", "Starting", "Running"])
    _events(service, lambda: service.objects["m"].update(State=next(states)))
    wanted = frozenset({MachineState.RUNNING, MachineState.ABORTED})
    assert session.wait_for_state(machine, wanted, Deadline(10)) is MachineState.RUNNING
    assert service.names.count("IEventSource_getEvent") == 3
    # Each event was acknowledged, and forgotten.
    assert (
        service.called("IEventSource_eventProcessed")
        == [{"_this": "events", "listener": "listener", "event": "event"}] * 3
    )


def test_a_condition_that_holds_needs_no_listener(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    session.wait_for_unlock(machine, Deadline(0))
    assert "IEventSource_createListener" not in service.names


def test_a_state_that_never_comes_is_told_with_the_one_there_is(session: WebSession, machine: Machine) -> None:
    with pytest.raises(OperationTimeout, match="machine one is PoweredOff, not Aborted or Running, after"):
        session.wait_for_state(machine, frozenset({MachineState.RUNNING, MachineState.ABORTED}), Deadline(0.01))


@pytest.mark.parametrize(("left", "asked"), [(100.0, 500), (0.05, 50)])
def test_the_server_waits_no_longer_than_the_deadline(
    service: FakeService,
    session: WebSession,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    left: float,
    asked: int,
) -> None:
    monkeypatch.setattr(Deadline, "remaining", left)

    def nothing(_: object) -> str:
        service.objects["m"]["State"] = "Running"
        return ""

    service.handlers["IEventSource_getEvent"] = nothing
    session.wait_for_state(machine, frozenset({MachineState.RUNNING}), Deadline(left))
    assert [call["timeout"] for call in service.called("IEventSource_getEvent")] == [asked]
    assert "IEventSource_eventProcessed" not in service.names


def test_a_listener_that_cannot_be_taken_back_is_no_error(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    service.objects["m"]["State"] = "Starting"
    _events(service, lambda: service.objects["m"].update(State="Running"))
    service.answer("IEventSource_unregisterListener", Refusal(0x80004005))
    session.wait_for_state(machine, frozenset({MachineState.RUNNING}), Deadline(10))


def test_a_service_that_dies_while_we_wait_is_told(
    service: FakeService, session: WebSession, machine: Machine
) -> None:
    for operation in ("IEventSource_getEvent", "IEventSource_unregisterListener"):
        service.answer(operation, HangUp())
    with pytest.raises(ServiceUnavailable):
        session.wait_for_state(machine, frozenset({MachineState.RUNNING}), Deadline(10))


def test_all_errors_are_of_one_kind() -> None:
    for kind in (ServiceUnavailable, LogonRefused, UnsupportedVersion, OperationTimeout, InvalidObjectReference):
        assert issubclass(kind, VirtualBoxError)
