"""Whether a web service can be trusted with a password and with machines.

What cannot is refused, unless the user said that it shall be used all the same.

A service on this computer's loopback needs no encryption, and may be open to everybody: that is between the user
and those who have an account here. But it has to be the user's own, or root's, as far as that can be told: whoever
has an account may listen on a port that is free. Whatever is farther away has to prove who it is, and to ask who
we are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import urlsplit

from pytest_vbox.places import user_name
from pytest_vbox.secret import without_credentials
from pytest_vbox.settings import NO_CREDENTIALS, Settings, SettingsError

_GUIDE: Final = "see docs/how-to/use-a-remote-host.md"


def is_loopback(url: str) -> bool:
    """Whether an address is one of this computer that no other computer can reach."""
    name = urlsplit(url).hostname or "localhost"
    if name == "localhost":
        return True
    return is_loopback_address(name)


def is_loopback_address(text: str) -> bool:
    """Whether a text is such an address, of IPv4 or IPv6."""
    try:
        address = ipaddress.ip_address(text)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return False


def check_settings(settings: Settings) -> None:
    """See that nothing is sent to another computer for everybody to read, nor shown in every message.

    Raises:
        SettingsError: It would be, and the user has not said that it may.
    """
    url = settings.url
    if url is not None and (shown := without_credentials(url)) != url:
        raise SettingsError(f"--vbox-url: {shown!r} cannot be used: {NO_CREDENTIALS}")
    if url is not None and _is_plain(url) and not settings.insecure:
        raise SettingsError(
            f"--vbox-url: {url} is on another computer, and without https everybody on the way can read the "
            f"password and do with the machines what they like. Let the service speak https ({_GUIDE}), or give "
            "--vbox-insecure if the network is yours alone"
        )
    if settings.ca is not None and not settings.ca.is_file():
        raise SettingsError(f"--vbox-ca: there is no file {settings.ca}")


def has_to_refuse_strangers(settings: Settings, url: str) -> bool:
    """Whether a service has to show that it lets not just anybody in, before it is used."""
    return not settings.insecure and not is_loopback(url)


def taken_by_others(host: str, port: int, users: Collection[int]) -> str:
    """What to say of a service that other users of this computer have, or have put in the place of another.

    Args:
        host: Its address.
        port: Its port.
        users: The numbers of these users.
    """
    names = " and ".join(user_name(number) for number in sorted(users))
    return (
        f"what listens on port {port} of {host} belongs to {names}, who could read the password and say anything; "
        "it was told nothing. Find out what it is, and let the web service run as you. If it is the one that you "
        f"mean, let it speak https ({_GUIDE}), or give --vbox-insecure if you trust whoever can log in to this "
        "computer"
    )


def open_to_anybody(url: str) -> SettingsError:
    """What to say of a service that lets anybody in."""
    return SettingsError(
        f"--vbox-url: the web service at {url} lets anybody in, whatever the password: whoever reaches it can do "
        "on that computer what its user can. Start it with --authentication VBoxAuthSimple "
        f"({_GUIDE}), or give --vbox-insecure if the network is yours alone"
    )


def risks(settings: Settings) -> Iterator[str]:
    """What is set that is not secure, in words."""
    if not settings.insecure:
        return
    yield (
        "--vbox-insecure is set: services that let anybody in or are another user's, and password files of any "
        "mode, are used"
    )
    if settings.url is not None and _is_plain(settings.url):
        shown = without_credentials(settings.url)
        yield f"{shown} is another computer, and has no https: the password can be read on the way"


def _is_plain(url: str) -> bool:
    return urlsplit(url).scheme == "http" and not is_loopback(url)
