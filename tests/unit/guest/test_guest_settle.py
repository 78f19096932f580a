"""What is done first in a guest that was resumed: with its first command, or before anything else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_vbox.guest import Settling, find_tool
from pytest_vbox.guest.script import compose
from pytest_vbox.guest.settle import _program


def test_the_clock_is_set_to_this_very_moment() -> None:
    script = Settling(reseed=False).script()
    seconds = int(script.partition("date -u -s @")[2].split()[0])
    assert abs(seconds - time.time()) < 2
    assert f"|| date -u {time.strftime('%Y%m%d%H', time.gmtime(seconds))}" in script
    assert "urandom" not in script


def test_what_is_not_wanted_is_left_out() -> None:
    assert Settling(clock=False, reseed=False).script() == "exec </dev/null >/dev/null 2>&1"
    assert "date" not in Settling(clock=False).script()
    assert "hostname 'a b' || echo 'a b' >/proc/sys/kernel/hostname" in Settling(hostname="a b").script()


def test_each_has_another_seed() -> None:
    assert Settling(clock=False).script() != Settling(clock=False).script()


def test_it_is_a_line_for_any_shell() -> None:
    settling = Settling(reseed=False)
    line = settling.inline(as_root=True)
    assert line is not None
    assert line.startswith("sh -c 'exec </dev/null")
    assert settling.inline(as_root=False) == f"sudo -n {settling.inline(as_root=True)}"
    assert Settling(sudo_asks=True).inline(as_root=False) is None
    assert Settling(sudo_asks=True).inline(as_root=True) is not None


def test_it_comes_before_the_command_and_does_not_eat_its_input() -> None:
    first = "sh -c 'exec </dev/null >/dev/null 2>&1; cat; false'"
    script = compose("cat; pwd", first=first, cwd="/")
    done = subprocess.run(["sh", "-c", script.text], input="typed\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("typed\n/\n", "", 0)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="asks the kernel of this computer, as root"
)
@pytest.mark.parametrize("has", ["perl", "python3", "neither"])
def test_the_kernel_is_asked_for_a_new_key_whatever_the_guest_has(has: str, tmp_path: Path) -> None:
    # It does no harm here: the pool has one more seed.
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "chmod").symlink_to("/bin/chmod")
    log = tmp_path / "log"
    if has != "neither":
        (folder / has).write_text(f'#!/bin/sh\necho "$@" >{log}\n')
        (folder / has).chmod(0o755)

    def sh(script: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", script], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    # Known beforehand or not; one after the other, as both look into the computer's own folder.
    for tool in (sh(find_tool()), ""):
        if tool and has == "neither":
            assert Path(tool).stat().st_mode & 0o777 == 0o700
        elif tool:
            assert tool == has
        sh(Settling(clock=False, tool=tool).script())
        if has == "neither":
            # It deletes itself when it is run.
            assert not list(Path("/dev/shm").glob(".pytest-vbox-*"))
        else:
            assert "20999" in log.read_text()


@pytest.mark.parametrize("tool", ["/root/evil", "/run/.pytest-vbox-1; reboot", "$(reboot)", "perl; reboot"])
def test_nothing_that_a_guest_says_is_run_but_what_was_left_there(tool: str) -> None:
    script = Settling(clock=False, tool=tool).script()
    assert "reboot" not in script
    assert "evil" not in script


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="a program for Linux on x86-64"
)
def test_the_small_program_deletes_itself_and_says_what_the_kernel_answered(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(_program())
    program.chmod(0o700)
    done = subprocess.run([program], check=False)
    assert not program.exists()
    assert done.returncode == (0 if os.geteuid() == 0 else 255)
