"""What pytest prints of a failed test has nothing of a guest's that a terminal obeys: causes and logs, too."""

from __future__ import annotations

import logging

import paramiko
import pytest
from paramiko.sftp import SFTP_FAILURE, SFTP_NO_SUCH_FILE

from pytest_vbox.deadline import Deadline
from pytest_vbox.guest import CloudInitDone, Connection, IncompatibleServer, wait_for
from pytest_vbox.guest import cloud_init as cloud_init_module
from pytest_vbox.guest.transport import LOG_CHANNEL

from .server import PASSWORD, USER, Behaviour, GuestServer
from .sftp_server import FolderServer

TITLE = "\x1b]0;owned\x07"
SHOWN = r"\x1b]0;owned\x07"


def _is_harmless(text: str) -> bool:
    return not any(sign in text for sign in "\x1b\x07\x9b\u202e\r")


def _printed(pytester: pytest.Pytester, server: GuestServer, body: str) -> str:
    """All that pytest prints of a test that does something over a connection; without a fixture of ours."""
    pytester.makepyfile(
        f"""
        from pytest_vbox.deadline import Deadline
        from pytest_vbox.guest import Login, connect, get

        def test_it(tmp_path):
            with connect({server.address!r}, Login({USER!r}, password={PASSWORD!r}), Deadline(10)) as guest:
                {body}
        """
    )
    result = pytester.runpytest_inprocess(
        "--color=no", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "--log-level=DEBUG"
    )
    result.assert_outcomes(failed=1)
    return result.stdout.str() + result.stderr.str()


def test_a_banner_that_is_a_title_of_the_terminal_is_shown(
    pytester: pytest.Pytester, server: GuestServer, behaviour: Behaviour
) -> None:
    behaviour.connections = [f"SSH-{TITLE}-x\r\n".encode()]
    printed = _printed(pytester, server, "pass")
    assert IncompatibleServer.__name__ in printed
    # The cause is still told, with its type and its words.
    assert f"IncompatiblePeer: Incompatible version ({SHOWN} instead of 2.0)" in printed
    assert _is_harmless(printed)


@pytest.mark.parametrize(
    ("status", "error"), [(SFTP_FAILURE, "CopyFailed"), (SFTP_NO_SUCH_FILE, "FileNotFoundError")]
)
def test_what_the_sftp_server_says_of_a_file_is_shown(
    pytester: pytest.Pytester,
    server: GuestServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: str,
) -> None:
    monkeypatch.setattr(FolderServer, "stat", lambda *_: status)
    send = paramiko.SFTPServer._send_status  # type: ignore[attr-defined]
    monkeypatch.setattr(
        paramiko.SFTPServer, "_send_status", lambda self, number, status, _=None: send(self, number, status, TITLE)
    )
    printed = _printed(pytester, server, "get(guest, '/etc', tmp_path)")
    assert error in printed
    assert SHOWN in printed
    assert _is_harmless(printed)


def test_why_a_session_is_refused_is_shown(
    pytester: pytest.Pytester, server: GuestServer, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour.sessions_refused = True
    init = paramiko.ChannelException.__init__
    monkeypatch.setattr(paramiko.ChannelException, "__init__", lambda self, code, _: init(self, code, TITLE))
    printed = _printed(pytester, server, "guest.open_session(Deadline(5))")
    assert f"refused a session: {SHOWN}" in printed
    assert f"ChannelException(4, '{SHOWN}')" in printed
    assert _is_harmless(printed)


def test_what_ended_a_connection_is_printable_wherever_paramiko_raises_it(connection: Connection) -> None:
    transport = connection.transport
    transport.saved_exception = paramiko.SSHException(f"bad {TITLE}", 7)
    error = transport.get_exception()
    assert isinstance(error, paramiko.SSHException)
    assert error.args == (f"bad {SHOWN}", 7)
    transport.saved_exception = ValueError(f"bad {TITLE}")
    error = transport.get_exception()
    assert isinstance(error, paramiko.SSHException)
    assert str(error) == f"the server broke the protocol (ValueError: bad {SHOWN})"
    assert str(error.__cause__) == f"ValueError: bad {SHOWN}"


@pytest.mark.parametrize("name", [LOG_CHANNEL, f"{LOG_CHANNEL}.sftp"])
def test_paramikos_log_has_what_the_server_says_as_printable_text(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(name)
    with caplog.at_level(logging.DEBUG):
        logger.info("Connected (client %s)", TITLE)
        logger.error("Unknown exception: %s", f"100 % {TITLE}")
        # A mistake of paramiko's own ends no thread of it.
        logger.info("%d", TITLE)
    assert [record.getMessage() for record in caplog.records] == [
        f"Connected (client {SHOWN})",
        f"Unknown exception: 100 % {SHOWN}",
        f"%d ('{SHOWN}',)",
    ]


def test_what_cloud_init_got_over_is_logged_as_printable_text(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = '{"v1": {"recoverable_errors": {"DEPRECATED": ["\\u001b]0;owned\\u0007", "a\\nb"]}}}'
    look = f"printf '%s' '{said}'; exit 10"
    monkeypatch.setattr(cloud_init_module, "_LOOK", look)
    with caplog.at_level(logging.WARNING):
        wait_for(connection, CloudInitDone(), Deadline(10))
    assert f"DEPRECATED: {SHOWN}" in caplog.text
    assert _is_harmless(caplog.text)
