"""What the tests that come next will ask for, as far as their fixtures, their markers and earlier tests tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pytest

from pytest_vbox.settings import Reset

#: How many tests are looked at; what only later ones want is not worth keeping ready.
HORIZON: Final = 50

#: The arguments of a call: image, profile and hardware.
Asked = Mapping[str, Any]

_KEYS: Final = ("image", "profile", "hardware")
_WIDE: Final[Mapping[str, type[pytest.Collector]]] = {
    "class_vbox_machine": pytest.Class,
    "module_vbox_machine": pytest.Module,
    "package_vbox_machine": pytest.Session,
    "session_vbox_machine": pytest.Session,
}


class Forecast:
    """Looks ahead, and learns from what tests have asked for."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], list[Asked]] = {}
        self._latest: dict[tuple[str, str], str] = {}
        self._anew: set[tuple[str, str]] = set()

    def learn(self, fixture: str, node: str, path: str, asked: Asked) -> None:
        """Remember a call.

        Args:
            fixture: The factory's name.
            node: The id of the test, or of what the factory lives as long as.
            path: The file it is in.
            asked: The arguments of the call.
        """
        key = _without_parameters(node)
        if (fixture, key) in self._anew:
            self._anew.discard((fixture, key))
            self._calls.pop((fixture, key), None)
        self._calls.setdefault((fixture, key), []).append({name: asked.get(name) for name in _KEYS})
        self._latest[fixture, path] = key

    def begin(self, item: pytest.Item) -> None:
        """A test begins: what it asks for takes the place of what it asked for with other parameters."""
        self._anew.add(("vbox_machine", _without_parameters(item.nodeid)))

    def upcoming(
        self, items: Sequence[pytest.Item], marked: Mapping[pytest.Item, Mapping[str, Any]]
    ) -> list[Asked]:
        """What some tests will ask for, in their order.

        Args:
            items: The tests, the next one first.
            marked: What their markers say.
        """
        asked: list[Asked] = []
        seen: set[tuple[str, str]] = set()
        for item in items:
            names = getattr(item, "fixturenames", ())
            if item.get_closest_marker("skip") is not None:
                continue
            for fixture in _WIDE:
                if fixture in names:
                    asked += self._wide(item, fixture, seen)
            if "vbox" in names:
                asked += _of_marker(marked.get(item, {}))
            elif "vbox_machine" in names:
                asked += self._guess("vbox_machine", _without_parameters(item.nodeid), str(item.path))
        return asked

    def _wide(self, item: pytest.Item, fixture: str, seen: set[tuple[str, str]]) -> Iterator[Asked]:
        node = item.getparent(_WIDE[fixture])
        key = (fixture, node.nodeid if node is not None else "")
        if key not in seen and key not in self._calls:
            seen.add(key)
            yield from self._guess(fixture, key[1], str(item.path))

    def _guess(self, fixture: str, node: str, path: str) -> Sequence[Asked]:
        """What the same test asked for before, else the one before it in the same file, else the default."""
        known = self._calls.get((fixture, node))
        if known is None:
            known = self._calls.get((fixture, self._latest.get((fixture, path), "")))
        return known if known is not None else ({},)


def _of_marker(marked: Mapping[str, Any]) -> Iterator[Asked]:
    if marked.get("start", True) and not marked.get("name") and marked.get("reset") in {None, Reset.LIVE, "each"}:
        yield {name: marked.get(name) for name in _KEYS}


def _without_parameters(nodeid: str) -> str:
    return nodeid.partition("[")[0]
