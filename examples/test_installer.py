"""The installer, each test on a pristine machine of its own."""

from __future__ import annotations

import pytest

from pytest_vbox.guest import CommandError
from pytest_vbox.machines import Machine


def test_installs_and_says_where(bare: Machine) -> None:
    done = bare.run("/tmp/appd/install.sh", sudo=True)
    assert done.stdout == "installed appd 1.0 in /opt/appd\n"
    assert bare.run("stat -c %a /opt/appd/appd").stdout == "755\n"


def test_a_second_installation_is_refused_and_harms_nothing(bare: Machine) -> None:
    bare.run("/tmp/appd/install.sh", sudo=True)
    bare.run("echo mine > /etc/appd/greeting", sudo=True)
    with pytest.raises(CommandError, match="is installed already in /opt/appd") as refused:
        bare.run("/tmp/appd/install.sh", sudo=True)
    assert refused.value.returncode == 3
    assert bare.run("cat /etc/appd/greeting").stdout == "mine\n"


def test_survives_a_reboot(bare: Machine) -> None:
    bare.run("/tmp/appd/install.sh --prefix /srv/appd && sync", sudo=True)
    bare.reboot()
    bare.run("/srv/appd/appd start", sudo=True)
    assert bare.run("/srv/appd/appd status").stdout == "running\n"
