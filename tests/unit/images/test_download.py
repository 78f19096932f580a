"""Downloads over bad lines and from bad servers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vbox.images import ImageError
from pytest_vbox.images.download import ATTEMPTS, Source, fetch, fetch_sum
from pytest_vbox.images.report import silent

from .web import Web, ranged, send

BODY = os.urandom(3 * 1024**2)
SUM = hashlib.sha256(BODY).hexdigest()


def got(web: Web, folder: Path, sha256: str | None = SUM, *, path: str = "/disk.img", stalled: float = 5) -> bytes:
    """What is downloaded."""
    target = folder / "disk.img"
    fetch(Source(f"{web.url}{path}"), target, sha256, silent, stalled)
    return target.read_bytes()


def refused(web: Web, folder: Path, match: str, **keys: Any) -> None:
    """It fails in a way that says why, and nothing is there that could be taken for the disk."""
    with pytest.raises(ImageError, match=match):
        got(web, folder, **keys)
    assert not (folder / "disk.img").exists()


def test_a_download_is_there_whole_with_its_progress_and_nothing_beside_it(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    with Web(lambda _, handler: send(handler, BODY)) as web:
        target = tmp_path / "disk.img"
        assert fetch(Source(f"{web.url}/disk.img?x=1"), target, None, lambda *step: seen.append(step)) == SUM
    assert target.read_bytes() == BODY
    assert seen[0] == ("download disk.img", 0, len(BODY))
    assert seen[-1] == ("download disk.img", len(BODY), len(BODY))
    assert [path.name for path in tmp_path.iterdir()] == ["disk.img"]


def test_what_is_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    cuts = iter([1_500_000, 300_000, None])
    with Web(lambda _, handler: ranged(handler, BODY, next(cuts))) as web:
        assert got(web, tmp_path) == BODY
        assert [wanted for _, wanted in web.requests] == ["", "bytes=1500000-", "bytes=1800000-"]


def test_a_process_that_died_is_gone_on_from(tmp_path: Path) -> None:
    with Web(lambda _, handler: ranged(handler, BODY)) as web:
        (tmp_path / "disk.img.part").write_bytes(BODY[:1000])
        (tmp_path / "disk.img.part.json").write_text(json.dumps({"url": f"{web.url}/disk.img", "version": '"1"'}))
        assert got(web, tmp_path) == BODY
        assert web.requests == [("/disk.img", "bytes=1000-")]


def test_a_process_that_died_after_the_last_byte_is_gone_on_from(tmp_path: Path) -> None:
    with Web(lambda _, handler: ranged(handler, BODY)) as web:
        (tmp_path / "disk.img.part").write_bytes(BODY)
        (tmp_path / "disk.img.part.json").write_text(json.dumps({"url": f"{web.url}/disk.img", "version": '"1"'}))
        assert got(web, tmp_path) == BODY


@pytest.mark.parametrize("notes", ["", "{", json.dumps({"url": "http://elsewhere/", "version": '"1"'}), "[]"])
def test_a_rest_of_which_nothing_is_known_is_not_gone_on_from(tmp_path: Path, notes: str) -> None:
    (tmp_path / "disk.img.part").write_bytes(b"something else")
    (tmp_path / "disk.img.part.json").write_text(notes)
    with Web(lambda _, handler: ranged(handler, BODY)) as web:
        assert got(web, tmp_path) == BODY
        assert web.requests == [("/disk.img", "")]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    answers = iter([(b"old" * 1000, 1500, '"old"'), (BODY, None, '"new"')])

    def answer(_: Web, handler: Any) -> None:
        body, stop, etag = next(answers)
        ranged(handler, body, stop, etag)

    with Web(answer) as web:
        assert got(web, tmp_path) == BODY


def test_a_server_without_ranges_is_asked_from_the_beginning(tmp_path: Path) -> None:
    cuts = iter([1_000_000, None])
    with Web(lambda _, handler: send(handler, BODY, stop_at=next(cuts))) as web:
        assert got(web, tmp_path) == BODY
        assert [wanted for _, wanted in web.requests] == ["", ""]


def test_a_line_that_breaks_again_and_again_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    with Web(lambda _, handler: ranged(handler, BODY, 1000)) as web:
        refused(web, tmp_path, f"broke {ATTEMPTS} times, 5000 bytes are here")
        assert len(web.requests) == ATTEMPTS
    assert (tmp_path / "disk.img.part").stat().st_size == 5000


def test_a_server_that_says_nothing_more_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    def answer(web: Web, handler: Any) -> None:
        if len(web.requests) == 1:
            send(handler, BODY, stop_at=1000, ETag='"1"')
            web.stopped.wait()
        else:
            ranged(handler, BODY)

    with Web(answer) as web:
        assert got(web, tmp_path, stalled=0.2) == BODY
        assert web.requests[1][1] == "bytes=1000-"


def test_what_is_not_what_the_sum_says_is_thrown_away(tmp_path: Path) -> None:
    with Web(lambda _, handler: ranged(handler, b"x" + BODY[1:])) as web:
        refused(web, tmp_path, rf"{web.url}/disk\.img: the SHA-256 is [0-9a-f]{{64}}, and should be {SUM}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (403, "403"), (500, "500"), (204, "204")])
def test_what_is_not_there_is_said_once(tmp_path: Path, status: int, reason: str) -> None:
    with Web(lambda _, handler: send(handler, b"", status)) as web:
        refused(web, tmp_path, f"disk.img: HTTP {reason}")
        assert len(web.requests) == 1


def test_redirects_are_followed(tmp_path: Path) -> None:
    def answer(_: Web, handler: Any) -> None:
        if handler.path == "/disk.img":
            send(handler, b"", 302, Location="/mirror/disk.img")
        else:
            ranged(handler, BODY)

    with Web(answer) as web:
        assert got(web, tmp_path) == BODY


def test_redirects_that_do_not_end_are(tmp_path: Path) -> None:
    with Web(lambda web, handler: send(handler, b"", 302, Location=f"/{len(web.requests)}")) as web:
        refused(web, tmp_path, "more than 10 redirects")
        assert len(web.requests) == 11


@pytest.mark.parametrize("location", ["ftp://example.org/x", "file:///etc/passwd", "javascript:0"])
def test_a_redirect_to_what_is_no_web_address_is_refused(tmp_path: Path, location: str) -> None:
    with Web(lambda _, handler: send(handler, b"", 302, Location=location)) as web:
        refused(web, tmp_path, "which is no web address")


def test_nothing_that_answers(tmp_path: Path) -> None:
    with Web(lambda *_: None) as web:
        pass
    refused(web, tmp_path, "the connection broke 5 times, 0 bytes are here")


def test_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with Web(lambda _, handler: ranged(handler, BODY)) as web:
        refused(web, tmp_path, rf"{len(BODY)} bytes are to come, and .* has room for 1000")
    assert list(tmp_path.iterdir()) == []


def listed(answer: Callable[[Web, Any], None], insecure: bool = False) -> str:
    """The sum of ``disk.img`` in a list that a server has."""
    with Web(answer) as web:
        return fetch_sum(Source(f"{web.url}/disk.img", insecure), f"{web.url}/SHA256SUMS")


def test_a_list_of_sums_is_fetched() -> None:
    text = f"{SUM} *disk.img\n{'0' * 64}  other.img\n".encode()
    assert listed(lambda _, handler: send(handler, text)) == SUM


def test_a_list_of_sums_may_be_a_file(tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"SHA256 (disk.img) = {SUM.upper()}\n")
    assert fetch_sum(Source("https://example.org/disk.img"), sums) == SUM
    with pytest.raises(ImageError, match="nope cannot be read"):
        fetch_sum(Source("https://example.org/disk.img"), tmp_path / "nope")


def test_a_list_that_comes_over_http_proves_nothing() -> None:
    with pytest.raises(ImageError, match="proves nothing; take https"):
        fetch_sum(Source("https://example.org/disk.img"), "http://example.org/SHA256SUMS")


def test_a_list_that_is_not_there_or_no_list() -> None:
    with pytest.raises(ImageError, match="HTTP 404"):
        listed(lambda _, handler: send(handler, b"", 404))
    with pytest.raises(ImageError, match="too long"):
        listed(lambda _, handler: send(handler, b"x" * (5 * 1024**2)))
    with pytest.raises(ImageError, match="no list of SHA-256 sums"):
        listed(lambda _, handler: send(handler, b"<html>"))
    with pytest.raises(ImageError, match="no answer"):
        listed(lambda *_: None)
