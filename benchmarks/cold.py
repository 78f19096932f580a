"""The phases of a cold machine's life: ours, beside the raw API calls and a VBoxManage script in the same run.

    python -m benchmarks.cold [--runs N] [--image NAME] [--profile NAME]

Each run makes one machine in each of the three ways, in turn, so that a busy computer slows them alike. What is
compared is what each way adds; how long the guest itself boots is shown, but is the guest's business.
"""

from __future__ import annotations

import pytest_vbox
from benchmarks import raw as raw_calls
from benchmarks import scripts
from benchmarks.common import Bench, Clock, Options, Phases, about, bench, phases_table, save, warn_if_busy
from pytest_vbox import guest

PHASES = ("connect", "create", "launch", "boot + SSH", "run", "teardown")


def ours(shared: Bench) -> Phases:
    """The plugin's own way."""
    clock = Clock()
    with clock.phase("connect"):
        host = pytest_vbox.connect(shared.host.settings)
    with host:
        with clock.phase("create"):
            vm = host.machine(shared.options.image, shared.options.profile, start=False)
        with clock.phase("boot + SSH"):
            vm.start()
        # start() is one call for the user; what it took to launch is told by the machine.
        clock.phases["launch"] = (vm.phases["launch"] + vm.phases.get("forward", 0.0)) * 1000
        clock.phases["boot + SSH"] -= clock.phases["launch"]
        with clock.phase("run"):
            vm.run("true")
        with clock.phase("teardown"):
            host.remove(vm)
    return clock.phases


def raw(shared: Bench) -> Phases:
    """The least number of API calls that make such a machine."""
    clock = Clock()
    with clock.phase("connect"):
        host = pytest_vbox.connect(shared.host.settings)  # zeep, WSDL and logon are the floor here too
    with host:
        own = Bench(host, shared.model, shared.options)
        with own.machine("raw") as (name, port):
            with clock.phase("create"):
                machine = raw_calls.create(own, name)
                raw_calls.configure(own, machine, port)
                raw_calls.register(own, machine)
                raw_calls.attach(own, machine, str(shared.model.image.disk))
            with clock.phase("launch"):
                session = raw_calls.launch(own, machine)
            with clock.phase("boot + SSH"):
                connection = own.connect(name, port, booting=True)
            with clock.phase("run"):
                guest.run(connection, "true")
            connection.close()
            with clock.phase("teardown"):
                raw_calls.power_down(own, name, machine, session)
                raw_calls.delete(own, machine, "DetachAllReturnHardDisksOnly")
    return clock.phases


def vboxmanage(shared: Bench) -> Phases:
    """What people write as a shell script."""
    clock = Clock()
    with clock.phase("connect"):
        shared.manage("--version")
    return {**clock.phases, **scripts.cold(shared)}


def measure(options: Options) -> None:
    """Measure, print and save."""
    warn_if_busy()
    results: dict[str, list[Phases]] = {"ours": [], "raw": []}
    if options.vboxmanage:
        results["VBoxManage"] = []
    with bench(options) as shared:
        described = about(shared.host)
        shared.prepare_base()
        for number in range(options.runs):
            results["ours"].append(ours(shared))
            results["raw"].append(raw(shared))
            if options.vboxmanage:
                results["VBoxManage"].append(vboxmanage(shared))
            print(f"cold: run {number + 1} of {options.runs} done", flush=True)
    save(options, "cold", {"about": described, "milliseconds": results})
    print(phases_table(results, PHASES))


if __name__ == "__main__":
    measure(Options.parse(__doc__))
