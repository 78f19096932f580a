"""From settings to a connected host: the service found or started, logged on, leftovers of the dead removed."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

from pytest_vbox import places, service, trust
from pytest_vbox.catalogues import load_catalogue
from pytest_vbox.images import Report, silent
from pytest_vbox.machines import VirtualBoxHost
from pytest_vbox.records import Journal
from pytest_vbox.settings import Settings, load
from pytest_vbox.virtualbox import Credentials, WsdlCache, connect
from pytest_vbox.virtualbox.errors import OpenToAnybody


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
        VirtualBoxNotFound: There is no VirtualBox on this computer.
        ServiceUnavailable: The service does not answer.
        LogonRefused: User or password are wrong.
        UnsupportedVersion: That VirtualBox is too old or too new.
    """
    settings = settings or load(root=root)
    trust.check_settings(settings)
    catalogue = load_catalogue(settings, root or Path.cwd())
    state = places.state_folder()
    endpoint = service.find(settings.url, state=state)
    with ExitStack() as undo:
        undo.callback(endpoint.release)
        credentials = Credentials(endpoint.user or settings.user, endpoint.password or settings.login_password())
        cache = WsdlCache(places.cache_folder() / "wsdl" / _origin(endpoint))
        try:
            session = connect(
                endpoint.url,
                credentials,
                cache=cache,
                ca=settings.ca,
                refuse_open=trust.has_to_refuse_strangers(settings, endpoint.url),
            )
        except OpenToAnybody as error:
            raise trust.open_to_anybody(endpoint.url) from error
        undo.enter_context(session)
        host = VirtualBoxHost(
            session,
            settings,
            catalogue,
            state=state,
            url=endpoint.url,
            run=run,
            ssh_key=ssh_key,
            artifacts=artifacts,
            on_close=endpoint.release,
            report=report,
            journal=journal,
        )
        if clean_up:
            host.clean_up_abandoned()
        undo.pop_all()  # from here on it is the host that closes them
    return host


def _origin(endpoint: service.Endpoint) -> str:
    """Whose description it is: one service shall not choose what calls to another one look like."""
    if endpoint.lease is not None:
        return "private"
    return hashlib.sha256(endpoint.url.encode()).hexdigest()[:16]
