"""Golden machines and their forks: pristine, apart from each other, right again after every reset."""

from __future__ import annotations

import json
import logging
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from machine_support import names_of_ours, sha256

from pytest_vbox.deadline import Deadline
from pytest_vbox.fixtures import MachineFactory
from pytest_vbox.machines import Machine, StepError, VirtualBoxHost
from pytest_vbox.machines.golden import SNAPSHOT, Golden
from pytest_vbox.machines.plan import host_name
from pytest_vbox.records import Way
from pytest_vbox.virtualbox.enums import CleanupMode, MachineState
from pytest_vbox.virtualbox.errors import VirtualBoxError

PROGRAM = Path(sys.executable).parent / "pytest-vbox"


def golden_of(host: VirtualBoxHost, machine: Machine) -> Golden:
    """What a machine was forked from."""
    origin = machine._origin
    assert origin is not None
    return next(golden for golden in host.golden.all() if golden.id == origin.id)


def files_of(host: VirtualBoxHost, golden: Golden) -> dict[Path, str]:
    """What is on the disks of a golden machine, and its saved state, by their files."""
    folder = Path(host.api.find_machine(golden.id).settings_file_path).parent
    return {path: sha256(path) for path in folder.rglob("*") if path.suffix in {".vdi", ".sav"}}


def _machine_folder(host: VirtualBoxHost) -> Path:
    return Path(host.api.system_properties.default_machine_folder) / "pytest-vbox"


def way_of(host: VirtualBoxHost, machine: Machine) -> Way:
    """How a machine came."""
    return next(record.way for record in reversed(host.journal.records) if record.machine == machine.name)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that happens in the background."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# Pristine, and apart


def test_a_fork_sees_no_file_process_or_memory_of_its_sibling(
    vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    first = vbox_machine()
    second = vbox_machine()
    first.run("echo secret > /root/file; sync; (sleep 12345 >/dev/null 2>&1 &); hostname changed")
    first.run("mkdir /tmp/m && mount -t ramfs none /tmp/m && echo secret > /tmp/m/in-memory")
    third = vbox_machine()
    for other in (second, third):
        assert other.run("ls /root/file /tmp/m/in-memory 2>/dev/null", check=False).stdout == ""
        assert "12345" not in other.run("ps").stdout
        assert other.run("hostname").stdout != "changed\n"
    assert golden_of(vbox_host, first) == golden_of(vbox_host, third)
    assert len({machine.address for machine in (first, second, third)}) == 3
    assert {"clone", "launch", "forward", "network", "ssh"} <= set(third.phases) or set(third.phases) == {"resume"}


def test_a_golden_machine_is_unchanged_after_20_forks_that_wrote(
    own_image: Callable[[str], Path], yaml_images: Callable[[str], None], vbox_host: VirtualBoxHost
) -> None:
    yaml_images(f"written: {{extends: tiny, disk: {own_image('written.vdi')}}}")
    first = vbox_host.machine("written")
    golden = golden_of(vbox_host, first)
    before = files_of(vbox_host, golden)
    assert len(before) >= 3  # its disk, the difference after the snapshot, and the memory
    vbox_host.discard(first)
    for number in range(20):
        vbox_host.expect([vbox_host.wanted("written")] * min(2, 20 - number))
        machine = vbox_host.machine("written")
        machine.run("dd if=/dev/zero of=/root/data bs=64k count=8 2>/dev/null; sync")
        vbox_host.discard(machine)
    vbox_host.expect([])
    assert files_of(vbox_host, golden) == before
    wait_until(lambda: not vbox_host.golden.in_use(golden))


def test_the_clock_is_right_after_a_resume(vbox_machine: MachineFactory, vbox_host: VirtualBoxHost) -> None:
    machine = vbox_machine()
    made = datetime.fromisoformat(golden_of(vbox_host, machine).made)
    wait_until(lambda: (datetime.now(UTC) - made).total_seconds() > 5)  # so that it would be wrong
    for again in (False, True):
        if again:
            machine.reset()
        assert abs(float(machine.run("date +%s").stdout) - time.time()) < 2
    # What is no command has to wait for it too.
    machine.suspend()
    machine.start()
    _, out, _ = machine.ssh.exec_command("date +%s")
    assert abs(float(out.read()) - time.time()) < 2


def test_forks_have_random_numbers_and_uuids_of_their_own(vbox_machine: MachineFactory) -> None:
    machines = [vbox_machine() for _ in range(3)]
    seen = [
        machine.run(
            "head -c 16 /dev/urandom | od -An -tx1; cd /proc/sys/kernel/random; cat uuid boot_id"
        ).stdout.splitlines()
        for machine in machines
    ]
    for lines in zip(*seen, strict=True):
        assert len(set(lines)) == 3


def test_a_fork_has_the_host_key_of_its_golden_machine_and_another_one_is_refused(
    vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    machine = vbox_machine()
    assert machine._host_key == golden_of(vbox_host, machine).host_key != ""


def test_a_fork_that_shuts_down_boots_from_its_own_disk(vbox_machine: MachineFactory) -> None:
    machine = vbox_machine()
    machine.run("touch /root/kept; sync")
    machine.reboot()
    assert machine.run("ls /root/kept").stdout == "/root/kept\n"
    assert float(machine.run("cut -d' ' -f1 /proc/uptime").stdout) < 60


def test_a_fork_of_an_immutable_image_forgets_at_power_up(
    own_image: Callable[[str], Path], yaml_images: Callable[[str], None], vbox_machine: MachineFactory
) -> None:
    yaml_images(f"fleeting: {{extends: tiny, disk: {own_image('fleeting.vdi')}, attach: immutable}}")
    machine = vbox_machine("fleeting")
    address = machine.address
    machine.run("touch /root/gone; sync")
    machine.power_off()
    machine.start()
    assert machine.run("ls /root/gone", check=False).returncode != 0
    assert machine.address == address
    machine.reset()
    assert machine.run("ls /root/gone", check=False).returncode != 0


# Reset


def test_reset_goes_back_to_where_the_machine_was_forked(vbox_machine: MachineFactory) -> None:
    machine = vbox_machine()
    before = (machine.id, machine.name, machine.address, machine.forward(8080))
    machine.run("touch /root/dirt /tmp/dirt; (sleep 4321 >/dev/null 2>&1 &); sync")
    machine.reset()
    assert machine.run("ls /root/dirt /tmp/dirt", check=False).stdout == ""
    assert "4321" not in machine.run("ps").stdout
    assert (machine.id, machine.name, machine.address, machine.forward(8080)) == before
    machine.run("touch /root/dirt; sync")
    machine.reset("disk")  # booted, so its uptime starts anew
    assert machine.run("ls /root/dirt", check=False).returncode != 0
    assert (machine.id, machine.name) == before[:2]
    machine.reset("live")
    machine.run("touch /root/dirt")
    machine.snapshot("own")
    machine.reset()
    assert machine.run("ls /root/dirt", check=False).returncode != 0
    machine.reset("fresh")
    assert machine.id != before[0]
    assert machine.run("ls /root/dirt", check=False).returncode != 0


def test_each_resets_a_machine_of_the_module_before_every_test(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.vbox(reset="each")

        @pytest.fixture(scope="module")
        def server(module_vbox_machine):
            return module_vbox_machine()

        @pytest.fixture
        def prepared(server):
            server.run("echo ready > /root/prepared")
            return server

        @pytest.mark.parametrize("number", [1, 2])
        def test_dirt(prepared, number, request):
            assert prepared.run("ls /root").stdout == "prepared\\n"
            prepared.run("touch /root/dirt")
            request.config.ids = getattr(request.config, "ids", set()) | {prepared.id}
            assert len(request.config.ids) == 1
        """
    )
    suite.runpytest_subprocess("--vbox=require", "-W", "error").assert_outcomes(passed=2)


# Ways


def test_a_machine_that_is_parked_is_handed_out_in_no_time_and_signed(
    vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    wanted = vbox_host.wanted()
    vbox_host.expect([wanted])
    wait_until(lambda: len(vbox_host._supply.pool._parked) == 1)
    parked = vbox_host._supply.pool._parked[0][1]
    assert parked.state is MachineState.PAUSED
    machine = vbox_machine()
    assert machine is parked
    assert way_of(vbox_host, machine) is Way.PARKED
    assert set(machine.phases) == {"resume"}
    assert abs(float(machine.run("date +%s").stdout) - time.time()) < 2
    wait_until(lambda: "test_a_machine_that_is_parked" in machine.api.get_extra_data("pytest-vbox/owner"))


def test_what_nobody_will_ask_for_is_not_kept(vbox_host: VirtualBoxHost) -> None:
    vbox_host.expect([vbox_host.wanted()])
    wait_until(lambda: len(vbox_host._supply.pool._parked) == 1)
    parked = vbox_host._supply.pool._parked[0][1]
    vbox_host.expect([vbox_host.wanted(hardware={"memory": 300})])
    vbox_host.expect([])
    wait_until(lambda: parked.name not in names_of_ours(vbox_host))
    wait_until(lambda: not vbox_host._supply.pool._parked and not vbox_host._supply.pool._making)


def test_hardware_that_siblings_cannot_share_is_booted_and_the_reason_told_once(
    vbox_machine: MachineFactory, vbox_host: VirtualBoxHost, caplog: pytest.LogCaptureFixture
) -> None:
    hardware = {
        "network": [
            {"attachment": "nat"},
            {
                "attachment": "generic",
                "generic_driver": "UDPTunnel",
                "generic_properties": {"dest": "127.0.0.1", "sport": "20999", "dport": "20998"},
            },
        ]
    }
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            machine = vbox_machine(hardware=hardware)
            assert way_of(vbox_host, machine) is Way.COLD
            vbox_host.remove(machine)
    told = [note for note in vbox_host.journal.notes if "slot 1 is on a network that machines share" in note]
    assert len(told) == 1
    assert caplog.text.count("slot 1 is on a network") == 1


def test_another_model_makes_another_golden_machine_and_drops_the_old_one(
    own_image: Callable[[str], Path],
    yaml_images: Callable[[str], None],
    vbox_machine: MachineFactory,
    vbox_host: VirtualBoxHost,
) -> None:
    disk = own_image("changing.vdi")
    yaml_images(f"changing: {{extends: tiny, disk: {disk}}}")
    machine = vbox_machine("changing")
    old = golden_of(vbox_host, machine)
    assert way_of(vbox_host, machine) is Way.FORKED
    vbox_host.remove(machine)
    other = vbox_machine("changing", hardware={"guest_properties": {"/Test/Changed": "1"}})
    new = golden_of(vbox_host, other)
    assert new.id != old.id
    assert old.id not in {golden.id for golden in vbox_host.golden.all()}


def test_on_fork_runs_in_every_fork_and_a_failure_names_the_step(
    yaml_images: Callable[[str], None], vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    yaml_images(
        "own-id: {extends: tiny, set_hostname: true, on_fork: ['head -c 8 /dev/urandom | od -An -tx1 > /root/id']}"
    )
    yaml_images("broken: {extends: tiny, on_fork: ['true', 'echo no such thing >&2; false']}")
    first, second = vbox_machine("own-id"), vbox_machine("own-id")
    assert first.run("cat /root/id").stdout != second.run("cat /root/id").stdout
    assert first.run("hostname").stdout.strip() == host_name(first.name)
    assert golden_of(vbox_host, first) == golden_of(vbox_host, second)
    with pytest.raises(StepError, match=r"(?s)image broken: step 2 of its on_fork failed .*no such thing"):
        vbox_machine("broken")
    ours = {name for name in names_of_ours(vbox_host) if "a_failure_names_the_step" in name}
    assert ours == {first.name, second.name}


# What goes wrong


def test_a_saved_state_that_is_broken_is_a_cold_boot_with_one_warning_and_then_made_anew(
    own_image: Callable[[str], Path], suite: pytest.Pytester, vbox_host: VirtualBoxHost
) -> None:
    folder = suite.mkdir("profiles")
    (folder / "images.yaml").write_text(f"images: {{frail: {{extends: tiny, disk: {own_image('frail.vdi')}}}}}")
    suite.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_it(vbox, number):
            assert vbox.run("echo well").stdout == "well\\n"
        """
    )
    arguments = ("--vbox=require", "--vbox-image=frail", "--vbox-prewarm=0")
    suite.runpytest_subprocess(*arguments).assert_outcomes(passed=3)
    (golden,) = [golden for golden in vbox_host.golden.all() if golden.image == "frail"]
    machine = vbox_host.api.find_machine(golden.id)
    (state,) = Path(machine.settings_file_path).parent.rglob("*.sav")
    with state.open("r+b") as file:
        file.seek(state.stat().st_size // 2)
        file.write(b"\0" * 65536)
    result = suite.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=3)
    told = [line for line in result.outlines if "did not resume and was discarded" in line]
    assert len(told) == 1, result.outlines
    (again,) = [golden for golden in vbox_host.golden.all() if golden.image == "frail"]
    assert again.id != golden.id


def test_a_golden_machine_that_somebody_took_away_is_made_anew(
    own_image: Callable[[str], Path],
    yaml_images: Callable[[str], None],
    vbox_machine: MachineFactory,
    vbox_host: VirtualBoxHost,
) -> None:
    yaml_images(f"lost: {{extends: tiny, disk: {own_image('lost.vdi')}}}")
    first = vbox_machine("lost")
    golden = golden_of(vbox_host, first)
    assert not vbox_host.golden.remove(golden)  # a machine stands on it
    vbox_host.remove(first)
    with_other_eyes = vbox_host.golden._known.copy()
    assert vbox_host.golden.remove(golden)
    vbox_host.golden._known.update(with_other_eyes)  # as another process, which has seen it before
    second = vbox_machine("lost")
    assert second.run("echo here").stdout == "here\n"
    assert golden_of(vbox_host, second).id != golden.id


def test_a_fork_that_fails_half_way_leaves_no_disk(
    own_image: Callable[[str], Path],
    yaml_images: Callable[[str], None],
    vbox_host: VirtualBoxHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    yaml_images(f"half: {{extends: tiny, disk: {own_image('half.vdi')}}}")
    first = vbox_host.machine("half")
    golden = golden_of(vbox_host, first)
    vbox_host.remove(first)

    def fail(*_: object) -> None:
        raise VirtualBoxError("not now", operation="IVirtualBox_registerMachine")

    monkeypatch.setattr("pytest_vbox.virtualbox.VirtualBox.register_machine", fail)
    with pytest.raises(VirtualBoxError, match="not now"):
        vbox_host.machine("half", name="half-way")
    assert not vbox_host.golden.in_use(golden)
    assert not list(_machine_folder(vbox_host).glob("*half-way*"))


def test_cleaning_up_after_a_machine_leaves_the_disk_of_another_that_is_just_being_removed(
    vbox_host: VirtualBoxHost,
) -> None:
    machine = vbox_host.machine(name="going")
    golden = golden_of(vbox_host, machine)
    machine.power_off()
    # Between these two steps of its removal, its disk is nobody's.
    media = machine.api.unregister(CleanupMode.FULL)
    vbox_host._maker.take_away(str(uuid.uuid4()), "pytest-nobody-00000000")
    assert not vbox_host.golden.remove(golden)
    own = [medium for medium in media if machine.name in medium.location]
    assert len(own) == 1
    assert Path(own[0].location).exists()
    machine.api.delete_config(own).wait(Deadline(20))
    vbox_host.remove(machine)


# The cache


def test_the_cache_is_listed_limited_and_emptied_but_for_what_is_in_use(
    own_image: Callable[[str], Path],
    yaml_images: Callable[[str], None],
    vbox_machine: MachineFactory,
    vbox_host: VirtualBoxHost,
) -> None:
    yaml_images(f"old: {{extends: tiny, disk: {own_image('old.vdi')}}}\nused: {{extends: old, description: x}}")
    gone = vbox_machine("old")
    vbox_host.remove(gone)
    used = vbox_machine("used")
    kept = {entry.image: entry for entry in vbox_host.cache.kept()}
    assert (kept["used"].in_use, kept["old"].in_use, kept["old"].outdated) == (True, False, None)
    assert (kept["old"].bytes or 0) > 10 << 20
    assert kept["old"].last_used <= kept["used"].last_used
    assert not kept["used"].remove()
    assert kept["old"].remove()
    assert "old" not in {entry.image for entry in vbox_host.cache.kept()}
    assert used.run("echo well").stdout == "well\n"
    assert vbox_host.api.find_machine(golden_of(vbox_host, used).id).find_snapshot(SNAPSHOT).name == SNAPSHOT


def test_the_command_line_lists_and_removes_what_is_kept(
    suite: pytest.Pytester, vbox_machine: MachineFactory, vbox_host: VirtualBoxHost
) -> None:
    golden = golden_of(vbox_host, vbox_machine())
    listed = json.loads(suite.run(PROGRAM, "cache", "list", "--json").stdout.str())
    entry = next(entry for entry in listed if entry["name"] == golden.name)
    assert (entry["kind"], entry["image"], entry["in_use"], entry["outdated"]) == (
        "golden machine",
        "tiny",
        True,
        None,
    )
    refused = suite.run(PROGRAM, "cache", "rm", golden.name, "nothing-of-this-name")
    assert refused.ret == 1
    refused.stderr.fnmatch_lines(["*nothing has 'nothing-of-this-name' in their name*"])
    refused.stderr.fnmatch_lines([f"*{golden.name}: machines stand on it*"])
