"""The command line: `rig up`, `rig image`, `rig down`, `rig status`, `rig exec`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from vboxrig import instance
from vboxrig.errors import RigError
from vboxrig.namespace import hold
from vboxrig.places import places
from vboxrig.progress import say


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code (see `vboxrig.errors`); 2 is a wrong command line."""
    if arguments[:1] == ["hold-namespace"]:  # how the rig calls itself, see `namespace.start_holder`
        hold(arguments[1])
    options = _parser().parse_args(arguments)
    # A build in progress is ended in an orderly way by SIGTERM too, as CI systems send it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options)
    except RigError as error:
        say(f"error: {error}")
        for line in error.details.splitlines():
            print(f"    {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rig", description="Real VirtualBox without its kernel module.")
    commands = parser.add_subparsers(dest="command", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default="default", help="which rig; several can run side by side")
    commands.add_parser("up", parents=[named], help="start a rig; the last line printed is its shell file's path")
    commands.add_parser(
        "image",
        parents=[named],
        help="only build the guest, for a VirtualBox of your own; prints a folder with its YAML",
    )
    down = commands.add_parser("down", parents=[named], help="end a rig and all that runs in it")
    down.add_argument("--delete", action="store_true", help="also delete its machines, settings and logs")
    commands.add_parser("status", parents=[named], help="tell whether a rig is up, and its processes")
    execute = commands.add_parser("exec", parents=[named], help="run a command inside, such as VBoxManage")
    execute.add_argument("arguments", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    return parser


def _run(options: argparse.Namespace) -> int:
    where = places(options.name)
    if options.command == "up":
        print(instance.up(where))
    elif options.command == "image":
        print(instance.image(where))
    elif options.command == "down":
        ended = instance.down(where, delete=options.delete)
        say(f"the rig {where.name} is down" if ended else f"the rig {where.name} was not up")
    elif options.command == "status":
        print("\n".join(instance.status(where)))
    else:
        command = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
        instance.execute(where, command or ["sh"], Path.cwd())
    return 0
