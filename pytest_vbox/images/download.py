"""Downloads: into a file beside its place, resumed where they broke off, and verified before they count."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit

from pytest_vbox.files import read_regular
from pytest_vbox.images.checksums import MAX_BYTES as LONGEST_LIST
from pytest_vbox.images.checksums import sha256_of, sum_for
from pytest_vbox.images.compression import MAX_BYTES
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.report import Report
from pytest_vbox.printable import harmless, short

if TYPE_CHECKING:
    import requests

    from pytest_vbox.bounded import Patience

#: Seconds without a byte, or with fewer than `LEAST` of them, after which a connection counts as broken.
STALLED: Final = 60.0
#: Bytes of a body that have to come in that time, so that one that trickles has an end; or all that are left.
LEAST: Final = 256 * 1024
#: How often a download is resumed after its connection broke.
ATTEMPTS: Final = 5
_REDIRECTS: Final = 10
_CHUNK: Final = 1024**2
_REASON: Final = 100  # characters shown of what a server says
_ROOM: Final = 64 * 1024**2  # left free on the disk


@dataclass(frozen=True)
class Source:
    """What is downloaded.

    Attributes:
        url: Its address.
        insecure: Whether it may come over http after https, and without a sum.
    """

    url: str
    insecure: bool = False

    @property
    def name(self) -> str:
        """The file's name."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2]) or "download"


class _Broken(Exception):
    """The connection broke; what has come so far is good."""


def _cause(broken: _Broken) -> BaseException | None:
    return harmless(broken.__cause__) if broken.__cause__ is not None else None


def fetch(source: Source, target: Path, sha256: str | None, report: Report, stalled: float = STALLED) -> str:
    """Download a file.

    It is written beside its place and put there once it is whole and its sum is right; if it breaks off, or the
    process dies, the next one goes on from there.

    Args:
        source: What to download.
        target: Where to; its folder exists.
        sha256: Its sum, or None to take what comes.
        report: Is told of progress.
        stalled: Seconds without a byte, or with hardly any, after which a connection counts as broken.

    Returns:
        The sum that the file has.

    Raises:
        ImageError: It cannot be had, or is not what the sum says.
    """
    part = target.with_name(target.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _go_on(source, part, report, stalled)
            break
        except _Broken as broken:
            if attempt == ATTEMPTS:
                had = part.stat().st_size if part.exists() else 0
                raise ImageError(
                    f"{source.url}: the connection broke {ATTEMPTS} times, {had} bytes are here: "
                    f"{broken.__cause__}. "
                    "Try again later; it goes on from there"
                ) from _cause(broken)
    found = sha256_of(part)
    if sha256 is not None and found != sha256:
        _throw_away(part)
        raise ImageError(
            f"{source.url}: the SHA-256 is {found}, and should be {sha256}. The file was thrown away. Either it "
            "has changed since the sum was written down, or somebody changed it on the way"
        )
    _notes(part).unlink(missing_ok=True)
    part.replace(target)
    return found


def fetch_sum(name: str, listed: str | Path, *, insecure: bool = False, stalled: float = STALLED) -> str:
    """The sum of a file, from a list of sums.

    Args:
        name: The file's name.
        listed: Where the list is: an address, or a file on this computer.
        insecure: Whether the list may come over http.
        stalled: Seconds without a byte, or with hardly any, after which a connection counts as broken.

    Raises:
        ImageError: The list cannot be had, or does not have the file.
    """
    if isinstance(listed, Path):
        try:
            text = read_regular(listed, LONGEST_LIST).decode("utf-8", errors="replace")
        except OSError as error:
            raise ImageError(f"the list of sums {listed} cannot be read: {error.strerror}") from error
        return sum_for(name, text, str(listed))
    _check_proves(listed, insecure)
    content = bytearray()
    try:
        with _opened(Source(listed, insecure), {}, stalled) as answer:
            response = answer.response
            _check_proves(response.url, insecure)
            if response.status_code != HTTPStatus.OK:
                raise ImageError(f"{listed}: {_status(response)}")
            for chunk in answer.body():
                content += chunk
                if len(content) > LONGEST_LIST:
                    raise ImageError(f"{listed} is too long for a list of sums")
    except _Broken as broken:
        raise ImageError(f"{listed}: no answer: {broken.__cause__}") from _cause(broken)
    except _breaks() as error:
        raise ImageError(f"{listed}: the connection broke: {error}") from harmless(error)
    return sum_for(name, content.decode("utf-8", errors="replace"), listed)


def _check_proves(listed: str, insecure: bool) -> None:
    if urlsplit(listed).scheme == "http" and not insecure and not _is_loopback(listed):
        raise ImageError(
            f"{listed}: a list of sums that comes over http proves nothing; take https, or write the sum itself "
            "(insecure: true does without)"
        )


def _go_on(source: Source, part: Path, report: Report, stalled: float) -> None:
    """Download what is not here yet.

    Raises:
        _Broken: The connection broke.
        ImageError: There is no use in trying again.
    """
    notes = _read_notes(part, source)
    done = part.stat().st_size if part.exists() and notes else 0
    headers = {"Range": f"bytes={done}-", "If-Range": notes} if done and notes else {}
    with _opened(source, headers, stalled) as answer:
        response = answer.response
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
            # Nothing is left to send: it was whole, or it is another file now. Its sum tells.
            if response.headers.get("Content-Range", "").rpartition("/")[2] == str(done):
                return
            _throw_away(part)
            raise _Broken from ImageError("the file has become shorter")
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise ImageError(f"{source.url}: {_status(response)}")
        if response.status_code == HTTPStatus.OK:
            done = 0
            # Before it is noted that this is the version that is here.
            _throw_away(part)
        elif not _goes_on_at(response, done):
            _throw_away(part)
            raise _Broken from ImageError("the server sent another part than it was asked for")
        length = _length(response)
        total = done + length if length is not None else None
        _check_room(part, source, done, length)
        _write_notes(part, source, response)
        _receive(source, answer, part, done, total, report)


def _goes_on_at(response: requests.Response, done: int) -> bool:
    """Whether a part of a file begins where what is here ends."""
    span = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return done > 0 and span.strip() == str(done)


def _length(response: requests.Response) -> int | None:
    """How long the server says that its answer is."""
    said = response.headers.get("Content-Length", "")
    # More digits than that are a number that Python would not even read.
    return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None


def _status(response: requests.Response) -> str:
    # The reason is the server's own text.
    return f"HTTP {response.status_code} {short(response.reason or '', 100)}".rstrip()


@dataclass(frozen=True)
class _Answer:
    """An answer whose body is still to come, and how long it is waited for."""

    response: requests.Response
    patience: Patience

    def body(self) -> Iterator[bytes]:
        """The body as it comes, not decoded: what is compressed could become any number of bytes.

        Raises:
            TimeoutError: It trickles.
        """
        came = 0
        self.patience.renew()
        # Not iter_content: that would lose what came of a chunk before the connection broke.
        while chunk := self.response.raw.read1(_CHUNK, decode_content=False):
            yield chunk
            came += len(chunk)
            if came >= LEAST:
                came = 0
                self.patience.renew()
            # Also where the connection itself does not ask, as through some proxies.
            self.patience.check()


def _breaks() -> tuple[type[Exception], ...]:
    """What says that a connection broke."""
    import urllib3.exceptions

    return (urllib3.exceptions.HTTPError, TimeoutError, ConnectionError)


def _receive(source: Source, answer: _Answer, part: Path, done: int, total: int | None, report: Report) -> None:
    what = f"download {short(source.name, _REASON)}"
    report(what, done, total)
    try:
        with part.open("r+b" if done else "wb") as file:
            file.seek(done)
            file.truncate()
            for chunk in answer.body():
                # Whatever length was said, if any was.
                _check_room(part, source, done, None, len(chunk))
                file.write(chunk)
                done += len(chunk)
                report(what, done, total)
            file.flush()
            os.fsync(file.fileno())
    except ImageError:
        _throw_away(part)
        raise
    except _breaks() as error:
        raise _Broken from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            # It is large, and of no use where there is no room for it.
            _throw_away(part)
            raise ImageError(f"{source.url}: no space left in {part.parent} after {done} bytes") from error
        raise ImageError(f"{source.url}: cannot write {part}: {error.strerror}") from error
    if total is not None and done != total:
        raise _Broken from ImageError(f"{done} of {total} bytes came")


@contextmanager
def _opened(source: Source, headers: dict[str, str], stalled: float) -> Iterator[_Answer]:
    """The answer to a request, after redirects."""
    import requests

    from pytest_vbox.bounded import Patience
    from pytest_vbox.bounded import session as bounded_session

    url, patience = source.url, Patience(stalled)
    with bounded_session(lambda: patience) as session:
        # Proxies are the user's wish; .netrc is for other programs.
        session.auth = _no_auth
        for _ in range(_REDIRECTS + 1):
            patience.renew()
            try:
                response = session.get(
                    url,
                    headers=headers,
                    stream=True,
                    timeout=(min(stalled, 30.0), stalled),
                    allow_redirects=False,
                )
            except requests.exceptions.SSLError as error:
                raise ImageError(f"{_shown(url)}: its certificate is not accepted: {error}") from harmless(error)
            except (requests.ConnectionError, requests.Timeout) as error:
                raise _Broken from error
            except requests.RequestException as error:
                raise ImageError(f"{_shown(url)}: {error}") from harmless(error)
            with response:
                if not response.is_redirect:
                    yield _Answer(response, patience)
                    return
                url = _next(source, url, response.headers["Location"])
    raise ImageError(f"{source.url}: more than {_REDIRECTS} redirects")


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _next(source: Source, url: str, location: str) -> str:
    try:
        to = urljoin(url, location)
        scheme = urlsplit(to).scheme
    except ValueError:
        raise ImageError(f"{source.url}: redirected to {_shown(location)}") from None
    if scheme not in {"http", "https"}:
        raise ImageError(f"{source.url}: redirected to {_shown(to)}, which is no web address")
    if scheme == "http" and urlsplit(url).scheme == "https" and not source.insecure:
        raise ImageError(f"{source.url}: redirected from https to {_shown(to)}; insecure: true lets that pass")
    return to


def _shown(url: str) -> str:
    """An address as it may be shown: without a user, and without a query, in which there may be a signature.

    It came from a server, and may be anything: no terminal shall obey it.
    """
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is none"
    text = f"{parts.scheme}://{place}{parts.path}" if place else f"{parts.scheme}:{parts.path}"
    return ascii(text + ("?…" if parts.query else ""))[1:-1].replace("\\u2026", "…")[:300]


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}


def _check_room(part: Path, source: Source, done: int, length: int | None, chunk: int = 0) -> None:
    """See that what is still to come may come.

    Args:
        part: Where it goes.
        source: What it is.
        done: Bytes that are here.
        length: Bytes that are to come, or None if that is not known, or not believed.
        chunk: Bytes that have come and are not written yet.

    Raises:
        ImageError: There is no room for it, or it is larger than any image.
    """
    needed = chunk if length is None else length
    if done + needed > MAX_BYTES:
        raise ImageError(f"{source.url} has more than {MAX_BYTES} bytes, the most that an image may have")
    free = shutil.disk_usage(part.parent).free
    if needed + _ROOM > free:
        so_far = f"{done} bytes have come" if length is None else f"{length} bytes are to come"
        raise ImageError(
            f"{source.url}: {so_far}, and {part.parent} has room for {free} more, {_ROOM} of which are left free. "
            "Make room there, or move the cache folder"
        )


# What is known of a part: of which version of the file it is. Without that it cannot be gone on with.


def _notes(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_notes(part: Path, source: Source, response: requests.Response) -> None:
    tag = response.headers.get("ETag", "")
    # A weak tag does not promise the same bytes.
    version = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    _notes(part).write_text(json.dumps({"url": source.url, "version": version}), encoding="utf-8")


def _read_notes(part: Path, source: Source) -> str:
    try:
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    if not isinstance(notes, dict) or notes.get("url") != source.url:
        return ""
    return str(notes.get("version") or "")


def _throw_away(part: Path) -> None:
    for path in (part, _notes(part)):
        with suppress(OSError):
            path.unlink(missing_ok=True)
