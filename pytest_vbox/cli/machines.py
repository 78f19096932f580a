"""``pytest-vbox machines``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_vbox.cli.common import (
    connected,
    connected_to_clean_up,
    host_options,
    json_option,
    print_json,
    print_table,
    told,
)
from pytest_vbox.printable import printable, short

if TYPE_CHECKING:
    from pytest_vbox.guest import Connection
    from pytest_vbox.machines import VirtualBoxHost
    from pytest_vbox.models import Image
    from pytest_vbox.virtualbox import Machine

_NAME = click.argument("name")


@dataclass(frozen=True)
class Ours:
    """A machine that pytest-vbox made, of whichever run, and what it says of itself."""

    machine: Machine
    name: str
    owner: dict[str, Any]

    def port(self) -> int | None:
        """The host's port that leads to the guest's SSH server."""
        from pytest_vbox.machines.build import SSH_RULE

        slot = self.owner.get("slot", 0)
        rules = self.machine.get_network_adapter(slot).nat_engine.redirects if slot is not None else []
        return next((rule.host_port for rule in rules if rule.name == SSH_RULE), None)


@click.group()
def machines() -> None:
    """Machines that tests have made and that are still there: of runs that go on, and kept ones."""


@machines.command("list")
@host_options
@json_option
def list_(root: Path | None, folders: tuple[str, ...], as_json: bool, **options: str | None) -> None:
    """Show them: state, image, age, the test they are for, and where SSH is."""
    with told(), connected_to_clean_up(root, folders, **options) as host:
        kept = {machine.id for machine in host.kept()}
        found = [
            {
                "name": ours.name,
                "state": str(ours.machine.state),
                "image": str(ours.owner.get("image", "")),
                "profile": str(ours.owner.get("profile", "")),
                "since": str(ours.owner.get("since", "")),
                "test": str(ours.owner.get("test", "")),
                "kept": ours.machine.id in kept,
                "ssh": f"{host.address}:{port}" if (port := ours.port()) else "",
            }
            for ours in _all(host)
        ]
    if as_json:
        print_json(found)
        return
    rows = [
        [
            str(entry["name"]),
            str(entry["state"]),
            str(entry["image"]),
            _age(str(entry["since"])),
            str(entry["ssh"]),
            "yes" if entry["kept"] else "",
            short(str(entry["test"])),
        ]
        for entry in found
    ]
    print_table(["MACHINE", "STATE", "IMAGE", "AGE", "SSH", "KEPT", "TEST"], rows)


@machines.command(context_settings={"ignore_unknown_options": True})
@_NAME
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@host_options
def ssh(
    name: str, command: tuple[str, ...], root: Path | None, folders: tuple[str, ...], **options: str | None
) -> None:
    """Enter a machine, or run a COMMAND there. The exit code is the command's."""
    from pytest_vbox.guest import interact, run

    with told(), connected(root, folders, **options) as host, _logged_in(host, _find(host, name)) as connection:
        if not command:
            raise SystemExit(interact(connection))
        done = run(connection, " ".join(command), check=False, timeout=86_400)
    click.echo(done.stdout, nl=False)
    click.echo(done.stderr, nl=False, err=True)
    raise SystemExit(done.returncode)


@machines.command()
@_NAME
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@host_options
def screenshot(
    name: str, file: Path | None, root: Path | None, folders: tuple[str, ...], **options: str | None
) -> None:
    """Save what a machine's screen shows as PNG; by default as NAME.png."""
    from pytest_vbox.machines.diagnosis import screenshot as take

    with told(), connected(root, folders, **options) as host:
        ours = _find(host, name)
        target = file or Path(f"{ours.name}.png")
        target.write_bytes(take(host.session, ours.machine))
    click.echo(f"wrote {target}")


@machines.command()
@_NAME
@host_options
def stop(name: str, root: Path | None, folders: tuple[str, ...], **options: str | None) -> None:
    """Switch a machine off; it stays."""
    from pytest_vbox.machines.power import power_off

    with told(), connected(root, folders, **options) as host:
        power_off(host.session, _find(host, name).machine)
    click.echo(f"{name} is off")


@machines.command()
@click.argument("names", nargs=-1)
@click.option("--kept", is_flag=True, help="All machines that were kept (--vbox-keep).")
@host_options
def remove(
    names: tuple[str, ...], root: Path | None, folders: tuple[str, ...], *, kept: bool, **options: str | None
) -> None:
    """Remove machines, with what they wrote. Only those that pytest-vbox made."""
    from pytest_vbox.machines.removal import remove as take_away

    if not names and not kept:
        raise click.UsageError("name the machines to remove, or give --kept for all that were kept")
    with told(), connected_to_clean_up(root, folders, **options) as host:
        machines = [_find(host, name) for name in names]
        if kept:
            known = {machine.id for machine in host.kept()}
            machines += [ours for ours in _all(host) if ours.machine.id in known]
        for ours in machines:
            take_away(host.session, ours.machine.id, ours.name, local=host.local)
            click.echo(f"removed {printable(ours.name)}")
        host.kept()  # forgets those that are gone


def _all(host: VirtualBoxHost) -> Iterator[Ours]:
    from pytest_vbox.machines.build import owner_in
    from pytest_vbox.machines.plan import GROUP, OWNER_KEY
    from pytest_vbox.virtualbox.errors import VirtualBoxError

    for machine in host.api.machines_by_groups([GROUP]):
        with suppress(VirtualBoxError):  # gone meanwhile
            owner, name = owner_in(machine.get_extra_data(OWNER_KEY), machine.id), machine.name
            if owner is not None:
                yield Ours(machine, name, owner)


def _find(host: VirtualBoxHost, name: str) -> Ours:
    found = list(_all(host))
    # The name, or as much of it as is needed.
    fitting = [ours for ours in found if ours.name == name] or [ours for ours in found if name in ours.name]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(ours.name for ours in fitting or found) or "none"
    what = (
        f"several machines have {name!r} in their name"
        if fitting
        else f"no machine of pytest-vbox is named {name!r}"
    )
    raise click.ClickException(printable(f"{what}; there are: {names}"))


def _logged_in(host: VirtualBoxHost, ours: Ours) -> Connection:
    from pytest_vbox import guest
    from pytest_vbox.deadline import Deadline

    port = ours.port()
    if port is None:
        raise click.ClickException(printable(f"{ours.name} has no network adapter behind NAT, so no way for SSH"))
    image = host.catalogue.images.get(str(ours.owner.get("image", "")))
    password = image.password.get_secret_value() if image is not None and image.password is not None else None
    login = guest.Login(
        user=str(ours.owner.get("user", "root")),
        password=password,
        private_key=_key(host, ours, image),
        sudo_password=None,
        host_key=(image.host_key if image is not None else None) or ours.owner.get("host_key"),
    )
    return guest.connect((host.address, port), login, Deadline(60))


def _key(host: VirtualBoxHost, ours: Ours, image: Image | None) -> Path | None:
    """The key that a machine says logs in, if it is one that may be used.

    Who has the machine's host writes what it says, and shall not choose among the user's own keys.
    """
    said = ours.owner.get("key")
    if not isinstance(said, str) or not said:
        return None
    key = Path(said)
    if key == (image.private_key if image is not None else None) or _is_own(host, ours, key):
        return key
    click.echo(
        f"{ours.name}: it names the key {short(said)}, which is neither pytest-vbox's own nor the private_key of "
        "its image, and is not used. If its image is described in another folder, name that with --root; if you "
        "gave it as vbox_ssh_key, log in with ssh -i",
        err=True,
    )
    return None


def _is_own(host: VirtualBoxHost, ours: Ours, key: Path) -> bool:
    """Whether a key lies where only pytest-vbox writes, or, of a machine that was kept, in its folder."""
    from pytest_vbox import places
    from pytest_vbox.machines.removal import is_machine_folder

    if ".." in key.parts or "\0" in str(key):
        return False
    if any(folder in key.parents for folder in (host.context.state, places.cache_folder())):
        return True
    folder = Path(ours.machine.settings_file_path).parent if host.local else None
    return folder == key.parent and is_machine_folder(str(folder), ours.name)


def _age(since: str) -> str:
    try:
        seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    except (ValueError, TypeError):
        return ""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
