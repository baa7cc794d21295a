"""`faultkit install`: have gdb, or crash, load faultkit in every session."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from faultkit.cli import startup
from faultkit.cli.path import crash_extension_path, extension_path
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit install`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "install",
        help="add a `source` line to your gdbinit, or an `extend` line to your crashrc",
        description="Add one marked line to the gdbinit that gdb reads, or with --crash to "
        "~/.crashrc, so that every session knows the commands. Shows the change, backs the file "
        "up first, does nothing the second time, and brings the line up to date when the "
        "installation has moved.",
    )
    parser.add_argument("--gdbinit", metavar="FILE", type=Path, help="this file instead")
    parser.add_argument("--crash", action="store_true", help="for crash: ~/.crashrc")
    parser.add_argument("--crashrc", metavar="FILE", type=Path, help="for crash: this file instead")
    parser.add_argument("--remove", action="store_true", help="take the line out again")
    parser.add_argument("--dry-run", action="store_true", help="show the change, do nothing")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Show the change and make it; asks only on a terminal.  Returns 1 when the answer is no.
    Raises FaultkitError."""
    if arguments.gdbinit and (arguments.crash or arguments.crashrc):
        raise FaultkitError("--gdbinit is for gdb, and the rest for crash", "run it once for each")
    if arguments.crash or arguments.crashrc:
        debugger, file = startup.CRASH, arguments.crashrc or startup.crashrc()
    else:
        debugger, file = startup.GDB, arguments.gdbinit or startup.default_file()
    file = file.absolute()
    if arguments.remove:
        change = startup.plan_remove(file, debugger)
        done, nothing = f"no longer {debugger.does} faultkit", "has no line of faultkit's"
    else:
        extension = crash_extension_path() if debugger is startup.CRASH else extension_path()
        change = startup.plan_install(file, extension, debugger)
        done, nothing = f"{debugger.does} {extension}", f"{debugger.does} {extension} already"
    if not change.needed:
        print(f"{file} {nothing}: nothing to do.")
        return 0
    sys.stdout.write(change.diff())
    if arguments.dry_run:
        print("Nothing was changed (--dry-run).")
        return 0
    if not arguments.yes and sys.stdin.isatty() and not _agreed(file):
        print("Nothing was changed.")
        return 1
    backup = startup.apply(change)
    if backup is not None:
        print(f"Backup: {backup}")
    if change.after is None:
        print(f"Removed {file}, which faultkit had made.")
    else:
        print(f"{file} {done}.")
    return 0


def _agreed(file: Path) -> bool:
    try:
        return input(f"Change {file}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
