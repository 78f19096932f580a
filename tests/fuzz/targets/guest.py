"""What guests say, before and after somebody has logged in: nothing of it raises anything but our own errors."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import banner, cloud_init
from pytest_vbox.guest.output import ErrorStream, Output
from pytest_vbox.guest.script import Script
from pytest_vbox.machines import diagnosis, forwards

WORDS = [
    *(b"SSH-2.0-", b"SSH-", b"\r\n", b"TOKEN!\n", b"TOKEN?", b"TOKEN", b'{"v1": {', b'"errors": [', b'"stage": '),
    *(
        b'"recoverable_errors": {',
        b"[[[[",
        b"NaN",
        b"9" * 5000,
        b"failed to set up redirection of 22 to",
        b"\x1b[2J",
    ),
]


def seeds() -> Iterator[bytes]:
    yield b"hello\r\nSSH-2.0-dropbear\r\n"
    yield b"lecture\nTOKEN?TOKEN!\nthe command's own"
    status = {"v1": {"stage": "init", "init": {"errors": [], "recoverable_errors": {"WARNING": ["deprecated"]}}}}
    yield (
        json.dumps({"v1": {"datasource": "NoCloud", "errors": ["no"]}}).encode()
        + b"\n"
        + json.dumps(status).encode()
    )
    yield b"00:00:01 NAT: failed to set up redirection of 2222 to 10.0.2.15:22\n"


def run(data: bytes, folder: Path) -> None:  # noqa: ARG001
    text = data.decode(errors="replace")
    _say_as_cloud_init(text)
    _say_as_command(data)
    _say_as_server(data)
    [int(match.group(1)) for match in forwards._FAILED.finditer(data)]
    shown = diagnosis.Diagnosis("running", data, diagnosis._harmless(text), text).text()
    assert all(letter.isprintable() or letter in "\n\t" for letter in shown)


def _say_as_cloud_init(text: str) -> None:
    reports = cloud_init._documents(text)
    for report in reports:
        errors = cloud_init._errors(report)
        assert all(isinstance(error, str) for error in errors)
    cloud_init._warn(reports)


def _say_as_command(data: bytes) -> None:
    whole, pieces, output = ErrorStream(_SCRIPT), ErrorStream(_SCRIPT), Output(limit=64)
    whole.add(data)
    for start in range(0, len(data), 7):
        pieces.add(data[start : start + 7])
        output.add(data[start : start + 7])
    assert whole.text == pieces.text, "it depends on how it came"
    assert (whole.started, whole.prompts) == (pieces.started, pieces.prompts)
    assert len(output.text) < 64 * 4 + 100


_SCRIPT = Script("", lead=b"", token="TOKEN", sudo=True)


def _say_as_server(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with suppress(BlockingIOError):
            theirs.setblocking(False)
            theirs.send(data[:8192])
        theirs.close()
        seen = banner._listen(ours, Deadline(2), lambda: None)
        assert seen is None or len(seen) < 2000
