"""The record of the private service, golden machines and owners in the extra data: read, or taken for nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pytest_vbox.machines.golden import Golden, is_stale
from pytest_vbox.ownership import ProcessId
from pytest_vbox.service.record import Record

_ID = "0b5ecc3e-6a40-4a0c-a5a9-3ad2a25cbb0b"

WORDS = [
    *(b'"%s": ' % word for word in (b"url", b"user", b"password", b"keeper", b"service", b"pid", b"started")),
    *(b'"%s": ' % word for word in (b"base", b"id", b"name", b"made", b"discarded", b"cold_seconds", b"tool")),
    *(
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"[[[[",
        b"9" * 5000,
        b"http://[::1",
        b":99999",
        b"\\u0000",
    ),
]


def seeds() -> Iterator[bytes]:
    here = ProcessId.mine()
    yield json.dumps(asdict(Record("http://127.0.0.1:18083", "me", "hush", here, here))).encode()
    golden = Golden(
        _ID, "n", "k", "s", "image", "small", "7.2", ("/a.vdi", "1 2 3"), "ssh-ed25519 AAAA", made="2026"
    )
    yield json.dumps(asdict(golden)).encode()
    owner = {
        "run": "r",
        "image": "a",
        "profile": "small",
        "since": "2026-01-01T00:00:00+00:00",
        "test": "t",
        "slot": 0,
    }
    yield json.dumps(owner).encode()


def run(data: bytes, folder: Path) -> None:
    (folder / "service.json").write_bytes(data)
    record = Record.read(folder)
    if record is not None:
        assert all(isinstance(text, str) for text in (record.url, record.user, record.password)), record
        for process in (record.keeper, record.service):
            process.find()
    text = data.decode(errors="replace")
    keys = folder / "keys"
    golden = Golden.parse(text, _ID, keys)
    if golden is not None:
        is_stale(golden)
        assert Golden.parse(json.dumps(asdict(golden)), _ID, keys) == golden
        assert golden.id == _ID
        for name, kind in (("id", str), ("name", str), ("key", str), ("made", str), ("cold_seconds", float | int)):
            assert isinstance(getattr(golden, name), kind), name
        assert golden.private_key is None or Path(golden.private_key).parent == keys
