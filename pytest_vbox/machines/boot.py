"""One start of a machine, phase by phase, and what is told when it does not come up."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pytest_vbox import guest
from pytest_vbox.deadline import Deadline
from pytest_vbox.exhaustion import explain
from pytest_vbox.guest import CloudInitDone, Connection, GuestError
from pytest_vbox.machines import diagnosis, power
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.errors import BootError, MachineError
from pytest_vbox.machines.forwards import Forwards
from pytest_vbox.machines.plan import Plan
from pytest_vbox.virtualbox import Machine
from pytest_vbox.virtualbox.enums import MachineState
from pytest_vbox.virtualbox.errors import VirtualBoxError

_WENT_OFF: Final = "the machine went to state {} by itself while it was expected to boot"
#: Seconds after which a guest that has sent nothing is tried all the same: it may be waiting to be asked.
_SILENT_GUEST: Final = 10.0
#: Seconds after which a resumed guest that has not answered is tried all the same, and between two looks.
_RESUMED_GUEST: Final = 1.0
_OFTEN: Final = 0.01
_DOING: Final = {
    "launch": "the launch",
    "forward": "the ports",
    "network": "the guest's network",
    "ssh": "SSH",
    "cloud-init": "cloud-init",
}


class Boot:
    """Brings a machine from off to connected, under one deadline.

    Args:
        context: Where the machine lives.
        plan: What it is.
        machine: The machine in VirtualBox.
        forwards: Its port forwards.
        host_key: The key its SSH server showed before, or None if it may show any.
        first: Whether the guest has never booted from this disk: then cloud-init, if the image has it, is at work.
        patience: Seconds after which an SSH handshake is given up before its time, or None for no such limit.

    Attributes:
        phases: The seconds that each finished phase took: launch, forward, network, ssh, cloud-init.
    """

    def __init__(
        self,
        context: Context,
        plan: Plan,
        machine: Machine,
        forwards: Forwards,
        host_key: str | None,
        *,
        first: bool = False,
        patience: float | None = None,
    ) -> None:
        self.phases: dict[str, float] = {}
        self._context = context
        self._plan = plan
        self._machine = machine
        self._forwards = forwards
        self._host_key = host_key
        self._cloud_init = first and plan.model.image.cloud_init is not None
        self._patience = patience
        self._connection: Connection | None = None

    def start(self) -> Connection | None:
        """Start the machine (or go on from its saved state) and log in, if there is a way in.

        Raises:
            BootError: It did not come up.
        HostExhausted: It did not, since this computer has no more of something.
        """
        __tracebackhide__ = True
        deadline = Deadline(self._plan.boot_timeout)
        resumed = self._machine.state in {MachineState.SAVED, MachineState.ABORTED_SAVED}
        self._phase("launch", deadline, self._launch)
        self._phase("forward", deadline, self._check_forwards)
        if self._forwards.ssh_port is None:
            return None
        self._phase("network", deadline, self._wait_for_answer if resumed else self._wait_for_network)
        return self.connect(deadline if self._patience is None else deadline.sooner(self._patience))

    def connect(self, deadline: Deadline) -> Connection:
        """Log in to a machine that runs.

        Raises:
            BootError: It does not let us in.
        """
        __tracebackhide__ = True
        self._phase("ssh", deadline, self._connect)
        connection = self._connection
        assert connection is not None  # noqa: S101 - for the type checker: the phase has set it
        if self._cloud_init:
            try:
                self._phase("cloud-init", deadline, lambda left: CloudInitDone().wait(connection, left))
            except BaseException:
                connection.close()
                raise
        return connection

    def _launch(self, deadline: Deadline) -> None:
        power.launch(self._context.session, self._machine, deadline)

    def _check_forwards(self, deadline: Deadline) -> None:
        self._forwards.check(self._context.session, self._machine, deadline)

    def _wait_for_network(self, deadline: Deadline) -> None:
        patience = deadline.sooner(min(_SILENT_GUEST, deadline.remaining / 2))
        power.wait_for_first_packet(self._context.session, self._machine, patience, self._check_alive)

    def _wait_for_answer(self, deadline: Deadline) -> None:
        """The network of a guest that was resumed is up; what is waited for is that NAT knows where it is."""

        def ask() -> None:
            self._forwards.wake(self._context.address)

        ask()
        patience = deadline.sooner(_RESUMED_GUEST)
        power.wait_for_first_packet(self._context.session, self._machine, patience, ask, every=_OFTEN)

    def _connect(self, deadline: Deadline) -> None:
        self._connection = guest.connect(
            self._forwards.ssh_address(self._context.address, self._plan.name),
            self._context.login(self._plan),
            deadline,
            known_host_key=self._host_key,
            on_wait=self._check_alive,
            retry_refused=self._cloud_init,
        )

    def _check_alive(self) -> None:
        self._context.check_wanted()
        state = power.settled_state(self._context.session, self._machine)
        if state not in power.RUNNING | {MachineState.STARTING, MachineState.RESTORING}:
            raise MachineError(_WENT_OFF.format(state))
        diagnosis.check_not_stopped(self._machine, state, local=self._context.local)

    def _phase(self, phase: str, deadline: Deadline, step: Callable[[Deadline], None]) -> None:
        __tracebackhide__ = True
        before = deadline.elapsed
        try:
            with self._context.journal.doing(f"{_DOING[phase]} of {self._plan.name}", deadline.seconds):
                step(deadline)
        except (VirtualBoxError, GuestError, MachineError) as error:
            better = explain(error, f"starting {self._plan.name} (phase {phase})", self._context.folders)
            # Such an error does not speak against the machine, nor against what it was forked from.
            raise better or self._error(phase, deadline, error) from error
        self.phases[phase] = deadline.elapsed - before

    def _error(self, phase: str, deadline: Deadline, error: Exception) -> BootError:
        name, model = self._plan.name, self._plan.model
        shown = diagnosis.diagnose(self._context.session, self._machine, local=self._context.local)
        files = shown.save(self._context.artifacts_folder(name, self._plan.owner.test))
        picture = next((file for file in files if file.suffix == ".png"), None)
        report = "\n".join(
            (
                f"machine {name} (image {model.image_name}, profile {model.profile_name}) did not come up",
                f"phase: {phase}, after {deadline.elapsed:.1f} s of at most {deadline.seconds:g} s",
                f"reason: {_reason(phase, shown.state, error)}",
                shown.text(),
                *(f"saved: {file}" for file in files),
                _advice(phase, error),
            )
        )
        return BootError(name, phase, deadline.elapsed, report, picture)


def _reason(phase: str, state: str, error: Exception) -> str:
    """A machine that is gone is the reason for whatever else failed while it was expected to boot."""
    if phase in {"launch", "forward"} or isinstance(error, MachineError) or state in power.RUNNING:
        return str(error)
    return f"{_WENT_OFF.format(state)} ({error})"


def _advice(phase: str, error: Exception) -> str:
    text = str(error)
    if phase == "launch":
        if re.search(r"VT-x|AMD-V|VERR_VMX|VERR_SVM|vboxdrv|VERR_VM_DRIVER", text):
            return "try: pytest-vbox needs VirtualBox's kernel driver and hardware virtualisation on the host"
        return "try: VBoxManage startvm for this image by hand; VBox.log above says what VirtualBox missed"
    if phase == "cloud-init" and isinstance(error, guest.WaitTimeout):
        return (
            "try: give the image a longer boot_timeout, since packages and scripts take their time; "
            "`cloud-init analyze blame` in a machine kept with --vbox-keep=failed shows what took it"
        )
    if phase == "cloud-init":
        return (
            "try: correct the image's cloud_init; in a machine kept with --vbox-keep=failed, `cloud-init status "
            "--long` and /var/log/cloud-init.log say more"
        )
    if isinstance(error, guest.LoginRefused) and error.tries > 1:
        return (
            "try: look at what cloud-init says on the screenshot and the serial console: it has to be in the "
            "image and to read a NoCloud seed; it may also have stumbled over the image's user_data"
        )
    if isinstance(error, guest.LoginRefused | guest.HostKeyMismatch | guest.KeyUnusable):
        return "try: compare the image's user, password, private_key and host_key with what is in the guest"
    return "try: look at the screenshot and the serial console; a slow guest needs a longer --vbox-boot-timeout"
