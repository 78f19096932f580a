"""HTTP to the web service: certificates checked, nothing followed elsewhere, and every answer bounded.

What answers may be anybody, until it has shown a certificate; and it may be broken afterwards. So nothing it
says may send a password somewhere else, fill the memory, or take for ever.
"""

from __future__ import annotations

import io
import ssl
import threading
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

from pytest_vbox.bounded import Look, Patience
from pytest_vbox.bounded import session as bounded_session
from pytest_vbox.printable import harmless
from pytest_vbox.virtualbox.errors import HungUp, NeverArrived, ServiceUnavailable

#: Seconds after which a call that got no answer at all is given up. Long operations do not come near it:
#: they return a progress object at once.
CALL_TIMEOUT: Final = 120.0
#: Seconds after which an answer has to be there as a whole.
ANSWER_TIMEOUT: Final = 300.0
#: Bytes of an answer. The longest that are asked for are screenshots and parts of logs, a few MiB.
MAX_ANSWER: Final = 64 * 1024**2
#: Bytes of a description. VirtualBox's has 3.8 MB.
MAX_DESCRIPTION: Final = 16 * 1024**2

_CONNECT_TIMEOUT: Final = 5.0
_CHUNK: Final = 64 * 1024
_SHOWN: Final = 200


class Wire:
    """Where SOAP requests go: address, certificate checking, and one pooled HTTP session for each thread.

    ``requests`` does not promise that a session may be used from several threads, so each has its own.

    Args:
        url: The service's address.
        ca: A file with the certificate authority for ``https``, if it is not one the system knows.
        look: Is told of each new connection without https, before anything is sent.
    """

    def __init__(self, url: str, *, ca: str | None = None, look: Look = lambda _, __: None) -> None:
        self.move(url)
        self._look = look
        self._ca = ca
        self._local = threading.local()
        self._sessions: list[tuple[threading.Thread, requests.Session]] = []
        self._lock = threading.Lock()

    def move(self, url: str) -> None:
        """Send what comes from now on to another address.

        Args:
            url: That address.
        """
        self.url = url.rstrip("/") + "/"

    @property
    def session(self) -> requests.Session:
        """The calling thread's HTTP session."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = bounded_session(lambda: Patience(ANSWER_TIMEOUT), self._look)
            # No proxy and no .netrc: the address is the user's, and its password is not HTTP's.
            session.trust_env = False
            session.verify = self._ca or True
            self._local.session = session
            with self._lock:
                self._close_those_of_ended_threads()
                self._sessions.append((threading.current_thread(), session))
        return session

    def _close_those_of_ended_threads(self) -> None:
        # Each thread is asked once: one that ends meanwhile has its turn the next time.
        for entry in [(thread, session) for thread, session in self._sessions if not thread.is_alive()]:
            entry[1].close()
            self._sessions.remove(entry)

    def get_wsdl(self) -> bytes:
        """The service's description, as it serves it.

        Raises:
            ServiceUnavailable: Nothing answers, or what answers is no VirtualBox.
        """
        try:
            with self.session.get(
                self.url,
                params="wsdl",
                timeout=(_CONNECT_TIMEOUT, CALL_TIMEOUT),
                allow_redirects=False,
                stream=True,
            ) as reply:
                self._check_stays(reply)
                if reply.status_code != requests.codes.ok:
                    raise ServiceUnavailable(
                        f"{self.url}?wsdl answers HTTP {reply.status_code}: not VirtualBox's web service"
                    )
                return self._whole(reply, MAX_DESCRIPTION)
        except OSError as error:  # requests' own errors are OSErrors too
            raise unavailable(self.url, error) from harmless(error)

    def post(self, message: bytes, headers: Mapping[str, str]) -> requests.Response:
        """Send a request, and return the answer, read to its end.

        Raises:
            ServiceUnavailable: The answer leads elsewhere, is too long or takes too long.
            OSError: Nothing answers.
        """
        with self.session.post(
            self.url,
            data=message,
            headers=headers,
            timeout=(_CONNECT_TIMEOUT, CALL_TIMEOUT),
            allow_redirects=False,
            stream=True,
        ) as reply:
            self._check_stays(reply)
            body = self._whole(reply, MAX_ANSWER)
        # As requests does it itself where it reads the body.
        reply.raw, reply._content, reply._content_consumed = io.BytesIO(), body, True  # type: ignore[attr-defined]
        return reply

    def _check_stays(self, reply: requests.Response) -> None:
        # A POST would become a GET, and might come with the password's successor, the session's reference.
        if 300 <= reply.status_code < 400:
            to = ascii(reply.headers.get("Location", ""))[1:-1][:_SHOWN]
            raise ServiceUnavailable(
                f"{self.url} sends us on to {to or 'nowhere'}, which is not followed: a password would go along. "
                "If that is where VirtualBox's web service is, give its address with --vbox-url"
            )

    def _whole(self, reply: requests.Response, limit: int) -> bytes:
        body = bytearray()
        try:
            while chunk := reply.raw.read1(_CHUNK):
                body += chunk
                if len(body) > limit:
                    raise ServiceUnavailable(
                        f"what answers at {self.url} sends more than {limit // 1024**2} MiB at once: not "
                        "VirtualBox's web service"
                    )
        except urllib3.exceptions.HTTPError as error:
            # What requests makes of it where it reads the body.
            raise requests.exceptions.ConnectionError(error) from error
        return bytes(body)

    def close(self) -> None:
        """Close every HTTP connection, of whichever thread."""
        with self._lock:
            for _, session in self._sessions:
                session.close()
            self._sessions.clear()


def unavailable(
    url: str, error: Exception, operation: str = "", arguments: Mapping[str, object] | None = None
) -> ServiceUnavailable:
    """What to tell the user of a connection that failed: why, and what to do.

    Args:
        url: The service's address.
        error: What ``requests`` raised.
        operation: The operation that was called, if one was.
        arguments: What it was called with, without secrets.
    """
    kind: type[ServiceUnavailable] = ServiceUnavailable
    if _found(error, urllib3.exceptions.NewConnectionError) is not None:
        kind = NeverArrived
    elif _found(error, ConnectionError) is not None:
        kind = HungUp
    return kind(
        f"VirtualBox's web service at {url} does not answer: {_reason(url, error)}",
        operation=operation,
        arguments=arguments,
    )


def _reason(url: str, error: Exception) -> str:
    certificate = _found(error, ssl.SSLCertVerificationError)
    if isinstance(certificate, ssl.SSLCertVerificationError):
        return _why_not_accepted(url, certificate)
    reason = str(error)
    for hint, words in (
        ("refused", "connection refused"),
        ("timed out", "no answer in time"),
        ("resolve", "no such host"),
        (
            "WRONG_VERSION_NUMBER",
            "it does not speak https; start it with --ssl (see docs/how-to/use-a-remote-host.md)",
        ),
        ("closed connection", f"it closed the connection{_maybe_https(url)}"),
        ("reset by peer", f"it closed the connection{_maybe_https(url)}"),
        ("BadStatusLine", f"it does not speak http{_maybe_https(url)}"),
    ):
        if hint in reason:
            return words
    if _found(error, ssl.SSLError) is not None:
        return f"no encrypted connection came about ({reason[:_SHOWN]})"
    return reason


def _maybe_https(url: str) -> str:
    return "; does it speak https? Try https:// in --vbox-url" if url.startswith("http://") else ""


def _why_not_accepted(url: str, error: ssl.SSLCertVerificationError) -> str:
    host = urlsplit(url).hostname
    words = error.verify_message
    if "expired" in words or "not yet valid" in words:
        advice = "give the service a new one, or set the clock of this computer right"
    elif "mismatch" in words or "not valid for" in words:
        advice = f"it has to be made for {host}, or --vbox-url has to have the name that it is made for"
    else:
        advice = "give the authority that signed it, or the certificate itself, with --vbox-ca"
    return f"its certificate is not accepted ({words.rstrip('.')}); {advice}"


def _found(error: BaseException, kind: type[Exception]) -> BaseException | None:
    """An error of that kind in what ``requests`` and ``urllib3`` have wrapped, if there is one."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        entry = waiting.pop(0)
        if not isinstance(entry, BaseException) or entry in seen:
            continue
        if isinstance(entry, kind):
            return entry
        seen.append(entry)
        waiting += [entry.__cause__, entry.__context__, getattr(entry, "reason", None), *entry.args]
    return None
