"""STUB until the branch limits is merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_vbox.deadline import Deadline


class CapacityExceeded(RuntimeError): ...


@dataclass(frozen=True)
class Limits:
    machines: int
    memory: int
    starting: int

    @classmethod
    def of(cls, memory: int, cores: int, machines: int | None) -> Limits:
        return cls(machines or 4 * cores, memory, cores)


class Place:
    def started(self) -> None: ...
    def assign(self, test: str) -> None: ...
    def leaving(self) -> None: ...
    def release(self) -> None: ...


class Capacity:
    def __init__(self, state: Path, host: str, limits: Limits, run: str) -> None: ...
    def take(
        self,
        name: str,
        memory: int,
        deadline: Deadline,
        *,
        test: str = "",
        on_wait: Callable[[], None] | None = None,
    ) -> Place:
        return Place()

    def try_take(self, name: str, memory: int, *, spare: bool = True) -> Place | None:
        return Place()

    @property
    def wanted(self) -> bool:
        return False

    def close(self) -> None: ...
