"""Port forwards of one machine: reserved among all workers, checked after the start, released at the end."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.machines.build import SSH_RULE, nat_slot
from pytest_vbox.machines.diagnosis import vbox_log
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.power import PATIENCE
from pytest_vbox.models import MachineModel
from pytest_vbox.ownership import PortLock, reserve_port
from pytest_vbox.virtualbox import Machine, NATEngine, Redirect, WebSession
from pytest_vbox.virtualbox.enums import LockType, NATProtocol

# A port that cannot be bound does not stop a machine from starting; VirtualBox only says so in its log.
_FAILED: Final = re.compile(rb"failed to set up redirection of (\d{1,5}) to")
_TRIES: Final = 5
#: The name of the NAT rule through which a resumed guest is asked for a sign of life.
WAKE_RULE: Final = "wake"


class Forwards:
    """The forwards of one machine.

    Args:
        state: The state folder.
        model: The machine's model.
        bind: The address on the host that forwards listen on.
        fixed_ports: Use the host's ports that the model fixes; else others take their place.
    """

    def __init__(self, state: Path, model: MachineModel, bind: str, *, fixed_ports: bool = True) -> None:
        self._state = state
        self._bind = bind
        self._slot = nat_slot(model.hardware)
        self._locks: dict[int, PortLock] = {}
        self._fixed: dict[int, list[Redirect]] = {}
        self._own: dict[str, Redirect] = {}
        #: Is told of the ports before they are used.
        self.on_change: Callable[[tuple[int, ...]], None] = lambda _: None
        for slot, adapter in enumerate(model.hardware.network):
            for rule in adapter.nat_rules if adapter is not None else ():
                port = (rule.host_port if fixed_ports else 0) or self._reserve()
                redirect = Redirect(
                    rule.name,
                    NATProtocol(rule.protocol.upper()),
                    rule.host_ip,
                    port,
                    rule.guest_ip,
                    rule.guest_port,
                )
                self._fixed.setdefault(slot, []).append(redirect)
        if self._slot is not None:
            ssh = self._own[SSH_RULE] = self._new(SSH_RULE, model.image.ssh_port, NATProtocol.TCP)
            # TCP and UDP have ports of their own, so this is the same number.
            self._own[WAKE_RULE] = replace(ssh, name=WAKE_RULE, protocol=NATProtocol.UDP)

    @property
    def ssh_port(self) -> int | None:
        """The host's port that leads to the guest's SSH server, or None without an adapter behind NAT."""
        rule = self._own.get(SSH_RULE)
        return rule.host_port if rule is not None else None

    def ssh_address(self, host: str, machine: str) -> tuple[str, int]:
        """Where the guest's SSH server is reached.

        Args:
            host: The host, as seen from here.
            machine: The machine's name, for the error.

        Raises:
            MachineError: There is no adapter behind NAT.
        """
        port = self.ssh_port
        if port is None:
            raise MachineError(f"{machine} has no network adapter behind NAT, so no way for SSH")
        return host, port

    @property
    def reserved(self) -> tuple[int, ...]:
        """The ports of the host that nobody else takes meanwhile."""
        return tuple(self._locks)

    @property
    def rules(self) -> dict[int, list[Redirect]]:
        """All rules, by the slot of their adapter."""
        rules = {slot: list(redirects) for slot, redirects in self._fixed.items()}
        if self._slot is not None:
            rules.setdefault(self._slot, []).extend(self._own.values())
        return rules

    def wake(self, host: str) -> None:
        """Send the guest a datagram, so that VirtualBox's NAT asks for its hardware address.

        NAT forgets that when a machine is saved. It drops the first packet to an address it does not know, and
        where that is the first of a connection, half a second passes until the next.
        """
        rule = self._own.get(WAKE_RULE)
        if rule is not None:
            with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
                knock.sendto(b"\n", (host, rule.host_port))

    def add(self, session: WebSession, machine: Machine, guest_port: int, protocol: str) -> int:
        """Forward one more port, of a running machine or of one that is off. Returns the host's port."""
        if self._slot is None:
            raise MachineError(
                f"{machine.name} has no network adapter behind NAT to forward port {guest_port} through"
            )
        if not 0 < guest_port < 65536:
            raise ValueError(f"guest_port must be between 1 and 65535, not {guest_port}")
        kind = NATProtocol(protocol.upper())
        same = next((r for r in self.rules[self._slot] if (r.guest_port, r.protocol) == (guest_port, kind)), None)
        if same is not None:
            return same.host_port
        name = f"forward-{protocol}-{guest_port}"
        rule = self._new(name, guest_port, kind)
        self._change(session, machine, add=rule)
        self._own[name] = rule
        if machine.state.is_online:
            self.check(session, machine, Deadline(PATIENCE))
        return self._own[name].host_port

    def check(self, session: WebSession, machine: Machine, deadline: Deadline) -> None:
        """See in the log that VirtualBox could bind every port; give our own rules another port if not.

        Raises:
            MachineError: A port that the model fixes is taken, or no port could be had.
        """
        offset = 0
        for _ in range(_TRIES):
            log = vbox_log(machine, offset)
            offset += len(log)
            failed = {int(match.group(1)) for match in _FAILED.finditer(log)}
            for redirect in (rule for rules in self._fixed.values() for rule in rules if rule.host_port in failed):
                raise MachineError(
                    f"port {redirect.host_port} of the host, which the rule {redirect.name!r} wants, is taken by "
                    "another program; use host_port: 0, and Machine.forward() to learn which one it became"
                )
            # The log does not tell TCP from UDP. A guest that cannot be woken is only slower to reach.
            taken = [rule for rule in self._own.values() if rule.host_port in failed and rule.name != WAKE_RULE]
            if not taken:
                return
            for rule in taken:
                self._own[rule.name] = self._new(rule.name, rule.guest_port, rule.protocol)
                self._change(session, machine, remove=rule.name, add=self._own[rule.name])
            if deadline.expired:
                break
        raise MachineError(f"{machine.name}: VirtualBox could not bind a port for {len(taken)} forwards")

    def release(self) -> None:
        """Let others have the ports."""
        for lock in self._locks.values():
            lock.release()
        self._locks.clear()

    def _change(self, session: WebSession, machine: Machine, *, add: Redirect, remove: str | None = None) -> None:
        kind = LockType.SHARED if machine.state.is_online else LockType.WRITE
        with session.lock(machine, kind, Deadline(PATIENCE)) as held:
            mutable = held.machine
            engine: NATEngine = mutable.get_network_adapter(self._slot or 0).nat_engine
            if remove is not None:
                engine.remove_redirect(remove)
            engine.add_redirect(add)
            mutable.save_settings()

    def _new(self, name: str, guest_port: int, protocol: NATProtocol) -> Redirect:
        return Redirect(name, protocol, self._bind, self._reserve(), "", guest_port)

    def _reserve(self) -> int:
        lock = reserve_port(self._state, self._bind or "0.0.0.0")  # noqa: S104 - for a remote host
        self._locks[lock.port] = lock
        self.on_change(self.reserved)
        return lock.port
