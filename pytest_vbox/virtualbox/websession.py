"""The web session: logon, keep-alive, a new logon when the old one is lost, locks, and the end."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pytest_vbox.bounded import Look
from pytest_vbox.deadline import Deadline
from pytest_vbox.secret import Secret, forget_frames
from pytest_vbox.virtualbox import compat
from pytest_vbox.virtualbox.api import LOGON, Api
from pytest_vbox.virtualbox.enums import LockType, MachineState, SessionState, VBoxEventType
from pytest_vbox.virtualbox.errors import (
    Aborted,
    HungUp,
    InvalidObjectReference,
    LogonRefused,
    NeverArrived,
    OpenToAnybody,
    ServiceUnavailable,
    VirtualBoxError,
)
from pytest_vbox.virtualbox.machine import Machine, Session, unlocking
from pytest_vbox.virtualbox.virtualbox import VirtualBox
from pytest_vbox.virtualbox.wire import Wire
from pytest_vbox.virtualbox.wsdl import WsdlCache, WsdlError, distil, wanted_operations

logger = logging.getLogger(__name__)

#: The server ends a web session after 300 s without a call, unless it was told otherwise (``-t``).
KEEP_ALIVE: Final = 60.0

#: How often a service is replaced that takes nobody: one that is started right after VirtualBox's server died may
#: have met that one in its last moment, and is then of no more use than the one before.
MOST_REPLACED: Final = 3

_STATE_EVENTS: Final = (VBoxEventType.ON_MACHINE_STATE_CHANGED, VBoxEventType.ON_SESSION_STATE_CHANGED)


@dataclass(frozen=True)
class Credentials:
    """Whom the service shall know us as. Empty where it runs without authentication."""

    user: str = ""
    password: str = field(default="", repr=False)


class WebSession:
    """A logged-on connection to one VirtualBox.

    Use :func:`connect`; close it (or use it as a context manager) so that the server need not wait for its
    own timeout to forget it.

    Attributes:
        virtualbox: The way to everything else.
        version: VirtualBox's version, such as ``7.2.22_Debian``.
        api_version: The version of its API as numbers, such as ``(7, 2)``.
    """

    def __init__(
        self, api: Api, credentials: Credentials, reference: str, version: str, api_version: tuple[int, int]
    ):
        self.api = api
        self.version = version
        self.api_version = api_version
        self._credentials = credentials
        self._logon_lock = threading.Lock()
        #: Session objects that may be used again, and those that may still hold a lock after an error.
        self._idle: list[Session] = []
        self._doubtful: list[Session] = []
        self.virtualbox = VirtualBox(api, reference, self._renew)
        #: Gives the address of another service of the same VirtualBox, and how to log on there, where this one
        #: died, or VirtualBox's server behind it; None where that is the user's to do.
        self.elsewhere: Callable[[], tuple[str, Credentials]] | None = None
        #: Is told of the reference of each new web session, after an old one was lost.
        self.on_logon: Callable[[str], None] = lambda _: None
        #: Is told of the reference of each new session object, before anything is locked with it.
        self.on_session_object: Callable[[str], None] = lambda _: None
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive, name="pytest-vbox-keep-alive", daemon=True)
        self._keeper.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The service's address."""
        return self.api.wire.url.rstrip("/")

    def refresh(self) -> None:
        """See that the web session lasts, before something is begun that had better not stop half-way.

        A lost one is begun anew, in another service if need be.

        Raises:
            ServiceUnavailable: The service does not answer, or VirtualBox's server behind it has died.
        """
        self._renew()

    def end_other(self, reference: str, session_objects: Iterable[str] = ()) -> None:
        """Log another web session off, of a process that died. It is no error if it has ended already.

        Args:
            reference: What that process knew as its `virtualbox`; may be empty.
            session_objects: The references of what it locked machines with. Logging off would not unlock these,
                and nobody could any more, until VirtualBox's web service ends.

        Raises:
            ServiceUnavailable: Nobody knows whether all is unlocked; it was not logged off, so one can try again.
        """
        if reference and reference != self.virtualbox.reference:
            for session in (Session(self.api, object_reference) for object_reference in session_objects):
                try:
                    _save(session)
                    _unlock(session)
                except ServiceUnavailable:
                    raise
                except VirtualBoxError:  # it is gone, or holds nothing
                    logger.debug("could not unlock %s", session.reference, exc_info=True)
            with suppress(VirtualBoxError):
                self.api.call("IWebsessionManager_logoff", refIVirtualBox=reference)

    def close(self) -> None:
        """Log off. A service that is gone already is no error here."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._unlock_doubtful()
        with suppress(VirtualBoxError):
            self.api.call("IWebsessionManager_logoff", refIVirtualBox=self.virtualbox.reference)
        self.api.wire.close()

    @contextmanager
    def lock(self, machine: Machine, lock_type: LockType, deadline: Deadline) -> Iterator[Session]:
        """Hold a lock on a machine for the length of the block.

        Args:
            machine: A registered machine.
            lock_type: ``WRITE`` to change the settings of one that is off, ``SHARED`` for one that runs.
            deadline: For how long to wait while another lock is being given back. (After a power-down a
                machine stays locked for a moment.)

        Raises:
            OperationTimeout: It stayed locked.
            VirtualBoxError: It cannot be locked.
        """
        if lock_type is LockType.WRITE:
            self.wait_for_unlock(machine, deadline)
        with self.session_object() as session:
            machine.lock_machine(session, lock_type)
            with unlocking(session):
                try:
                    yield session
                except BaseException:
                    _save(session)
                    raise

    @contextmanager
    def session_object(self) -> Iterator[Session]:
        """A session object for one lock; used again for another, if all goes well."""
        mine = self.virtualbox.reference
        try:
            session = self._idle.pop()
        except IndexError:
            session = self._new_session_object()
        try:
            yield session
        except BaseException:
            self._doubtful.append(session)
            raise
        if self.virtualbox.reference == mine:
            self._idle.append(session)

    def _unlock_doubtful(self) -> None:
        """Unlock what a call locked, or failed to unlock, whose answer never came: logging off would not do it."""
        for session in self._doubtful[:]:
            with suppress(VirtualBoxError, ValueError):  # ValueError: another thread was faster
                _unlock(session)
                self._doubtful.remove(session)

    def _new_session_object(self) -> Session:
        reference = self.api.call("IWebsessionManager_getSessionObject", refIVirtualBox=self.virtualbox.reference)
        self.on_session_object(str(reference))
        return Session(self.api, str(reference))

    def wait_for_unlock(self, machine: Machine, deadline: Deadline) -> None:
        """Wait until nobody holds a lock on a machine, its own process included.

        Raises:
            OperationTimeout: It stayed locked.
        """
        if machine.session_state is SessionState.UNLOCKED:
            return
        self._unlock_doubtful()
        self.virtualbox.event_source.wait_until(
            lambda: machine.session_state is SessionState.UNLOCKED,
            _STATE_EVENTS,
            deadline,
            lambda: _still_locked(machine),
        )

    def wait_for_state(
        self, machine: Machine, states: frozenset[MachineState], deadline: Deadline
    ) -> MachineState:
        """Wait until a machine is in one of some states, and return which.

        Raises:
            OperationTimeout: It never was.
        """
        wanted = " or ".join(sorted(states))
        self.virtualbox.event_source.wait_until(
            lambda: machine.state in states,
            _STATE_EVENTS,
            deadline,
            lambda: f"machine {machine.name} is {machine.state}, not {wanted}",
        )
        return machine.state

    def _renew(self) -> str:
        """A valid reference to IVirtualBox, logging on anew if need be; several threads may ask at once."""
        with self._logon_lock:
            reference = self.virtualbox.reference
            try:
                self._see_that_it_lasts(reference)
            except (Aborted, HungUp, InvalidObjectReference, NeverArrived) as error:
                reference = self._log_on_again(error)
                self.virtualbox.reference = reference
                self._idle.clear()
                self._doubtful.clear()
                self.on_logon(reference)
            return reference

    def _see_that_it_lasts(self, reference: str) -> None:
        try:
            self.api.call("IVirtualBox_getAPIVersion", _this=reference)
        except HungUp:
            # One more try, which does no harm as this only looks: it may have been a connection of long ago.
            self.api.call("IVirtualBox_getAPIVersion", _this=reference)

    def _log_on_again(self, lost: VirtualBoxError) -> str:
        """Begin another web session, where that is possible."""
        if isinstance(lost, InvalidObjectReference):
            try:
                return _logon(self.api, self._credentials)
            except (HungUp, LogonRefused, NeverArrived):
                if self.elsewhere is None:
                    raise
        elif self.elsewhere is None:
            if isinstance(lost, Aborted):
                raise ServiceUnavailable(
                    f"VirtualBox's server (VBoxSVC) has died, and the web service at {self.url} is of no use "
                    "without it: start the web service again"
                ) from lost
            raise lost
        for _ in range(MOST_REPLACED - 1):
            with suppress(LogonRefused):
                return self._log_on_elsewhere(self.elsewhere)
        return self._log_on_elsewhere(self.elsewhere)

    def _log_on_elsewhere(self, elsewhere: Callable[[], tuple[str, Credentials]]) -> str:
        url, self._credentials = elsewhere()
        self.api.wire.move(url)
        return _logon(self.api, self._credentials)

    def _keep_alive(self) -> None:
        while not self._closed.wait(KEEP_ALIVE):
            try:
                self._renew()
            except (OSError, VirtualBoxError):
                # The next call of the owner says so in its own words and can do something about it. An OSError
                # is of whoever is told of a new web session, such as of a full disk.
                logger.debug("keep-alive failed", exc_info=True)


def _save(session: Session) -> None:
    """Save what was changed half-way, since VirtualBox would not take all of it back.

    A disc that was attached counts as in use by the machine for ever after, though neither has the other any more
    (seen with 7.2). Once that is saved, removing the machine detaches it.
    """
    with suppress(VirtualBoxError):
        if session.state is SessionState.LOCKED:
            session.machine.save_settings()


def _unlock(session: Session) -> None:
    if session.state is not SessionState.UNLOCKED:
        session.unlock_machine()


def _still_locked(machine: Machine) -> str:
    state = machine.state
    words = f"machine {machine.name} is still locked (session {machine.session_state}, {state})"
    if state.is_online:
        return words
    # Nothing runs that would unlock it sooner or later.
    return (
        f"{words}, by its settings window in VirtualBox, or by a web session that has ended; that one lets go "
        "when the web service is started anew (`pytest-vbox service stop` ends the private one)"
    )


def connect(
    url: str,
    credentials: Credentials,
    *,
    cache: WsdlCache | None = None,
    ca: Path | None = None,
    refuse_open: bool = False,
    look: Look = lambda _, __: None,
) -> WebSession:
    """Log on to a VirtualBox web service.

    Args:
        url: Such as ``http://127.0.0.1:18083``.
        credentials: User and password; empty for a service without authentication.
        cache: Where distilled descriptions are kept, or None for no cache.
        ca: A file with the certificate authority for ``https``, if it is not one the system knows.
        refuse_open: Refuse a service that lets anybody in.
        look: Is told of each new connection without https, now and later on, before anything is sent: address and
            port of the other end, and of this one. It raises `NotTrusted` to prevent that.

    Raises:
        ServiceUnavailable: Nothing answers there, or no VirtualBox.
        NotTrusted: Said by `look`.
        OpenToAnybody: It does not ask who one is.
        LogonRefused: User or password are wrong.
        UnsupportedVersion: That VirtualBox is too old or too new.
    """
    wire = Wire(url, ca=str(ca) if ca else None, look=look)
    try:
        first = Api(wire, resources.files(__package__).joinpath("bootstrap.wsdl").read_bytes())
        if refuse_open:
            _see_that_it_refuses(first)
        reference = _logon(first, credentials)
        version = str(first.call("IVirtualBox_getVersion", _this=reference))
        api_version = compat.check_version(version, str(first.call("IVirtualBox_getAPIVersion", _this=reference)))
        revision = first.call("IVirtualBox_getRevision", _this=reference)
        api = Api(wire, _description(wire, f"{version}r{revision}", cache))
    except BaseException:
        wire.close()
        raise
    return WebSession(api, credentials, reference, version, api_version)


def _see_that_it_refuses(api: Api) -> None:
    """Try to log on as somebody who cannot be known there.

    Raises:
        OpenToAnybody: That was let in.
    """
    nobody = Credentials(f"nobody-{secrets.token_hex(8)}", secrets.token_urlsafe(16))
    try:
        reference = _logon(api, nobody)
    except LogonRefused:
        return
    with suppress(VirtualBoxError):
        api.call("IWebsessionManager_logoff", refIVirtualBox=reference)
    raise OpenToAnybody(f"{api.wire.url} lets anybody in, whatever the password", operation=LOGON)


def _logon(api: Api, credentials: Credentials) -> str:
    try:
        return str(api.call(LOGON, username=credentials.user, password=Secret(credentials.password)))
    except BaseException as error:  # noqa: BLE001 - it is raised again
        # On its way through zeep, requests and urllib3 the password is in many a variable, as part of a message.
        # pytest --showlocals would show them, of every error there is and of Ctrl-C.
        forget_frames(error)
        raise error.with_traceback(None)  # noqa: B904 - it is the same error


def _description(wire: Wire, version: str, cache: WsdlCache | None) -> bytes:
    cached = cache.load(version) if cache is not None else None
    if cached is not None:
        return cached
    try:
        data = distil(wire.get_wsdl(), wanted_operations())
    except WsdlError as error:
        raise ServiceUnavailable(f"what {wire.url}?wsdl serves is {error}") from error
    if cache is not None:
        cache.store(version, data)
    return data
