"""Downloads over bad lines and from bad servers."""

from __future__ import annotations

import contextlib
import datetime
import errno
import gzip
import hashlib
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pytest_vbox.images import ImageError, download
from pytest_vbox.images.download import ATTEMPTS, Source, fetch, fetch_sum
from pytest_vbox.images.report import silent

from .web import Web, ranged, send

pytestmark = pytest.mark.slow

BODY = os.urandom(3 * 1024**2)
SUM = hashlib.sha256(BODY).hexdigest()
HARMLESS_404 = r"HTTP 404 \\x1b\]0;owned\\x07xxx"


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
    with Web(lambda _, handler: ranged(handler, bytes([BODY[0] ^ 1]) + BODY[1:])) as web:
        refused(web, tmp_path, rf"{web.url}/disk\.img: the SHA-256 is [0-9a-f]{{64}}, and should be {SUM}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "reason"), [(404, "404 Not Found"), (403, "403"), (500, "500"), (204, "204")])
def test_what_is_not_there_is_said_once(tmp_path: Path, status: int, reason: str) -> None:
    with Web(lambda _, handler: send(handler, b"", status)) as web:
        refused(web, tmp_path, f"disk.img: HTTP {reason}")
        assert len(web.requests) == 1


def test_what_a_server_says_and_a_name_in_an_address_are_shown_harmless_and_in_part(tmp_path: Path) -> None:
    def answer(_: Web, handler: Any) -> None:
        handler.send_response(404, "\x1b]0;owned\x07" + "x" * 10_000)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with Web(answer) as web, pytest.raises(ImageError, match=HARMLESS_404) as caught:
        fetch(Source(f"{web.url}/disk.img"), tmp_path / "disk.img", None, silent)
    with pytest.raises(ImageError, match=HARMLESS_404) as caught_too:
        listed(answer)
    for error in (caught.value, caught_too.value):
        assert str(error).isprintable()
        assert len(str(error)) < 500
    told: list[str] = []
    with Web(lambda _, handler: send(handler, BODY)) as web:
        source = Source(f"{web.url}/%1b]0;owned%07.img")
        fetch(source, tmp_path / "disk.img", None, lambda what, *_: told.append(what))
    assert set(told) == {r"download \x1b]0;owned\x07.img"}


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


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("ftp://ann:hush@example.org/x?token=hush", r"ftp://example\.org/x\?…, which"),
        ("file:///x\x1b]0;owned\x07", r"file:/"),
        ("ftp://exa\u202emple.org/" + "y" * 1000, "ftp://exa"),
    ],
    ids=["credentials", "escapes", "right-to-left"],
)
def test_where_a_redirect_leads_is_shown_without_credentials_and_without_what_a_terminal_obeys(
    tmp_path: Path, location: str, shown: str
) -> None:
    location = location.encode().decode("latin-1")
    with (
        Web(lambda _, handler: send(handler, b"", 302, Location=location)) as web,
        pytest.raises(ImageError, match=shown) as caught,
    ):
        fetch(Source(f"{web.url}/disk.img"), tmp_path / "disk.img", SUM, silent)
    assert "hush" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_nothing_that_answers(tmp_path: Path) -> None:
    with Web(lambda *_: None) as web:
        pass
    refused(web, tmp_path, "the connection broke 5 times, 0 bytes are here")


def test_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with Web(lambda _, handler: ranged(handler, BODY)) as web:
        refused(web, tmp_path, rf"{len(BODY)} bytes are to come, and .* has room for 1000 more")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tls(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server on loopback needs for https; downloads trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    today = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_a_redirect_from_https_to_http_is_refused_unless_insecure(tmp_path: Path, tls: ssl.SSLContext) -> None:
    with Web(lambda _, handler: ranged(handler, BODY)) as plain:

        def answer(_: Web, handler: Any) -> None:
            send(handler, b"", 302, Location=f"{plain.url}/disk.img")

        with Web(answer, tls) as web:
            refused(web, tmp_path, f"redirected from https to {plain.url}/disk.img; insecure: true lets that pass")
            assert plain.requests == []
            source = Source(f"{web.url}/disk.img", insecure=True)
            assert fetch(source, tmp_path / "disk.img", SUM, silent) == SUM


def test_a_certificate_that_is_not_trusted_is_not_tried_again(
    tmp_path: Path, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with Web(lambda _, handler: ranged(handler, BODY), tls) as web:
        refused(web, tmp_path, "its certificate is not accepted")


@pytest.mark.parametrize("span", ["bytes 0-9/3145728", "bytes 2000-3145727/3145728", "", "nonsense"])
def test_another_part_than_was_asked_for_is_not_put_behind_what_is_here(tmp_path: Path, span: str) -> None:
    def answer(web: Web, handler: Any) -> None:
        if len(web.requests) == 1:
            ranged(handler, BODY, 1000)
        elif len(web.requests) == 2:
            send(handler, BODY[:10], 206, Content_Range=span, ETag='"1"')
        else:
            ranged(handler, BODY)

    with Web(answer) as web:
        assert got(web, tmp_path, None) == BODY
        assert [wanted for _, wanted in web.requests] == ["", "bytes=1000-", ""]


def test_a_part_of_a_file_that_nobody_asked_for_is_refused(tmp_path: Path) -> None:
    with Web(lambda _, handler: send(handler, BODY[5:], 206, Content_Range="bytes 5-9/10")) as web:
        refused(web, tmp_path, "the server sent another part than it was asked for", sha256=None)


def test_a_server_that_says_a_wrong_length_is_believed_in_nothing(tmp_path: Path) -> None:
    with Web(lambda _, handler: send(handler, BODY, length=len(BODY) + 10)) as web:
        refused(web, tmp_path, f"broke {ATTEMPTS} times")
    with Web(lambda _, handler: send(handler, BODY, length=len(BODY) - 10)) as web:
        refused(web, tmp_path, "and should be")


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with Web(lambda _, handler: ranged(handler, BODY)) as web:
        refused(web, tmp_path, rf"disk\.img: no space left in .* after {len(BODY)} bytes")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_killed_is_gone_on_from(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pytest_vbox.images.download import Source, fetch
fetch(Source(sys.argv[1]), Path(sys.argv[2]), None, lambda *step: print(step[1], flush=True))
"""

    def answer(web: Web, handler: Any) -> None:
        ranged(handler, BODY, 1_000_000 if len(web.requests) == 1 else None)
        if len(web.requests) == 1:
            web.stopped.wait()

    with Web(answer) as web:
        command = [sys.executable, "-c", code, f"{web.url}/disk.img", str(tmp_path / "disk.img")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while "1000000" not in process.stdout.readline():
                assert process.poll() is None
            process.kill()
        part = (tmp_path / "disk.img.part").stat().st_size
        assert got(web, tmp_path) == BODY
        assert [wanted for _, wanted in web.requests] == ["", f"bytes={part}-" if part else ""]


# Servers that do not come to an end


def chunked(handler: Any, size: int, **headers: str) -> None:
    """Answer without saying how much will come."""
    handler.send_response(200)
    for name, value in {"Transfer-Encoding": "chunked", **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    for start in range(0, size, 64 * 1024):
        piece = BODY[start % len(BODY) :][: 64 * 1024]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes that may be written to a disk that is nearly full, which shrink as they are used."""
    usage, room = shutil.disk_usage(tmp_path), 1_500_000

    def used(_: Path) -> Any:
        here = sum(file.stat().st_size for file in tmp_path.iterdir())
        return usage._replace(free=64 * 1024**2 + room - here)

    monkeypatch.setattr(shutil, "disk_usage", used)
    return room


def test_what_comes_without_a_length_stops_where_the_disk_would_be_full(tmp_path: Path, room: int) -> None:
    most = 0

    def watch(_what: str, done: int, _total: int | None) -> None:
        nonlocal most
        most = max(most, done)

    with (
        Web(lambda _, handler: chunked(handler, 20 * 1024**2)) as web,
        pytest.raises(ImageError, match=r"\d+ bytes have come, and .* has room for .* Make room there"),
    ):
        fetch(Source(f"{web.url}/disk.img"), tmp_path / "disk.img", None, watch)
    assert room - 128 * 1024 < most <= room
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_others_fill_meanwhile_is_not_filled_to_its_last_byte(tmp_path: Path, room: int) -> None:
    def answer(_: Web, handler: Any) -> None:
        (tmp_path / "others").write_bytes(b"x" * room)
        ranged(handler, BODY[:1_000_000])

    with Web(answer) as web:
        refused(web, tmp_path, "has room for", sha256=None)
    assert [path.name for path in tmp_path.iterdir()] == ["others"]


@pytest.mark.parametrize("says", [True, False], ids=["says so", "does not say"])
def test_what_is_larger_than_any_image_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1024**2)
    with Web(lambda _, handler: send(handler, BODY) if says else chunked(handler, 20 * 1024**2)) as web:
        refused(web, tmp_path, "more than 1048576 bytes, the most that an image may have")
        assert len(web.requests) == 1
    assert list(tmp_path.iterdir()) == []


_TRICKLES = {
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "status": (b"HTTP/1.1 200 ", b"O"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk-size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"X: y\r\n"),
}


def trickle(kind: str) -> Callable[[Web, Any], None]:
    """Answer bit by bit, for ever."""
    start, more = _TRICKLES[kind]

    def answer(web: Web, handler: Any) -> None:
        handler.wfile.write(start)
        with contextlib.suppress(OSError):
            while not web.stopped.wait(0.01):
                handler.wfile.write(more)

    return answer


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download is resumed once."""
    monkeypatch.setattr(download, "ATTEMPTS", 2)


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("twice")
@pytest.mark.parametrize("kind", _TRICKLES)
def test_a_server_that_trickles_has_an_end(tmp_path: Path, kind: str) -> None:
    with Web(trickle(kind)) as web:
        refused(web, tmp_path, "the connection broke 2 times", stalled=0.2)


@pytest.mark.timeout(20)
@pytest.mark.usefixtures("twice")
def test_a_server_behind_a_proxy_that_trickles_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Web(trickle("continue")) as web:
        monkeypatch.setenv("http_proxy", web.url)
        with pytest.raises(ImageError, match="the connection broke 2 times"):
            fetch(Source("http://disks.invalid/disk.img"), tmp_path / "disk.img", None, silent, 0.2)
        assert [path for path, _ in web.requests] == 2 * ["http://disks.invalid/disk.img"]


def test_one_that_trickled_is_gone_on_with(tmp_path: Path) -> None:
    def answer(web: Web, handler: Any) -> None:
        if len(web.requests) > 1:
            ranged(handler, BODY)
            return
        send(handler, BODY, stop_at=1_000_000, ETag='"1"')
        with contextlib.suppress(OSError):
            for byte in BODY[1_000_000:]:
                handler.wfile.write(bytes([byte]))
                if web.stopped.wait(0.01):
                    return

    with Web(answer) as web:
        assert got(web, tmp_path, stalled=0.3) == BODY
        (_, wanted) = web.requests[1]
        assert int(wanted.removeprefix("bytes=").rstrip("-")) >= 1_000_000


def test_a_slow_line_is_not_taken_for_one_that_trickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LEAST", 1000)

    def answer(web: Web, handler: Any) -> None:
        send(handler, BODY[:20_000], stop_at=0)
        for start in range(0, 20_000, 1000):
            handler.wfile.write(BODY[start : start + 1000])
            web.stopped.wait(0.03)

    with Web(answer) as web:
        # In all it takes twice as long.
        assert got(web, tmp_path, None, stalled=0.3) == BODY[:20_000]
        assert len(web.requests) == 1


def endless_redirect(web: Web, handler: Any) -> None:
    """Lead elsewhere, with a body that is as long as anybody listens."""
    if len(web.requests) > 1:
        ranged(handler, BODY)
        return
    handler.send_response(302)
    handler.send_header("Location", "/mirror/disk.img")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not web.stopped.is_set():
            handler.wfile.write(BODY)


@pytest.mark.timeout(20)
def test_the_body_of_a_redirect_is_not_read(tmp_path: Path) -> None:
    with Web(endless_redirect) as web:
        assert got(web, tmp_path) == BODY


@pytest.mark.parametrize("location", ["http://[", "https://[::1", "//[x"])
def test_a_redirect_to_what_is_no_address(tmp_path: Path, location: str) -> None:
    with Web(lambda _, handler: send(handler, b"", 302, Location=location)) as web:
        refused(web, tmp_path, "redirected to")


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-1", "1 1"])
def test_a_length_that_is_none_is_not_believed(tmp_path: Path, length: str) -> None:
    def answer(_: Web, handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(b"disk")

    with Web(answer) as web:
        assert got(web, tmp_path, None) == b"disk"


def test_why_a_server_refuses_is_shown_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    def answer(_: Web, handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 404 \x1b]0;owned\x07" + b"x" * 5000 + b"\r\nContent-Length: 0\r\n\r\n")

    with Web(answer) as web, pytest.raises(ImageError) as caught:
        got(web, tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def listed(answer: Callable[[Web, Any], None], insecure: bool = False, stalled: float = 5) -> str:
    """The sum of ``disk.img`` in a list that a server has."""
    with Web(answer) as web:
        return fetch_sum("disk.img", f"{web.url}/SHA256SUMS", insecure=insecure, stalled=stalled)


def test_a_list_of_sums_is_fetched() -> None:
    text = f"{SUM} *disk.img\n{'0' * 64}  other.img\n".encode()
    assert listed(lambda _, handler: send(handler, text)) == SUM


def test_a_list_of_sums_may_be_a_file(tmp_path: Path) -> None:
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"SHA256 (disk.img) = {SUM.upper()}\n")
    assert fetch_sum("disk.img", sums) == SUM
    with pytest.raises(ImageError, match="nope cannot be read"):
        fetch_sum("disk.img", tmp_path / "nope")


def test_a_list_that_comes_over_http_proves_nothing() -> None:
    with pytest.raises(ImageError, match="proves nothing; take https"):
        fetch_sum("disk.img", "http://example.org/SHA256SUMS")


def test_a_list_that_comes_over_http_in_the_end_proves_nothing_either() -> None:
    def answer(web: Web, handler: Any) -> None:
        if handler.path == "/SHA256SUMS":
            # An address of this computer that does not look like it.
            elsewhere = web.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104
            send(handler, b"", 302, Location=f"{elsewhere}/list")
        else:
            send(handler, f"{SUM}  disk.img\n".encode())

    with pytest.raises(
        ImageError, match=r"http://0\.0\.0\.0:\d+/list: a list of sums that comes over http proves"
    ):
        listed(answer)
    assert listed(answer, insecure=True) == SUM


def test_a_list_that_is_not_there_or_no_list() -> None:
    with pytest.raises(ImageError, match="HTTP 404"):
        listed(lambda _, handler: send(handler, b"", 404))
    with pytest.raises(ImageError, match="too long"):
        listed(lambda _, handler: send(handler, b"x" * (5 * 1024**2)))
    with pytest.raises(ImageError, match="no list of SHA-256 sums"):
        listed(lambda _, handler: send(handler, b"<html>"))
    with pytest.raises(ImageError, match="no answer"):
        listed(lambda *_: None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", _TRICKLES)
def test_a_list_that_trickles_has_an_end(kind: str) -> None:
    with pytest.raises(ImageError, match=r"no answer|the connection broke"):
        listed(trickle(kind), stalled=0.2)


@pytest.mark.timeout(20)
def test_a_list_without_end_is_not_read() -> None:
    with pytest.raises(ImageError, match="too long for a list of sums"):
        listed(lambda _, handler: chunked(handler, 10 * 1024**3))


def test_a_list_that_is_packed_is_not_unpacked() -> None:
    packed = gzip.compress(b"\0" * 16 * 1024**2)

    def answer(_: Web, handler: Any) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        send(handler, packed, Content_Encoding="gzip")

    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="is no list of SHA-256 sums"):
            listed(answer)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * 1024**2
