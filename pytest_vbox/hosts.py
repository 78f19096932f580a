"""From settings to a connected host: the service found or started, logged on, leftovers of the dead removed."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from pytest_vbox import places, service, trust
from pytest_vbox.catalogues import load_catalogue
from pytest_vbox.exhaustion import explained, own_folders
from pytest_vbox.images import Report, silent
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.models import Catalogue
from pytest_vbox.ownership import Busy, Entry, Kind, Ledger, Reaper
from pytest_vbox.records import Journal
from pytest_vbox.secret import Secret
from pytest_vbox.settings import Settings, load
from pytest_vbox.virtualbox import Credentials, WebSession, WsdlCache, connect
from pytest_vbox.virtualbox.errors import LogonRefused, NotTrusted, OpenToAnybody, ServiceUnavailable
from pytest_vbox.virtualbox.websession import MOST_REPLACED

_SERVICE: Final = Entry("service", "use of the private web service", "", kind=Kind.SERVICE)


@explained("connecting to VirtualBox", own_folders)
def connect_host(
    settings: Settings | None = None,
    *,
    root: Path | None = None,
    run: str | None = None,
    ssh_key: Path | None = None,
    artifacts: Path | None = None,
    clean_up: bool = True,
    report: Report = silent,
    journal: Journal | None = None,
) -> VirtualBoxHost:
    """Connect to VirtualBox.

    Args:
        settings: What the user set; by default what the environment says.
        root: The folder whose ``profiles/`` holds the project's YAML; by default the working directory.
        run: The id of the run, shared by all its workers.
        ssh_key: A private key to log in with instead of the images' own.
        artifacts: Where what machines show is saved; by default as set.
        clean_up: Remove what runs that died have left behind.
        report: Is told how far a download, or what else takes long, has come.
        journal: Is told what is waited for, and how machines came.

    Raises:
        SettingsError: A setting cannot be used.
        ModelError: The YAML is wrong.
        HostExhausted: The state folder cannot be written, or this process may open no more files.
        VirtualBoxNotFound: There is no VirtualBox on this computer.
        ServiceUnavailable: The service does not answer.
        LogonRefused: User or password are wrong.
        UnsupportedVersion: That VirtualBox is too old or too new.
    """
    settings = settings or load(root=root)
    trust.check_settings(settings)
    return _connected(
        settings,
        load_catalogue(settings, root or Path.cwd()),
        run=run,
        ssh_key=ssh_key,
        artifacts=artifacts,
        clean_up=clean_up,
        report=report,
        journal=journal,
    )


def connect_to_clean_up(settings: Settings) -> VirtualBoxHost:
    """Connect to VirtualBox without the images and profiles, which may be wrong or gone; nothing can be made."""
    trust.check_settings(settings)
    return _connected(settings, Catalogue.load([]), watched=False, clean_up=False)


def clean_up_as(access: Mapping[str, Any], dying: Path) -> list[str]:
    """Clean up after a process, with what it has told its reaper. Returns the names of the machines.

    Args:
        access: As `_access` has put it together.
        dying: The process's part of the ledger.
    """
    settings = Settings(
        url=access["url"],
        user=str(access["user"]),
        password=Secret(access["password"]),
        ca=Path(access["ca"]) if access["ca"] is not None else None,
        insecure=bool(access["insecure"]),
    )
    with connect_to_clean_up(settings) as host:
        return host.clean_up_abandoned(dying)


def _connected(
    settings: Settings,
    catalogue: Catalogue,
    *,
    run: str | None = None,
    ssh_key: Path | None = None,
    artifacts: Path | None = None,
    clean_up: bool = True,
    watched: bool = True,
    report: Report = silent,
    journal: Journal | None = None,
) -> VirtualBoxHost:
    state, run = places.state_folder(), run or uuid.uuid4().hex
    password = settings.login_password()
    reaper = Reaper(state, run, _access(settings, password))
    with ExitStack() as undo:
        ledger = Ledger(state, run)
        # What is undone at the very end: by the host, once there is one.
        leaving = undo.enter_context(ExitStack())
        leaving.callback(reaper.close)
        leaving.callback(ledger.close)
        leaving.callback(ledger.strike, _SERVICE.id)
        if watched:
            ledger.before_add = lambda: reaper.attend(ledger.path)
        if clean_up:
            # A run, which will make machines; for a command that looks at some, no process need be started.
            reaper.prepare(ledger.path)
            if settings.url is None:
                ledger.add(_SERVICE)
        endpoint = _Endpoint(service.find(settings.url, state=state), state)
        leaving.callback(endpoint.release)
        session = undo.enter_context(_log_on_somewhere(settings, endpoint, password))
        session.elsewhere = endpoint.replace if endpoint.now.lease is not None else None
        session.on_logon = ledger.logged_on
        session.on_session_object = ledger.locks_with
        ledger.logged_on(session.virtualbox.reference)
        host = VirtualBoxHost(
            session,
            settings,
            catalogue,
            state=state,
            run=run,
            ssh_key=ssh_key,
            artifacts=artifacts,
            on_close=leaving.close,
            report=report,
            journal=journal,
            ledger=ledger,
            retire=lambda entry: service.tidy(state) if entry.kind is Kind.SERVICE else None,
        )
        if clean_up:
            host.clean_up_abandoned()
        undo.pop_all()  # from here on it is the host that closes them
    return host


class _Endpoint:
    """The web service that is used, which may have to be replaced.

    Args:
        found: The one to begin with.
        state: The state folder.
    """

    def __init__(self, found: service.Endpoint, state: Path) -> None:
        self.now = found
        self._state = state

    def replace(self) -> tuple[str, Credentials]:
        """Have another private service in the place of one that died: its address, and how to log on.

        Raises:
            ServiceUnavailable: There cannot be another one.
        """
        self.release()
        try:
            self.now = service.renew(self.now, state=self._state)
        except (service.VirtualBoxNotFound, service.VirtualBoxUnusable, Busy, OSError) as error:
            raise ServiceUnavailable(
                f"the private web service at {self.now.url} died, and another one cannot be started: {error}"
            ) from error
        return self.now.url, Credentials(self.now.user, self.now.password)

    def release(self) -> None:
        """Say that it is not used any more."""
        self.now.release()


def _log_on_somewhere(settings: Settings, endpoint: _Endpoint, password: Secret) -> WebSession:
    """A logged-on connection, with another private service if need be."""
    for _ in range(MOST_REPLACED):
        try:
            return _log_on(settings, endpoint.now, password)
        except (LogonRefused, NotTrusted):
            # Its password is our own: it only refuses that when VirtualBox's server died behind it. And it has to
            # end before somebody else can have its port.
            if endpoint.now.lease is None:
                raise
            endpoint.replace()
    return _log_on(settings, endpoint.now, password)


def _log_on(settings: Settings, endpoint: service.Endpoint, password: Secret) -> WebSession:
    """A logged-on connection."""
    credentials = Credentials(endpoint.user or settings.user, endpoint.password or password)
    cache = WsdlCache(places.cache_folder() / "wsdl" / _origin(endpoint))
    try:
        return connect(
            endpoint.url,
            credentials,
            cache=cache,
            ca=settings.ca,
            refuse_open=trust.has_to_refuse_strangers(settings, endpoint.url),
            look=_believe if settings.insecure else _see_who_is_there,
        )
    except OpenToAnybody as error:
        raise trust.open_to_anybody(endpoint.url) from error


def _believe(_: tuple[str, int], __: tuple[str, int]) -> None:
    """Trust whoever is there, as the user says."""


def _see_who_is_there(there: tuple[str, int], here: tuple[str, int]) -> None:
    """See that it is no other user of this computer who would get the password.

    At each connection: whoever was there first may have ended since, and his port be anybody's.

    Raises:
        NotTrusted: It is.
    """
    found = service.strangers(there, here) if trust.is_loopback_address(there[0]) else None
    if found:
        raise NotTrusted(trust.taken_by_others(*there, found))


def _access(settings: Settings, password: Secret) -> dict[str, Any]:
    """What a run's reaper has to know to reach the same VirtualBox."""
    ca = str(settings.ca.absolute()) if settings.ca is not None else None
    return {
        "url": settings.url,
        "user": settings.user,
        "password": password,
        "ca": ca,
        "insecure": settings.insecure,
    }


def _origin(endpoint: service.Endpoint) -> str:
    """Whose description it is: one service shall not choose what calls to another one look like."""
    if endpoint.lease is not None:
        return "private"
    return hashlib.sha256(endpoint.url.encode()).hexdigest()[:16]
