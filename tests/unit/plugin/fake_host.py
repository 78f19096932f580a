"""A connected VirtualBox that only says what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_vbox.machines import Diagnosis
from pytest_vbox.settings import Settings


@dataclass
class FakeMachine:
    """A machine that can be looked at."""

    name: str
    shown: Diagnosis | Exception = field(
        default_factory=lambda: Diagnosis("Running", b"png", "login: ", "00:00:01 Ready\n")
    )

    log: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.log.append(f"reset {self.name}")

    def diagnose(self) -> Diagnosis:
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown


class FakeHost:
    """As much of a `VirtualBoxHost` as the fixtures use.

    Attributes:
        log: What happened, in its order.
        made: The keywords of each machine that was asked for.
        connected: The keywords it was connected with.
        expected: What it was told will be asked for, each time.
        errors: What to raise, by ``connect``, ``make``, ``remove`` or ``close``.
    """

    url = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.log: list[str] = []
        self.made: list[dict[str, Any]] = []
        self.connected: dict[str, Any] = {}
        self.errors: dict[str, Exception] = {}
        self.settings = Settings()
        self.artifacts = Path()
        self.expected: list[list[dict[str, Any]]] = []
        self._machines: list[FakeMachine] = []
        self._problems: list[tuple[str, Exception]] = []

    def connect(self, settings: Settings, **keywords: Any) -> FakeHost:
        """Stands for `hosts.connect_host`."""
        self._fail("connect")
        self.log.append("connect")
        self.settings = settings
        self.connected = keywords
        self.artifacts = keywords["artifacts"]
        return self

    @property
    def machines(self) -> tuple[FakeMachine, ...]:
        return tuple(self._machines)

    def machine(self, image: str | None, profile: str | None, **keywords: Any) -> FakeMachine:
        self._fail("make")
        self.made.append({"image": image, "profile": profile, **keywords})
        machine = FakeMachine(f"machine-{len(self.made)}", log=self.log)
        self._machines.append(machine)
        self.log.append(f"made {machine.name}")
        return machine

    def remove(self, machine: FakeMachine) -> None:
        self.log.append(f"removed {machine.name}")
        self._machines.remove(machine)
        self._fail("remove")

    def discard(self, machine: FakeMachine) -> None:
        try:
            self.remove(machine)
        except Exception as error:  # noqa: BLE001 - as the real one, which does it in the background
            self._problems.append((machine.name, error))

    def problems(self) -> list[tuple[str, Exception]]:
        problems, self._problems = self._problems, []
        return problems

    def wanted(self, **asked: Any) -> dict[str, Any]:
        return asked

    def expect(self, upcoming: list[dict[str, Any]]) -> None:
        self.expected.append(upcoming)

    def keep(self, machine: FakeMachine) -> str:
        self._machines.remove(machine)
        return f"kept machine {machine.name}: ssh -p 1 root@127.0.0.1"

    def artifacts_folder(self, name: str, _: str) -> Path:
        return self.artifacts / name

    def close(self) -> None:
        self.log.append("close")
        self._fail("close")

    def _fail(self, what: str) -> None:
        if what in self.errors:
            raise self.errors[what]


def set_by(made: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a machine that were given a value."""
    return {key: value for key, value in made.items() if value is not None and key != "test"}
