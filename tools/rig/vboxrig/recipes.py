"""What the rig builds: VirtualBox's root, its stand-in for VBoxHeadless, the build tools, and the guest."""

from __future__ import annotations

import shutil
from pathlib import Path

from vboxrig.cache import Recipe, obtain
from vboxrig.debian import mirror
from vboxrig.places import RECIPES
from vboxrig.sandbox import chrooted, debootstrap

GUEST = RECIPES / "guest"

# A mirror can be a frozen copy, whose release files have expired.
APT_CONFIGURATION = 'Acquire::Check-Valid-Until "false";\nAcquire::Retries "3";\n'

# The guest's own programs come from sid, as VirtualBox's guest utilities do; sources from Debian 12.
BUILD_SOURCES = "deb {mirror} sid main contrib\ndeb-src {mirror} bookworm main\n"

BUILD_PACKAGES = [
    *"build-essential bc flex bison libelf-dev libssl-dev xz-utils linux-source-6.1 acpica-tools".split(),
    *"busybox-static libsodium-dev fdisk e2fsprogs openssh-client openssl".split(),
]


def virtualbox() -> Recipe:
    """Debian sid with VirtualBox in it, as the rig's processes see it under /usr and /etc."""
    script = (RECIPES / "virtualbox/install.sh").read_text()

    def build(folder: Path) -> None:
        log = folder / "build.log"
        root = folder / "root"
        debootstrap("sid", root, mirror(), log)
        (root / "etc/apt/sources.list").write_text(f"deb {mirror()} sid main contrib\n")
        (root / "etc/apt/apt.conf.d/10rig").write_text(APT_CONFIGURATION)
        chrooted(root, ["sh", "-c", script], log, "installing VirtualBox")

    return Recipe("virtualbox", script + APT_CONFIGURATION, build, megabytes=1200)


def headless() -> Recipe:
    """The program that takes VBoxHeadless's place; see its source."""
    compile_it = ["gcc", "-O2", "-Wall", "-Werror", "-o", "/rig/out/VBoxHeadless", "/rig/recipe/VBoxHeadless.c"]
    source = RECIPES / "virtualbox"

    def build(folder: Path) -> None:
        tools = obtain(builder()) / "root"
        binds = {source: "/rig/recipe", folder: "/rig/out"}
        chrooted(tools, compile_it, folder / "build.log", "compiling VBoxHeadless", binds)

    return Recipe(
        "headless", "\n".join([*compile_it, (source / "VBoxHeadless.c").read_text()]), build, megabytes=10
    )


def builder() -> Recipe:
    """Debian 12 with a compiler and the tools that make file systems and boot sectors."""

    def build(folder: Path) -> None:
        root = folder / "root"
        debootstrap("bookworm", root, mirror(), folder / "build.log", BUILD_PACKAGES)
        (root / "etc/apt/apt.conf.d/10rig").write_text(APT_CONFIGURATION)
        (root / "etc/apt/sources.list").write_text(BUILD_SOURCES.format(mirror=mirror()))
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()

    text = "\n".join([BUILD_SOURCES, APT_CONFIGURATION, *BUILD_PACKAGES])
    return Recipe("builder", text, build, megabytes=1500)


def kernel() -> Recipe:
    """The guest's kernel; about five minutes on two cores."""
    return _built(
        "kernel", ["kernel.sh", "kernel.config", "kernel.patch", "dsdt.asl"], "building the kernel", 3000
    )


def programs() -> Recipe:
    """The guest's SSH server and sudo; one minute."""
    return _built("programs", ["programs.sh", *_below("dropbear")], "building the guest's programs", megabytes=300)


def image() -> Recipe:
    """The guest image `tiny`: the disk, and the key pair that lets its root in."""
    files = ["image.sh", "boot.S", *_below("src"), *_below("files")]

    def build(folder: Path) -> None:
        log = folder / "build.log"
        inputs = {
            obtain(kernel()): "/rig/kernel",
            obtain(programs()): "/rig/programs",
            GUEST: "/rig/recipe",
            folder: "/rig/out",
        }
        tools = obtain(builder()) / "root"
        chrooted(tools, ["bash", "/rig/recipe/image.sh"], log, "building the guest image", inputs)
        convert = ["VBoxManage", "convertfromraw", "/mnt/disk.raw", "/mnt/tiny.vdi", "--format", "VDI"]
        chrooted(obtain(virtualbox()) / "root", convert, log, "converting the guest image", {folder: "/mnt"})
        (folder / "disk.raw").unlink()
        shutil.rmtree(folder / "work")

    text = "\n".join([kernel().folder.name, programs().folder.name, _text(files)])
    return Recipe("image", text, build, megabytes=700)


def _built(kind: str, files: list[str], what: str, megabytes: int) -> Recipe:
    """A recipe that runs the script `files[0]` in the builder root."""

    def build(folder: Path) -> None:
        tools = obtain(builder()) / "root"
        binds = {GUEST: "/rig/recipe", folder: "/rig/out"}
        chrooted(tools, ["sh", f"/rig/recipe/{files[0]}"], folder / "build.log", what, binds)

    return Recipe(kind, _text(files), build, megabytes)


def _below(folder: str) -> list[str]:
    paths = sorted((GUEST / folder).rglob("*"))
    return [str(path.relative_to(GUEST)) for path in paths if path.is_file()]


def _text(files: list[str]) -> str:
    return "\n".join(f"{name}\n{(GUEST / name).read_text()}" for name in files)
