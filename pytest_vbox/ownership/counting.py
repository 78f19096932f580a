"""Who holds and who waits for how much of this computer: the data of the count and its rules, without any file.

Every participant (see ``capacity``) has a part of its own in the count, which only it writes. All rules look at
all parts, so that every participant that looks at the same count comes to the same decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

_FORMAT: Final = 1
#: The claim of what is nobody's: a machine that could not be removed, and does not go by itself. No thread has it.
NOBODY: Final = 0
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True)
class Limits:
    """How much machines may take.

    Attributes:
        machines: How many there may be at once, over all processes of this user on this computer.
        memory: MiB of memory for all of them together.
        starting: How many may be starting (booting, forking) at once.
    """

    machines: int
    memory: int
    starting: int

    def __post_init__(self) -> None:
        if self.machines < 1 or self.starting < 1:
            raise ValueError(f"at least one machine has to be allowed, and at least one that starts, not {self}")

    @classmethod
    def of(cls, memory: int, cores: int, machines: int | None = None) -> Self:
        """The limits that suit a computer.

        Args:
            memory: MiB of memory it has; machines may have four fifths of that.
            cores: How many cores it has: as many machines may be starting at once.
            machines: How many machines there may be at once; by default four for each core, and at least four.
        """
        allowed = max(4, 4 * cores) if machines is None else machines
        return cls(allowed, memory * 4 // 5, max(1, min(cores, allowed)))

    def __str__(self) -> str:
        return (
            f"{self.machines} machine{'s' if self.machines != 1 else ''} (--vbox-max-machines) "
            f"and {self.memory} MiB of memory at once, {self.starting} starting at a time"
        )


@dataclass(frozen=True)
class Slot:
    """What one machine takes.

    Attributes:
        name: Its name in VirtualBox.
        memory: MiB.
        claim: Which thread of the participant it belongs to; `NOBODY` if it could not be removed.
        test: The test it is for, or an empty string.
        starting: It is about to start, or starting.
        spare: Nobody uses it; its process gives it up when somebody wants room.
        leaving: It is being removed, and soon gone.
    """

    name: str
    memory: int
    claim: int
    test: str = ""
    starting: bool = True
    spare: bool = False
    leaving: bool = False


@dataclass(frozen=True)
class Ticket:
    """A request that waits. The fields are those of `Slot`; the lowest number came first."""

    number: int
    name: str
    memory: int
    claim: int
    test: str = ""

    @property
    def subject(self) -> str:
        """Who asks, for messages."""
        return f"test {self.test}" if self.test else self.name


@dataclass(frozen=True)
class Part:
    """What one participant holds and waits for, and the limits it goes by."""

    pid: int
    run: str
    limits: Limits
    slots: tuple[Slot, ...] = ()
    tickets: tuple[Ticket, ...] = ()


class Waiting(NamedTuple):
    """A ticket and whose it is."""

    participant: str
    ticket: Ticket

    @property
    def claimant(self) -> tuple[str, int]:
        return self.participant, self.ticket.claim


class Verdict(NamedTuple):
    """Whose turn it is, and who has to go without because everybody would wait for ever otherwise."""

    next: Waiting | None
    victim: Waiting | None = None


@dataclass
class Count:
    """Everything that is held and waited for on one VirtualBox host.

    Attributes:
        next: The number of the next ticket.
        parts: The parts of the participants, by their ids. One that neither holds nor waits has none.
    """

    next: int = 1
    parts: dict[str, Part] = field(default_factory=dict)

    def put(self, participant: str, part: Part) -> None:
        """Replace a participant's part."""
        if part.slots or part.tickets:
            self.parts[participant] = part
            self.next = max([self.next, *(ticket.number + 1 for ticket in part.tickets)])
        else:
            self.parts.pop(participant, None)

    @property
    def slots(self) -> Iterator[tuple[tuple[str, int], Slot]]:
        """All places that are taken, each with its claimant."""
        for participant, part in self.parts.items():
            for slot in part.slots:
                yield (participant, slot.claim), slot

    @property
    def queue(self) -> list[Waiting]:
        """Who waits, in order."""
        waiting = [Waiting(name, ticket) for name, part in self.parts.items() for ticket in part.tickets]
        # Numbers are unique but for a ledger that was lost.
        return sorted(waiting, key=lambda entry: (entry.ticket.number, entry.participant))

    def kept(self, participant: str, claim: int) -> list[Slot]:
        """What a claimant holds and does not give back by itself."""
        return [s for claimant, s in self.slots if claimant == (participant, claim) and not (s.spare or s.leaving)]

    def fits(self, memory: int, limits: Limits) -> bool:
        """Whether there is room for a machine, if it need not start."""
        slots = [slot for _, slot in self.slots]
        return len(slots) < limits.machines and sum(slot.memory for slot in slots) + memory <= limits.memory

    def has_room(self, memory: int, limits: Limits) -> bool:
        """Whether there is room for a machine that is about to start."""
        starting = sum(slot.starting for _, slot in self.slots)
        return starting < limits.starting and self.fits(memory, limits)

    def verdict(self) -> Verdict:
        """Whose turn it is.

        The first one's in the queue. But if all that is held belongs to claimants that wait themselves, nothing
        would ever come free for it: then it is the turn of the first of those for which there is room, so that
        it can finish; and if there is none, the one of them that came last has to go without. What could not be
        removed does not come free either; if that is all there is, the first one in the queue has to go without.
        """
        queue = self.queue
        if not queue:
            return Verdict(None)
        head = queue[0]
        if self._fits(head) or not self._is_held_for_ever(queue):
            return Verdict(head)
        holders = {claimant for claimant, _ in self.slots}
        holding = [entry for entry in queue if entry.claimant in holders]
        for entry in holding:
            if self._fits(entry):
                return Verdict(entry)
        return Verdict(head, holding[-1] if holding else head if holders else None)

    def wants_spare(self) -> bool:
        """Whether somebody waits who needs more room than is free or is just being freed.

        Not one that waits only until others have started: no spare machine has to go for that.
        """
        staying = [slot for _, slot in self.slots if not slot.leaving]
        machines, memory = len(staying), sum(slot.memory for slot in staying)
        for entry in self.queue:
            limits = self.parts[entry.participant].limits
            machines, memory = machines + 1, memory + entry.ticket.memory
            if machines > limits.machines or memory > limits.memory:
                return True
        return False

    def _fits(self, entry: Waiting) -> bool:
        return self.fits(entry.ticket.memory, self.parts[entry.participant].limits)

    def _is_held_for_ever(self, queue: Iterable[Waiting]) -> bool:
        waiting = {entry.claimant for entry in queue}
        return all(
            (claimant in waiting or slot.claim == NOBODY) and not slot.spare and not slot.leaving
            for claimant, slot in self.slots
        )

    def dump(self) -> str:
        """As JSON."""
        document = {"format": _FORMAT, "next": self.next, "participants": self.parts}
        # Three times as quick as dataclasses.asdict, and this is done at every change.
        return json.dumps(document, default=vars)

    @classmethod
    def load(cls, text: str) -> Self:
        """From JSON. What is torn or not ours counts as empty: every participant adds its own part again."""
        try:
            document = json.loads(text)
            if document["format"] != _FORMAT:
                return cls()
            parts = {str(name): _part(part) for name, part in document["participants"].items()}
            return cls(int(document["next"]), parts)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return cls()


def impossible(count: Count, entry: Waiting, limits: Limits, held: int) -> str | None:
    """Why a request could never be had, however long one waits; None if it can.

    Args:
        count: The count.
        entry: The request.
        limits: What its participant allows.
        held: How many machines the one who asks holds at least.
    """
    ticket = entry.ticket
    own = count.kept(*entry.claimant)
    number = max(len(own), held)
    memory = sum(slot.memory for slot in own) + ticket.memory
    holds = f"it holds {_names(own)} itself, so" if own else "so"
    if number >= limits.machines:
        return (
            f"{ticket.subject} asks for {_nth(number + 1)} machine, and at most {limits.machines} "
            f"{'are' if limits.machines != 1 else 'is'} allowed at once on this computer (--vbox-max-machines): "
            f"{holds} waiting would never end. Use fewer machines in one test (those of class, module and "
            "session scope count as well), or allow more"
        )
    if memory > limits.memory:
        return (
            f"{ticket.subject} asks for a machine with {ticket.memory} MiB of memory, which makes {memory} MiB of "
            f"{limits.memory} MiB that machines may have together on this computer: {holds} waiting would never "
            "end. Give machines less memory, or use fewer in one test"
        )
    return None


def stuck(count: Count, victim: Waiting) -> str:
    """What is said to the one who has to go without."""
    lines = []
    for entry in count.queue:
        part, ticket = count.parts[entry.participant], entry.ticket
        own = count.kept(*entry.claimant)
        lines.append(
            f"  {ticket.subject} (process {part.pid}, run {part.run}) holds {_names(own) or 'nothing'} "
            f"and waits for {ticket.name} ({ticket.memory} MiB)"
        )
    left = [slot for _, slot in count.slots if slot.claim == NOBODY]
    if left:
        lines.append(f"  {_names(left)} could not be removed")
    return (
        f"{victim.ticket.subject} waits for room for {victim.ticket.name}, and all who hold machines wait as "
        "well, so waiting would never end:\n" + "\n".join(lines) + "\n"
        f"allowed: {count.parts[victim.participant].limits}. "
        "Use fewer machines in one test or fewer workers, or allow more machines"
    )


def late(count: Count, entry: Waiting, limits: Limits, seconds: float) -> str:
    """What is said to the one who waited too long."""
    before = [other for other in count.queue if other.ticket.number < entry.ticket.number]
    holders = [
        f"  {slot.name} ({slot.memory} MiB{_state(slot)}): {slot.test or 'no test'}, "
        f"process {part.pid}, run {part.run}"
        for part in count.parts.values()
        for slot in part.slots
    ]
    return (
        f"{entry.ticket.subject}: no room for {entry.ticket.name} ({entry.ticket.memory} MiB) in {seconds:.0f} s, "
        f"with {len(before)} request{'s' if len(before) != 1 else ''} before it; allowed: {limits}. "
        + ("Held:\n" + "\n".join(holders) if holders else "Nothing is held")
    )


def _state(slot: Slot) -> str:
    if slot.claim == NOBODY:
        return ", could not be removed"
    states = ("leaving", slot.leaving), ("spare", slot.spare), ("starting", slot.starting)
    return "".join(f", {'being removed' if name == 'leaving' else name}" for name, applies in states if applies)


def _nth(number: int) -> str:
    return f"a {_ORDINALS[number - 1]}" if number <= len(_ORDINALS) else f"machine number {number}, a further"


def _names(slots: Iterable[Slot]) -> str:
    return ", ".join(f"{slot.name} ({slot.memory} MiB)" for slot in slots)


def _part(value: dict[str, Any]) -> Part:
    limits = Limits(**{key: int(number) for key, number in value["limits"].items()})
    slots = tuple(Slot(**_checked(slot)) for slot in value["slots"])
    tickets = tuple(Ticket(**_checked(ticket)) for ticket in value["tickets"])
    return Part(int(value["pid"]), str(value["run"]), limits, slots, tickets)


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    """The fields, each of the type it has to be of, so that no rule has to expect anything else."""
    texts, numbers = {"name", "test"}, {"memory", "claim", "number"}
    for key, entry in value.items():
        kind: type = str if key in texts else int if key in numbers else bool
        if type(entry) is not kind:
            raise TypeError(f"{key}: {entry!r}")
    return value
