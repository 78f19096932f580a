"""Port forwards: chosen, checked in VirtualBox's log, moved where a port is taken, and given back."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines import MachineError
from pytest_vbox.machines.forwards import Forwards
from pytest_vbox.ownership import Busy, locks
from pytest_vbox.virtualbox import Machine
from pytest_vbox.virtualbox.enums import NATProtocol
from pytest_vbox.virtualbox.errors import InvalidArgument
from unit.kit.models import machine_model
from unit.kit.service import Arguments, FakeService, Refusal

TAKEN = "00:00:01.5 NAT#0: failed to set up redirection of {} to 10.0.2.15:22\n"
WEB: Mapping[str, object] = {"name": "web", "host_port": 8080, "guest_port": 80}


class Nat:
    """The NAT of a machine, and the log of what it could not do."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.rules: dict[str, Arguments] = {}
        self.log = ""
        self.taken: set[int] = set()
        service.handlers["INATEngine_addRedirect"] = self._add
        service.handlers["INATEngine_removeRedirect"] = lambda arguments: (
            self.rules.pop(arguments["name"], None) and None
        )
        service.handlers["IMachine_readLog"] = lambda arguments: base64.b64encode(
            self.log.encode()[arguments["offset"] :]
        ).decode()

    def _add(self, rule: Arguments) -> None:
        self.rules[rule["name"]] = rule
        if rule["hostPort"] in self.taken:
            self.log += TAKEN.format(rule["hostPort"])

    @property
    def locks(self) -> list[str]:
        """The kinds of locks that were taken."""
        return [arguments["lockType"] for arguments in self.service.called("IMachine_lockMachine")]


@pytest.fixture
def nat(service: FakeService) -> Nat:
    service.add("adapter", NATEngine=service.add("nat"))
    service.add("s", State="Locked", Machine=service.add("mutable"))
    for operation in ("IMachine_lockMachine", "ISession_unlockMachine", "IMachine_saveSettings"):
        service.answer(operation, None)
    service.answer("IWebsessionManager_getSessionObject", "s")
    service.answer("IMachine_getNetworkAdapter", "adapter")
    return Nat(service)


@pytest.fixture
def machine(service: FakeService) -> Machine:
    service.add("m", Name="one", State="Running", SessionState="Unlocked")
    return Machine(service.api, "m")


class Made:
    """Makes the forwards of machines, and releases them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[Forwards] = []

    def __call__(self, *adapters: Mapping[str, Any] | None) -> Forwards:
        model = machine_model({"network": list(adapters)} if adapters else None)
        forwards = Forwards(self._folder, model, "127.0.0.1")
        self.all.append(forwards)
        return forwards


@pytest.fixture
def forwards_of(tmp_path: Path) -> Iterator[Made]:
    made = Made(tmp_path)
    yield made
    for forwards in made.all:
        forwards.release()


# Chosen


def test_ssh_gets_a_port_of_its_own_for_each_machine(forwards_of: Made) -> None:
    one, two = forwards_of(), forwards_of()
    assert one.ssh_port != two.ssh_port
    ((rule, wake),) = one.rules.values()
    assert (wake.name, wake.protocol, wake.host_port) == ("wake", NATProtocol.UDP, rule.host_port)
    assert (rule.name, rule.protocol, rule.host_ip, rule.guest_port) == ("ssh", NATProtocol.TCP, "127.0.0.1", 22)
    assert rule.host_port == one.ssh_port


def test_the_models_rules_are_kept_and_open_ports_are_chosen(forwards_of: Made) -> None:
    dns = {"name": "dns", "protocol": "udp", "host_ip": "", "guest_ip": "10.0.2.15", "guest_port": 53}
    forwards = forwards_of({"nat_rules": [WEB, dns]})
    web, other, ssh, _ = forwards.rules[0]
    assert (web.name, web.host_port, web.host_ip, web.guest_port) == ("web", 8080, "127.0.0.1", 80)
    assert (other.protocol, other.host_ip, other.guest_ip) == (NATProtocol.UDP, "", "10.0.2.15")
    assert other.host_port > 1024
    assert ssh.name == "ssh"


def test_ssh_goes_through_the_first_adapter_behind_nat(forwards_of: Made) -> None:
    forwards = forwards_of({"attachment": "null"}, {"enabled": False}, None, {}, {"nat_rules": [WEB]})
    assert {slot: [rule.name for rule in rules] for slot, rules in forwards.rules.items()} == {
        3: ["ssh", "wake"],
        4: ["web"],
    }


def test_without_nat_there_is_no_way_in(forwards_of: Made, service: FakeService, machine: Machine) -> None:
    forwards = forwards_of({"attachment": "null"})
    assert (forwards.ssh_port, forwards.rules) == (None, {})
    with pytest.raises(MachineError, match="one has no network adapter behind NAT to forward port 80 through"):
        forwards.add(service.session, machine, 80, "tcp")


def test_ports_can_be_had_again_after_the_release(forwards_of: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    port = forwards_of().ssh_port
    assert port is not None
    monkeypatch.setattr(locks, "_PORTS", range(port, port + 1))
    monkeypatch.setattr(locks, "_TRIES", 1)
    with pytest.raises(Busy):
        forwards_of()
    forwards_of.all[0].release()
    assert forwards_of().ssh_port == port


# Checked


def test_a_log_without_complaints_changes_nothing(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat
) -> None:
    forwards = forwards_of()
    nat.log = "00:00:01 Starting\nNAT#0: failed to set up redirection of 1 to :22\n"
    before = forwards.rules
    forwards.check(service.session, machine, Deadline(10))
    assert forwards.rules == before
    assert nat.locks == []


def test_a_port_that_is_taken_is_changed_until_one_can_be_bound(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat
) -> None:
    forwards = forwards_of({"nat_rules": [WEB]})
    first = forwards.ssh_port
    nat.rules["ssh"] = {}
    nat.log = TAKEN.format(first)
    refused: list[int] = []

    def refuse_once(rule: Arguments) -> None:
        if not refused:
            refused.append(rule["hostPort"])
            nat.taken.add(rule["hostPort"])
        nat._add(rule)

    service.handlers["INATEngine_addRedirect"] = refuse_once
    forwards.check(service.session, machine, Deadline(10))
    assert forwards.ssh_port not in {first, *refused}
    assert nat.rules["ssh"]["hostPort"] == forwards.ssh_port
    assert nat.locks == ["Shared", "Shared"]


def test_a_port_that_the_model_wants_is_not_changed_but_named(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat
) -> None:
    forwards = forwards_of({"nat_rules": [WEB]})
    nat.log = TAKEN.format(8080)
    with pytest.raises(MachineError, match=r"port 8080 of the host, which the rule 'web' wants, is taken"):
        forwards.check(service.session, machine, Deadline(10))


def test_it_gives_up_where_no_port_can_be_bound(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat
) -> None:
    forwards = forwards_of()
    nat.rules["ssh"] = {}
    nat.log = TAKEN.format(forwards.ssh_port)
    nat.taken.update(range(65536))
    with pytest.raises(MachineError, match="could not bind a port for 1 forwards"):
        forwards.check(service.session, machine, Deadline(10))
    assert len(nat.locks) < 10


# Added


@pytest.mark.parametrize(("state", "lock"), [("Running", "Shared"), ("Paused", "Shared"), ("PoweredOff", "Write")])
def test_a_forward_is_added_with_the_lock_of_the_machines_state(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat, state: str, lock: str
) -> None:
    service.objects["m"]["State"] = state
    port = forwards_of().add(service.session, machine, 80, "tcp")
    assert nat.rules["forward-tcp-80"] == {
        "_this": "nat",
        "name": "forward-tcp-80",
        "proto": "TCP",
        "hostIP": "127.0.0.1",
        "hostPort": port,
        "guestIP": "",
        "guestPort": 80,
    }
    assert nat.locks == [lock]
    assert "IMachine_saveSettings" in service.names


def test_asking_again_gives_the_same(forwards_of: Made, service: FakeService, machine: Machine, nat: Nat) -> None:
    forwards = forwards_of({"nat_rules": [WEB]})
    port = forwards.add(service.session, machine, 443, "tcp")
    assert forwards.add(service.session, machine, 443, "tcp") == port
    assert forwards.add(service.session, machine, 443, "udp") != port
    assert forwards.add(service.session, machine, 80, "tcp") == 8080
    assert forwards.add(service.session, machine, 22, "tcp") == forwards.ssh_port
    assert nat.rules.keys() == {"forward-tcp-443", "forward-udp-443"}


def test_an_added_forward_whose_port_is_taken_gets_another_one(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat
) -> None:
    first: list[int] = []

    def refuse_once(rule: Arguments) -> None:
        if not first:
            nat.taken.add(rule["hostPort"])
        first.append(rule["hostPort"])
        nat._add(rule)

    service.handlers["INATEngine_addRedirect"] = refuse_once
    port = forwards_of().add(service.session, machine, 80, "tcp")
    assert port == nat.rules["forward-tcp-80"]["hostPort"]
    assert port not in nat.taken


def test_a_forward_that_could_not_be_added_is_not_there_the_next_time(
    forwards_of: Made, service: FakeService, machine: Machine, nat: Nat
) -> None:
    forwards = forwards_of()
    service.answer("INATEngine_addRedirect", Refusal(0x80070057, "no"))
    with pytest.raises(InvalidArgument):
        forwards.add(service.session, machine, 80, "tcp")
    service.handlers["INATEngine_addRedirect"] = nat._add
    port = forwards.add(service.session, machine, 80, "tcp")
    assert nat.rules["forward-tcp-80"]["hostPort"] == port


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(
    forwards_of: Made, service: FakeService, machine: Machine, port: int
) -> None:
    with pytest.raises(ValueError, match="guest_port must be between 1 and 65535"):
        forwards_of().add(service.session, machine, port, "tcp")


def test_a_protocol_that_is_none_is_refused(forwards_of: Made, service: FakeService, machine: Machine) -> None:
    with pytest.raises(ValueError, match="SCTP"):
        forwards_of().add(service.session, machine, 80, "sctp")
