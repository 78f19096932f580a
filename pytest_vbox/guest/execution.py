"""One command that runs in a guest: what goes in and what comes out, and when it is over."""

from __future__ import annotations

import contextlib
import selectors
import threading
import time

import paramiko

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest.connection import LAST_LOOK, Connection, close_channel, closing_at
from pytest_vbox.guest.errors import ConnectionLost, GuestError, signal_number
from pytest_vbox.guest.output import ErrorStream, Output
from pytest_vbox.guest.script import Script
from pytest_vbox.secret import Secret, Unseen

# Seconds without output after which it is asked for a sign of life; a guest that rebooted then answers "what
# connection?". Only while a command runs: an idle connection stays silent, for it may be to a paused guest.
_KEEPALIVE = 10.0
# So many times in a row it may not answer anything, until it is given up: no command goes on for ever in a guest
# that hangs. A machine may be paused for a while.
_MOST_UNANSWERED = 30
# Seconds between two looks at whether the command itself has ended, which wakes nobody by itself.
_LOOK = 0.5
# More seconds than this between two looks: this process was stopped.
_STOPPED = 1.0
# Seconds between two times that whoever knows the machine is asked whether it still runs.
_ASK = 3.0
# Seconds that output may still come after the command ended, while something in the background holds it open.
_LINGER = 2.0
_CHUNK = 64 * 1024


class FairDeadline(Deadline):
    """A deadline that gives what came in while this process was stopped time to be looked at.

    It may be stopped by Ctrl-Z, or with its whole computer, while the command goes on.

    Args:
        seconds: How long from now; ``None`` means no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__(seconds)
        self._looked = time.monotonic()
        self._last_look: Deadline | None = None

    @property
    def is_over(self) -> bool:
        """Asked at each look."""
        now = time.monotonic()
        stopped, self._looked = now - self._looked > _STOPPED, now
        if not self.expired:
            return False
        if stopped and self._last_look is None:
            self._last_look = Deadline(LAST_LOOK)
        return self._last_look is None or self._last_look.expired

    def at_most(self, seconds: float) -> float:
        """How long to wait until the next look."""
        return self._last_look.at_most(seconds) if self._last_look else super().at_most(seconds)


class Execution:
    """One command on one channel: what goes in and what comes out, at the same time.

    The password goes to sudo only after sudo asked for it, and the input only after the command began:
    where sudo does not ask, the command would otherwise read the password as its input.
    """

    def __init__(self, connection: Connection, script: Script, data: bytes, password: Secret | None) -> None:
        self.connection, self.script = connection, script
        self.stdout, self.stderr = Output(), ErrorStream(script)
        self._input, self._input_given = script.lead + data, False
        self._password, self._answered = password, 0
        self._transport = connection.transport
        self.wire = self._transport.wire
        self._channel: paramiko.Channel | None = None
        self._asked = Deadline(_ASK)

    @property
    def channel(self) -> paramiko.Channel:
        assert self._channel is not None  # noqa: S101 - set by start()
        return self._channel

    def close(self) -> None:
        if self._channel is not None:
            close_channel(self._channel)

    def start(self, deadline: Deadline) -> None:
        self._channel = channel = self.connection.open_session(deadline)
        try:
            with closing_at(deadline, channel):
                channel.exec_command(self.script.text)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if not self.connection.alive:
                raise self.lost("it went while a command was being started") from error
            if deadline.expired:
                raise TimeoutError("the guest did not answer to the command") from error
            raise GuestError("the guest's SSH server refused to run a command") from error

    def signal(self, name: str) -> None:
        if self.channel.exit_status_ready():
            return  # dropbear ends the whole connection over a request for a channel that is closed.
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._transport.send_signal(self.channel, name)

    def lost(self, how: str) -> ConnectionLost:
        return ConnectionLost(self._transport.fault or how, stdout=self.stdout.text, stderr=self.stderr.text)

    def pump(self, deadline: FairDeadline) -> bool:
        """Move data until the command is over; whether it was over in time."""
        silence, unanswered = Deadline(_KEEPALIVE), 0
        ended: Deadline | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(self.channel.fileno(), selectors.EVENT_READ)
            while True:
                if self._move():
                    silence, ended = Deadline(_KEEPALIVE), None
                    if deadline.is_over:
                        return False
                    continue
                if self._over():
                    return True
                if self.channel.exit_status_ready():
                    ended = ended or Deadline(_LINGER)
                    if ended.expired:
                        return True
                if deadline.is_over:
                    return False
                if silence.expired:
                    unanswered = 0 if self.unheard < silence.elapsed else unanswered + 1
                    if unanswered > _MOST_UNANSWERED:
                        raise self._given_up()
                    self._knock()
                    silence = Deadline(_KEEPALIVE)
                self._ask()
                self._wait(selector, deadline.at_most(_LOOK))

    def _ask(self) -> None:
        """Now and then, have whoever knows the machine look whether it still runs."""
        if self._asked.expired:
            self.connection.on_silence()
            self._asked = Deadline(_ASK)

    def _wait(self, selector: selectors.BaseSelector, seconds: float) -> None:
        if self.channel.eof_received:
            # The channel reads as ready from now on; only the status can still come.
            self.channel.status_event.wait(seconds)
        else:
            selector.select(seconds)

    def _over(self) -> bool:
        """Whether nothing more can come: all was read, and the end was reported or the channel is gone."""
        channel = self.channel
        if not (channel.closed or (channel.eof_received and channel.status_event.is_set())):
            return False
        # Only now, for data may have come in before the end did, but after the last look at it.
        return not (channel.recv_ready() or channel.recv_stderr_ready())

    def _move(self) -> bool:
        """Read what is there, one piece of each stream, and answer it; whether there was any."""
        channel, moved = self.channel, False
        if channel.recv_ready():
            self.stdout.add(channel.recv(_CHUNK))
            moved = True
        if channel.recv_stderr_ready():
            self.stderr.add(channel.recv_stderr(_CHUNK))
            moved = True
        if self.stderr.started:
            self._give_input()
        elif self.stderr.prompts > self._answered:
            self._answer_sudo()
        return moved

    def _answer_sudo(self) -> None:
        self._answered = self.stderr.prompts
        # A channel that has been closed meanwhile is found by the next look.
        with contextlib.suppress(OSError):
            if self._answered == 1 and self._password is not None:
                with Unseen():
                    self.channel.sendall(f"{self._password}\n".encode())
            else:
                # The password was wrong; the end of input makes sudo give up.
                self.channel.shutdown_write()

    def _give_input(self) -> None:
        if self._input_given:
            return
        self._input_given = True
        if self._input:
            # A command may write much before it reads: only a thread of its own can wait for both.
            threading.Thread(target=_feed, args=(self.channel, self._input), daemon=True).start()
        else:
            _feed(self.channel, b"")

    def _knock(self) -> None:
        if self.wire.stuck:
            return  # It would have to wait behind what the guest does not take.
        # A dead connection closes the channel, which the next look finds.
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._transport.ask()

    def _given_up(self) -> ConnectionLost:
        self._transport.close()
        return self.lost(f"the guest has not answered anything for {self.unheard:.0f} s: it hangs, or is paused")

    @property
    def unheard(self) -> float:
        """Seconds since the guest last sent anything."""
        return time.monotonic() - self.wire.heard

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal, or ``None`` if neither was reported."""
        signal = self._transport.exit_signals.pop(self.channel.chanid, None)
        if signal is not None:
            return -signal_number(signal)
        # paramiko's -1 stands for no status; a real one is never negative.
        return self.channel.exit_status if self.channel.exit_status >= 0 else None


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    # The command may end without reading it all.
    with contextlib.suppress(OSError, paramiko.SSHException, EOFError):
        channel.sendall(data)
        channel.shutdown_write()
