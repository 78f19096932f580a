"""The machine a test gets: the VirtualBox machine and the SSH connection in one object."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pytest_vbox import guest
from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import Condition
from pytest_vbox.machines import addresses, diagnosis, keyboard, power
from pytest_vbox.machines.body import Body
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.settings import Reset
from pytest_vbox.virtualbox.enums import LockType, MachineState

if TYPE_CHECKING:
    import paramiko

#: Seconds between two keys; VBoxManage's keyboardputstring waits as long.
_KEY_PAUSE: Final = 0.05


class Machine(Body):
    """One VirtualBox machine, made for a test and gone after it.

    Got from the ``vbox_machine`` fixture, or from :meth:`pytest_vbox.machines.VirtualBoxHost.machine`.

    Attributes:
        name: Its name in VirtualBox.
        image: The name of its image.
        profile: The name of its hardware profile.
        api: The typed VirtualBox machine underneath, for what this class does not have.
    """

    def __repr__(self) -> str:
        return f"<Machine {self.name} ({self.image}, {self.profile})>"

    # What it is

    @property
    def name(self) -> str:
        """Its name in VirtualBox, with the test's name in it."""
        return self._plan.name

    @property
    def id(self) -> str:
        """Its UUID in VirtualBox."""
        return self._plan.id

    @property
    def image(self) -> str:
        """The name of its image."""
        return self._plan.model.image_name

    @property
    def profile(self) -> str:
        """The name of its hardware profile."""
        return self._plan.model.profile_name

    @property
    def state(self) -> MachineState:
        """Its state, asked of VirtualBox now."""
        return self.api.state

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that its SSH server is reached at.

        Raises:
            MachineError: Its hardware has no adapter behind NAT.
        """
        return self._forwards.ssh_address(self._context.address, self.name)

    @property
    def phases(self) -> Mapping[str, float]:
        """The seconds that each part of its coming took.

        Of a cold boot these are launch, forward, network, ssh and cloud-init; of a fork golden, clone, launch,
        forward, ssh and on-fork; of a parked machine resume.
        """
        return MappingProxyType(self._phases)

    # In the guest

    @property
    def ssh(self) -> paramiko.SSHClient:
        """A connected ``paramiko.SSHClient``."""
        return self._connected.ssh

    @property
    def sftp(self) -> paramiko.SFTPClient:
        """A connected ``paramiko.SFTPClient``."""
        return self._connected.sftp

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        timeout: float | None = 300,
        sudo: bool = False,
        input: str | bytes | None = None,  # noqa: A002 - as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest and wait for its end.

        Args:
            command: A list is quoted; a string goes to the user's shell.
            check: Raise an error unless its exit status is 0.
            timeout: Seconds it may take; None for no limit.
            sudo: Run it as root.
            input: What it reads.
            env: Environment variables to add.
            cwd: The folder to run in.

        Raises:
            CommandError: A ``subprocess.CalledProcessError`` that shows stdout and stderr.
            CommandTimeout: A ``subprocess.TimeoutExpired``; the command was killed.
            ConnectionLost: The guest went away meanwhile.
        """
        __tracebackhide__ = True
        # Not after, but together with what has to be done first in a guest that was resumed.
        with self._in_guest():
            return guest.run(
                self._connected_as_it_is,
                command,
                check=check,
                timeout=timeout,
                sudo=sudo,
                input=input,
                env=env,
                cwd=cwd,
            )

    def put(self, local: str | os.PathLike[str], remote: str) -> None:
        """Copy a file or a folder into the guest; into an existing folder it goes under its own name."""
        with self._in_guest():
            guest.put(self._connected, local, remote)

    def get(self, remote: str, local: str | os.PathLike[str]) -> None:
        """Copy a file or a folder out of the guest."""
        with self._in_guest():
            guest.get(self._connected, remote, local)

    def shell(self) -> int:
        """An interactive shell in the guest, on this process's terminal, until it ends. Returns its exit status.

        For looking around from a Python prompt; in a test, pytest has the terminal (``pytest -s`` gives it back).
        """
        return guest.interact(self._connected)

    def wait_for(self, condition: Condition | Callable[[], object], timeout: float = 60) -> None:
        """Wait until something holds in the guest.

        Args:
            condition: One of ``pytest_vbox.guest``'s (``PortOpen(80)``, ``FileExists("/x")``,
                ``CommandSucceeds("…")``), or a function that returns something true in the end.
            timeout: Seconds.

        Raises:
            WaitTimeout: It did not; says what was seen last.
        """
        with self._in_guest():
            guest.wait_for(self._connected, condition, Deadline(timeout))

    def reconnect(self, timeout: float | None = None) -> None:
        """Drop the SSH connection and make a new one, as soon as the guest lets us.

        Args:
            timeout: Seconds; by default as long as a boot may take.
        """
        self._disconnect()
        self._keep(self._new_boot().connect(Deadline(timeout or self._plan.boot_timeout)))

    # Power

    def start(self) -> None:
        """Start the machine (or go on from its saved state) and wait for SSH.

        Raises:
            BootError: It did not come up; says how far it came, and what it showed.
        """
        __tracebackhide__ = True
        image, saved = self._plan.model.image, self._is_saved
        if image.attach == "immutable" and not saved:
            if self._forked:
                # Its disk is a difference to one that has been booted, which VirtualBox would not empty.
                self._is_now(self._steward.rebuild(self, Reset.DISK))
            if image.cloud_init is not None:
                self._now_untouched()
        if self._place is None:
            self._place = self._steward.take_place(self._plan)
        boot, made = self._new_boot(), self._made
        self._made = {}
        try:
            self._keep(boot.start())
        finally:
            self._phases = made | boot.phases
            self._place.started()
        self._untouched = False
        if saved:
            self._settle_first()

    def power_off(self) -> None:
        """Pull the plug. A machine that is off already stays so."""
        self._disconnect()
        power.power_off(self._context.session, self.api)

    def shutdown(self, timeout: float = 60) -> None:
        """Press the power button, and wait until the guest has switched itself off.

        Args:
            timeout: Seconds the guest may take.

        Raises:
            OperationTimeout: It did not react; ``power_off()`` will do.
        """
        self._disconnect()
        deadline = Deadline(timeout)
        with power.console(self._context.session, self.api, deadline) as running:
            running.power_button()
        self._context.session.wait_for_state(self.api, power.OFF, deadline)
        self._context.session.wait_for_unlock(self.api, deadline)

    def reboot(self, timeout: float = 60) -> None:
        """Shut the guest down, start it again, and wait for SSH.

        Args:
            timeout: Seconds the guest may take to shut down.
        """
        self.shutdown(timeout)
        self.start()

    def pause(self) -> None:
        """Freeze the machine; its connection is kept."""
        with power.console(self._context.session, self.api, Deadline(power.PATIENCE)) as running:
            running.pause()

    def resume(self) -> None:
        """Let a paused machine go on."""
        with power.console(self._context.session, self.api, Deadline(power.PATIENCE)) as running:
            running.resume()

    def suspend(self) -> None:
        """Save the machine's state and switch it off; ``start()`` goes on from there."""
        self._disconnect()
        deadline = Deadline(power.PATIENCE)
        with (
            self._explained("saving the state of"),
            self._context.session.lock(self.api, LockType.SHARED, deadline) as held,
        ):
            held.machine.save_state().wait(deadline)
        self._context.session.wait_for_unlock(self.api, deadline)

    # Pristine again

    def snapshot(self, name: str) -> None:
        """Take a snapshot; of a running machine, its memory is in it too.

        Args:
            name: What ``restore`` will call it.
        """
        deadline = Deadline(power.PATIENCE)
        running = self.state.is_online
        with (
            self._explained("taking a snapshot of"),
            self._context.session.lock(self.api, LockType.SHARED if running else LockType.WRITE, deadline) as held,
        ):
            held.machine.take_snapshot(name).wait(deadline)

    def restore(self, name: str) -> None:
        """Go back to a snapshot: disk and, if it ran then, memory; then it runs again, newly connected."""
        self.power_off()
        deadline = Deadline(power.PATIENCE)
        with (
            self._explained("restoring a snapshot of"),
            self._context.session.lock(self.api, LockType.WRITE, deadline) as held,
        ):
            mutable = held.machine
            mutable.restore_snapshot(mutable.find_snapshot(name)).wait(deadline)
        if self.state is MachineState.SAVED:
            self.start()
        else:
            # The snapshot may be from before the first boot; if not, cloud-init is done soon enough.
            self._untouched = True

    def reset(self, mode: Reset | str | None = None) -> None:
        """Make the machine as good as new: what the tests wrote is gone.

        The object stays the same, with a new connection.

        Args:
            mode: ``live`` goes back to where the machine was forked from, memory and all (and boots one that was
                not forked, as ``disk`` does); ``disk`` gives it an empty differencing disk and boots it;
                ``fresh`` replaces it by a new machine (other name, other UUID). Default: as asked for, else
                ``--vbox-reset``.
        """
        mode = Reset(mode) if mode is not None else self._plan.reset
        started = time.monotonic()
        with self._explained("resetting"):
            self.power_off()
            if mode is Reset.LIVE and self._origin is not None:
                self._is_now(self._steward.rebuild(self, Reset.LIVE))
            else:
                self._empty(mode)
                self._now_untouched()
            self.start()
        self._steward.was_reset(self, time.monotonic() - started)

    def _empty(self, mode: Reset) -> None:
        if mode is Reset.FRESH or self.api.snapshot_count or self._plan.model.hardware.has_media_of_its_own:
            self._is_now(self._steward.rebuild(self, Reset.FRESH))
        elif self._forked:
            self._is_now(self._steward.rebuild(self, Reset.DISK))
        else:
            self._empty_disk()

    def _empty_disk(self) -> None:
        if self._is_saved:
            with self._context.session.lock(self.api, LockType.WRITE, Deadline(power.PATIENCE)) as held:
                held.machine.discard_saved_state()
        for attachment in self.api.medium_attachments:
            medium = attachment.medium
            if medium is not None and medium.parent is not None:
                medium.reset().wait(Deadline(power.PATIENCE))

    # Network

    def forward(self, guest_port: int, protocol: str = "tcp") -> tuple[str, int]:
        """Make a port of the guest reachable, while it runs.

        Args:
            guest_port: The port in the guest.
            protocol: ``tcp`` or ``udp``.

        Returns:
            Host and port to connect to. Asking again for the same port gives the same.
        """
        self._settle()
        return self._context.address, self._forwards.add(self._context.session, self.api, guest_port, protocol)

    def ip(self, slot: int = 0, timeout: float = 30) -> str:
        """The IPv4 address of an adapter, from the guest properties (needs Guest Additions in the guest).

        Args:
            slot: The adapter's slot in the hardware model.
            timeout: Seconds to wait until the guest says.

        Raises:
            MachineError: It did not.
        """
        return addresses.address(self._context.session.virtualbox, self.api, slot, Deadline(timeout))

    # What it shows

    def screenshot(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """A PNG of its first screen.

        Args:
            path: Where to write it too.
        """
        picture = diagnosis.screenshot(self._context.session, self.api)
        if path is not None:
            Path(path).write_bytes(picture)
        return picture

    def serial_log(self) -> str:
        """What the guest said on its first serial port since it booted, as another machine if this is a fork.

        Raises:
            MachineError: VirtualBox is on another computer.
        """
        if not self._context.local:
            raise MachineError(
                f"the serial log of {self.name} is on {self._context.address}, not on this computer"
            )
        return diagnosis.serial_log(self.api, self._booted_as)

    def send_keys(self, text: str) -> None:
        r"""Type a text on the machine's (US) keyboard, 20 keys a second; ``\n`` is Enter."""
        keys = [list(keyboard.scancodes(letter)) for letter in text]
        pause = threading.Event()
        with power.console(self._context.session, self.api, Deadline(power.PATIENCE)) as running:
            board = running.keyboard
            for codes in keys:
                board.put_scancodes(codes)
                # The keyboard drops what the guest does not fetch in time, and nothing tells when it has.
                pause.wait(_KEY_PAUSE)

    def guest_property(self, name: str) -> str:
        """A guest property's value, or the empty string."""
        return self.api.get_guest_property_value(name)

    def set_guest_property(self, name: str, value: str) -> None:
        """Set a guest property; the guest sees it with ``VBoxControl guestproperty get``."""
        with self._context.session.lock(
            self.api, LockType.SHARED if self.state.is_online else LockType.WRITE, Deadline(power.PATIENCE)
        ) as held:
            held.machine.set_guest_property(name, value)

    def diagnose(self) -> diagnosis.Diagnosis:
        """State, screen, serial console and VBox.log, as far as they can be had."""
        return diagnosis.diagnose(
            self._context.session, self.api, local=self._context.local, booted_as=self._booted_as
        )
