"""The daemon, on one machine for the whole module."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from pytest_vbox.guest import PortOpen
from pytest_vbox.machines import Machine


def test_says_that_it_runs(server: Machine) -> None:
    assert server.run("/opt/appd/appd status").stdout == "running\n"


def test_answers_inside_the_guest(server: Machine) -> None:
    assert server.run("wget -q -O - http://127.0.0.1:8080/").stdout == "hello from appd\n"


def test_answers_from_outside(server: Machine) -> None:
    host, port = server.forward(8080)
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as reply:
        assert reply.read() == b"hello from appd\n"


def test_serves_a_new_greeting_after_a_restart(server: Machine, tmp_path: Path) -> None:
    greeting = tmp_path / "greeting"
    greeting.write_text("good morning\n")
    server.put(greeting, "/etc/appd/greeting")
    server.run("/opt/appd/appd stop && /opt/appd/appd start", sudo=True)
    server.wait_for(PortOpen(8080), timeout=30)
    assert server.run("wget -q -O - http://127.0.0.1:8080/").stdout == "good morning\n"


def test_stops_when_told_and_says_so(server: Machine) -> None:
    server.run("/opt/appd/appd stop", sudo=True)
    status = server.run("/opt/appd/appd status", check=False)
    assert (status.returncode, status.stdout) == (3, "stopped\n")
