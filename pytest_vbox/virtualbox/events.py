"""IEventSource: waiting on the server for something to happen, instead of asking over and over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.virtualbox.enums import VBoxEventType
from pytest_vbox.virtualbox.errors import OperationTimeout, VirtualBoxError
from pytest_vbox.virtualbox.interface import Interface

# How long one call waits on the server. The condition is looked at after each, so an event that was lost
# costs this much, and Ctrl-C is noticed within it.
_SLICE: Final = 0.5


class Event(Interface):
    """IEvent."""

    interface = "IEvent"


class EventListener(Interface):
    """IEventListener, registered as a passive one: events are fetched, not delivered."""

    interface = "IEventListener"


class EventSource(Interface):
    """IEventSource."""

    interface = "IEventSource"

    @contextmanager
    def listener(self, interesting: Sequence[VBoxEventType]) -> Iterator[EventListener]:
        """A passive listener for some kinds of events, gone at the end of the block."""
        listener = EventListener(self.api, str(self._call("createListener")))
        self._call("registerListener", listener=listener.reference, interesting=list(interesting), active=False)
        try:
            yield listener
        finally:
            # The server forgets a listener with its session; failing to say so is no news for the user.
            with suppress(VirtualBoxError):
                self._call("unregisterListener", listener=listener.reference)
                listener.release()

    def next_event(self, listener: EventListener, seconds: float) -> bool:
        """Wait for one event, at most so long, and acknowledge it. Returns whether there was one."""
        reference = self._call("getEvent", listener=listener.reference, timeout=max(0, int(seconds * 1000)))
        if not reference:
            return False
        event = Event(self.api, str(reference))
        self._call("eventProcessed", listener=listener.reference, event=event.reference)
        event.release()
        return True

    def wait_until(
        self,
        condition: Callable[[], bool],
        interesting: Sequence[VBoxEventType],
        deadline: Deadline,
        what: Callable[[], str],
    ) -> None:
        """Wait until a condition holds, looking at it at once and again after every event.

        Args:
            condition: Asked in the caller's thread.
            interesting: The kinds of events that may change it.
            deadline: When to give up.
            what: Describes what was waited for and how things stand, for the error.

        Raises:
            OperationTimeout: The deadline came first.
        """
        if condition():
            return
        with self.listener(interesting) as listener:
            while not condition():
                if deadline.expired:
                    raise OperationTimeout(f"{what()}, after {deadline.elapsed:.1f} s")
                self.next_event(listener, deadline.at_most(_SLICE))
