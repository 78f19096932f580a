"""What a machine is inside: in VirtualBox, over SSH, and with regard to what it was forked from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pytest_vbox import guest
from pytest_vbox.deadline import Deadline
from pytest_vbox.exhaustion import Explained, explained
from pytest_vbox.guest import Connection, Settling
from pytest_vbox.machines import diagnosis, power
from pytest_vbox.machines.boot import Boot
from pytest_vbox.machines.build import sign
from pytest_vbox.machines.context import Context
from pytest_vbox.machines.errors import MachineError
from pytest_vbox.machines.forwards import Forwards
from pytest_vbox.machines.golden import Golden
from pytest_vbox.machines.plan import Plan, host_name
from pytest_vbox.ownership import Place
from pytest_vbox.settings import Reset
from pytest_vbox.virtualbox import Console, Session
from pytest_vbox.virtualbox import Machine as ApiMachine
from pytest_vbox.virtualbox.enums import LockType, MachineState
from pytest_vbox.virtualbox.errors import VirtualBoxError

if TYPE_CHECKING:
    from pytest_vbox.machines.machine import Machine

# Seconds that the SSH handshake of a fork may take: it was quick when its origin was made.
_FORK_PATIENCE: Final = 30.0
_TIMES_SLOWER: Final = 20
# Seconds from which on a guest that says nothing, while it is to be killed in, is worth a look.
_SILENCE: Final = 5.0
# Seconds in which a guest that ended its connections may switch itself off.
_GOING_OFF: Final = 2.0


class Built(NamedTuple):
    """A machine in VirtualBox, with what belongs to it; with what it was forked from, if it was."""

    plan: Plan
    api: ApiMachine
    forwards: Forwards
    origin: Golden | None = None


class Steward(Protocol):
    """Whoever a machine comes from, for what it cannot do by itself."""

    def rebuild(self, machine: Machine, mode: Reset) -> Built:
        """Make it anew, not started yet: as it was forked, with a new disk, or as another machine."""

    def take_place(self, plan: Plan) -> Place:
        """A share of the host; waits until there is one."""

    def was_reset(self, machine: Machine, seconds: float) -> None:
        """Write down that it was made pristine again."""


class _Parked(NamedTuple):
    """The lock on a machine that waits for somebody."""

    session: Session
    console: Console
    hold: ExitStack


class Body:
    """A machine, for those in this room.

    Attributes:
        api: The typed VirtualBox machine underneath.
    """

    def __init__(
        self,
        context: Context,
        built: Built,
        steward: Steward,
        place: Place | None = None,
    ) -> None:
        self._context = context
        self._steward = steward
        self._connection: Connection | None = None
        self._host_key: str | None = None
        self._phases: dict[str, float] = {}
        # The seconds that parts of its making took, before its first start.
        self._made: dict[str, float] = {}
        self._parked: _Parked | None = None
        # Its share of what all machines of the host may take, from its first start on.
        self._place = place
        # What it was forked from, and may go back to.
        self._origin: Golden | None = None
        self._is_now(built)

    @property
    def _connected(self) -> Connection:
        connection = self._connected_as_it_is
        guest.settle(connection)
        return connection

    @property
    def _connected_as_it_is(self) -> Connection:
        if self._connection is None:
            raise MachineError(
                f"{self._plan.name} is not connected (it is {self.api.state}); start() it, or reconnect()"
            )
        return self._connection

    @contextmanager
    def _in_guest(self) -> Iterator[None]:
        """Say, with an error that tells that the guest is gone or stands still, what the machine shows."""
        __tracebackhide__ = True
        try:
            yield
        except guest.ConnectionLost as error:
            # One that switches itself off ends its connections before.
            with suppress(VirtualBoxError):
                self._context.session.wait_for_state(self.api, power.OFF, Deadline(_GOING_OFF))
            error.add_note(self._shown())
            raise
        except guest.CommandTimeout as error:
            if error.unheard > _SILENCE:
                error.add_note(self._shown())
            raise

    def _shown(self) -> str:
        local, booted_as = self._context.local, self._booted_as
        shown = diagnosis.diagnose(self._context.session, self.api, local=local, booted_as=booted_as)
        return f"What {self._plan.name} showed then:\n{shown.text()}"

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _keep(self, connection: Connection | None) -> None:
        self._connection = connection
        if connection is not None:
            self._host_key = connection.host_key
            connection.on_silence = self._check_not_stopped

    @property
    def _booted_as(self) -> ApiMachine | None:
        """The machine that its guest was booted in, if this is a fork of it."""
        if not self._forked or self._origin is None:
            return None
        with suppress(VirtualBoxError):
            return self._context.session.virtualbox.find_machine(self._origin.id)
        return None

    def _is_now(self, built: Built) -> None:
        """It is another machine in VirtualBox now, or the same one with another disk."""
        self._plan, self.api, self._forwards, origin = built
        self._forked = self._fresh = origin is not None
        self._origin = origin or self._origin
        # Whether its disk is as the image has it; cloud-init is at work in the boot after that.
        self._untouched = origin is None
        # A new disk may have a new host key, made at its first boot; a fork has that of its origin.
        self._host_key = origin.host_key if origin is not None else None

    def _new_boot(self) -> Boot:
        patience = None
        if self._forked and self._is_saved and self._origin is not None:
            patience = max(_FORK_PATIENCE, _TIMES_SLOWER * self._origin.ssh_seconds)
        return Boot(
            self._context,
            self._plan,
            self.api,
            self._forwards,
            self._host_key,
            first=self._untouched,
            patience=patience,
        )

    def _settle_first(self, *, reseed: bool = True) -> None:
        """Have done what a resumed guest needs, with the first command."""
        if self._connection is None:
            return
        login = self._connection.login
        asks = self._origin.sudo_asks if self._origin is not None else login.password_for_sudo is not None
        named = self._plan.model.image.set_hostname and reseed
        hostname = host_name(self._plan.name) if named else None
        # What was left in the guest for it is used up after the first time.
        tool = self._origin.tool if self._fresh and self._origin is not None else ""
        self._fresh = False
        self._connection.settle_first(Settling(reseed=reseed, hostname=hostname, sudo_asks=asks, tool=tool))

    def _settle(self) -> None:
        if self._connection is not None:
            guest.settle(self._connection)

    def _park(self) -> None:
        """Freeze it, connected and with nothing left to do in the guest, until somebody wants it."""
        pending = self._connection.take_settling() if self._connection is not None else None
        if self._connection is not None and pending is not None:
            # Its clock stands still from here on, and is set when it goes on.
            self._connection.settle_first(replace(pending, clock=False))
            self._settle()
        # Locked from here on, so that letting it go on is one call.
        with ExitStack() as hold:
            held = hold.enter_context(
                self._context.session.lock(self.api, LockType.SHARED, Deadline(power.PATIENCE))
            )
            console = held.console
            console.pause()
            self._parked = _Parked(held, console, hold.pop_all())

    def _unpark(self, plan: Plan) -> bool:
        """Let it go on, for somebody. Returns whether it is alive, as far as can be told without a question."""
        self._plan = plan
        if self._parked is None or self._connection is None or not self._connection.alive:
            return False
        self._parked.console.resume()
        self._settle_first(reseed=False)
        return self._connection.alive

    def _sign(self) -> None:
        """Say in VirtualBox whose it is now, and unlock it; nobody has to wait for that."""
        parked, self._parked = self._parked, None
        if parked is not None:
            with suppress(VirtualBoxError), parked.hold:  # it is gone already
                sign(parked.session.machine, self._plan, self._host_key)

    def _sign_as_kept(self) -> None:
        """Say in VirtualBox that it outlives its run, and which key its SSH server showed."""
        kind = LockType.SHARED if self.api.state.is_online else LockType.WRITE
        # The list of kept machines alone is enough; without the key, whoever enters it pins what is shown then.
        with (
            suppress(VirtualBoxError),
            self._context.session.lock(self.api, kind, Deadline(power.PATIENCE)) as held,
        ):
            sign(held.machine, self._plan, self._host_key, kept=True)
            held.machine.save_settings()

    def _unlock(self) -> None:
        """Give the lock back, if it is still held since it was parked."""
        parked, self._parked = self._parked, None
        if parked is not None:
            with suppress(VirtualBoxError):
                parked.hold.close()

    @property
    def _is_saved(self) -> bool:
        return self.api.state in {MachineState.SAVED, MachineState.ABORTED_SAVED}

    def _now_untouched(self) -> None:
        """Its disk is as the image has it."""
        self._untouched = True
        # A new disk may have a new host key, made at its first boot.
        self._host_key = None

    def _explained(self, doing: str) -> Explained:
        """Say so if the block fails since this computer has no more of something."""
        return explained(f"{doing} {self._plan.name}", self._context.folders)

    def _check_not_stopped(self) -> None:
        """See that VirtualBox has not paused it by itself."""
        with self._explained("running a command in"):
            diagnosis.check_not_stopped(self.api, self.api.state, local=self._context.local)
