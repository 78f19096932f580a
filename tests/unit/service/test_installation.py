"""Where VirtualBox is on each platform, and what is said where it is not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path, PurePath

import pytest

from pytest_vbox.service import Installation, VirtualBoxNotFound, VirtualBoxUnusable, find_installation

WINDOWS = "C:\\Program Files\\Oracle\\VirtualBox"


def _find(
    platform: str, *, path: Mapping[str, str] | None = None, files: tuple[str, ...] = (), **environ: str
) -> Installation:
    """Look on a computer that has these programs on its path, these files and this environment."""
    known = dict(path or {})

    def exists(file: PurePath) -> bool:
        return str(file) in files

    return find_installation(platform, environ, known.get, exists)


@pytest.mark.parametrize(
    ("platform", "path", "files", "environ", "expected"),
    [
        (
            "linux",
            {"VBoxManage": "/usr/bin/VBoxManage", "vboxwebsrv": "/usr/bin/vboxwebsrv"},
            (),
            {},
            ("/usr/bin/VBoxManage", "/usr/bin/vboxwebsrv"),
        ),
        (
            # Debian has no link to the service in /usr/bin.
            "linux",
            {"VBoxManage": "/usr/bin/VBoxManage"},
            ("/usr/lib/virtualbox/VBoxManage", "/usr/lib/virtualbox/vboxwebsrv"),
            {},
            ("/usr/bin/VBoxManage", "/usr/lib/virtualbox/vboxwebsrv"),
        ),
        (
            "linux",
            {},
            ("/opt/VirtualBox/VBoxManage", "/opt/VirtualBox/vboxwebsrv"),
            {},
            ("/opt/VirtualBox/VBoxManage", "/opt/VirtualBox/vboxwebsrv"),
        ),
        (
            # Somewhere of the user's own: beside the program on the path.
            "linux",
            {"VBoxManage": "/home/me/vbox/VBoxManage"},
            ("/home/me/vbox/vboxwebsrv", "/usr/lib/virtualbox/vboxwebsrv"),
            {},
            ("/home/me/vbox/VBoxManage", "/home/me/vbox/vboxwebsrv"),
        ),
        (
            "darwin",
            {"VBoxManage": "/usr/local/bin/VBoxManage"},
            ("/Applications/VirtualBox.app/Contents/MacOS/vboxwebsrv",),
            {},
            ("/usr/local/bin/VBoxManage", "/Applications/VirtualBox.app/Contents/MacOS/vboxwebsrv"),
        ),
        (
            "win32",
            {},
            (f"{WINDOWS}\\VBoxManage.exe", f"{WINDOWS}\\VBoxWebSrv.exe"),
            {},
            (f"{WINDOWS}\\VBoxManage.exe", f"{WINDOWS}\\VBoxWebSrv.exe"),
        ),
        (
            "win32",
            {},
            (
                "D:\\Programs\\Oracle\\VirtualBox\\VBoxManage.exe",
                "D:\\Programs\\Oracle\\VirtualBox\\VBoxWebSrv.exe",
            ),
            {"PROGRAMFILES": "D:\\Programs"},
            (
                "D:\\Programs\\Oracle\\VirtualBox\\VBoxManage.exe",
                "D:\\Programs\\Oracle\\VirtualBox\\VBoxWebSrv.exe",
            ),
        ),
        (
            # The installer's variable goes before the usual place.
            "win32",
            {},
            ("E:\\VBox\\VBoxManage.exe", "E:\\VBox\\VBoxWebSrv.exe", f"{WINDOWS}\\VBoxManage.exe"),
            {"VBOX_MSI_INSTALL_PATH": "E:\\VBox\\"},
            ("E:\\VBox\\VBoxManage.exe", "E:\\VBox\\VBoxWebSrv.exe"),
        ),
        (
            "win32",
            {"VBoxManage.exe": "E:\\VBox\\VBoxManage.exe", "vboxwebsrv.exe": "E:\\VBox\\vboxwebsrv.exe"},
            (),
            {},
            ("E:\\VBox\\VBoxManage.exe", "E:\\VBox\\vboxwebsrv.exe"),
        ),
        (
            # A BSD, say.
            "freebsd14",
            {"VBoxManage": "/usr/local/bin/VBoxManage", "vboxwebsrv": "/usr/local/bin/vboxwebsrv"},
            (),
            {},
            ("/usr/local/bin/VBoxManage", "/usr/local/bin/vboxwebsrv"),
        ),
    ],
)
def test_both_programs_are_found(
    platform: str, path: dict[str, str], files: tuple[str, ...], environ: dict[str, str], expected: tuple[str, str]
) -> None:
    assert _find(platform, path=path, files=files, **environ) == Installation(*expected)


@pytest.mark.parametrize(
    ("platform", "advice"),
    [
        ("linux", "Install the package virtualbox"),
        ("darwin", r"Install VirtualBox from virtualbox\.org"),
        ("win32", "winget install Oracle.VirtualBox"),
        ("freebsd14", "Install the package virtualbox"),
    ],
)
def test_without_virtualbox_it_is_said_what_to_install(platform: str, advice: str) -> None:
    with pytest.raises(
        VirtualBoxNotFound, match=rf"^no VirtualBox found on this computer\. .*{advice}.*--vbox-url$"
    ):
        _find(platform)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_half_an_installation_says_what_is_missing(platform: str) -> None:
    name = "VBoxManage.exe" if platform == "win32" else "VBoxManage"
    with pytest.raises(VirtualBoxNotFound, match=r"/there/VBoxManage is there, but not vboxwebsrv.*--vbox-url"):
        _find(platform, path={name: "/there/VBoxManage"})


# The programs themselves


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A VBoxManage that answers by its first argument after -q."""
    script = tmp_path / "VBoxManage"
    script.write_text(
        """#!/bin/sh
        [ "$1" = -q ] || exit 9
        case "$2 $3" in
            "list vms") echo '"one" {1}' ;;
            "getextradata global") cat "$0.extradata" ;;
            *) echo "VBoxManage: error: no such $2" >&2; exit 1 ;;
        esac
        """
    )
    script.chmod(0o755)
    return Installation(str(script), "vboxwebsrv")


def test_vboxmanage_is_run(installation: Installation) -> None:
    assert installation.run("list", "vms") == '"one" {1}\n'


def test_a_failing_vboxmanage_is_quoted(installation: Installation) -> None:
    with pytest.raises(VirtualBoxUnusable, match=r"^VBoxManage dance failed: VBoxManage: error: no such dance$"):
        installation.run("dance")


def test_a_vboxmanage_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(VirtualBoxUnusable, match=f"{tmp_path}/VBoxManage cannot be run: .*No such file"):
        Installation(f"{tmp_path}/VBoxManage", "").run("list")


def test_with_the_driver_nothing_is_asked(tmp_path: Path) -> None:
    Installation("/no/such/VBoxManage", "").check_driver(tmp_path, "linux")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_platforms_have_no_device_to_look_for(platform: str, tmp_path: Path) -> None:
    Installation("/no/such/VBoxManage", "").check_driver(tmp_path / "none", platform)


def test_without_the_driver_virtualbox_may_be_set_to_do_without(
    installation: Installation, tmp_path: Path
) -> None:
    Path(f"{installation.vboxmanage}.extradata").write_text("Value: 1\n")
    installation.check_driver(tmp_path / "none", "linux")


@pytest.mark.parametrize("value", ["No value set!\n", "Value: 0\n", ""])
def test_without_the_driver_it_is_said_how_to_get_it(
    installation: Installation, tmp_path: Path, value: str
) -> None:
    Path(f"{installation.vboxmanage}.extradata").write_text(value)
    with pytest.raises(VirtualBoxUnusable, match=f"{tmp_path}/none is missing.*modprobe vboxdrv"):
        installation.check_driver(tmp_path / "none", "linux")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as a program")
def test_this_computer_is_looked_at_by_default(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(installation.vboxmanage).parent
    service = folder / "vboxwebsrv"
    service.write_text("#!/bin/sh\n")
    service.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert find_installation() == Installation(installation.vboxmanage, str(service))
