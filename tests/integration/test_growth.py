"""Many machines one after the other: nothing grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from own_rig import OwnRig, rig_only
from sizes import grown, sizes

from pytest_vbox.machines import VirtualBoxHost

pytestmark = rig_only


@pytest.fixture
def host(rig: OwnRig) -> Iterator[VirtualBoxHost]:
    with rig.connect() as host:
        yield host


def _cold(host: VirtualBoxHost) -> None:
    host.remove(host.machine(start=False))


def _fork(host: VirtualBoxHost) -> None:
    machine = host.machine()
    machine.run("true")
    host.remove(machine)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("use", "times"),
    [
        pytest.param(_cold, 20, id="20-cold"),
        pytest.param(_fork, 4, id="4-forks"),
        pytest.param(_cold, 200, id="200-cold", marks=pytest.mark.soak),
        pytest.param(_fork, 30, id="30-forks", marks=pytest.mark.soak),
    ],
)
def test_nothing_grows_over_many_machines(
    use: Callable[[VirtualBoxHost], None],
    times: int,
    host: VirtualBoxHost,
    rig: OwnRig,
    record_property: Callable[[str, object], None],
) -> None:
    for _ in range(3):  # what is made once: an anchor, a golden machine, connections
        use(host)
    before = sizes(host, rig)
    for _ in range(times):
        use(host)
    record_property("times", times)
    assert grown(before, sizes(host, rig)) == {}
