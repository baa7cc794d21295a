"""`faultkit dstate [PID...]`: why tasks sit in D state; nothing is attached."""

from __future__ import annotations

import argparse
import sys

from faultkit.cli.answer import give, host
from faultkit.options.dstate import add_dstate_arguments, dstate_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit dstate`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "dstate",
        help="why tasks sit in D state, and who or what would wake them",
        description="Say why tasks are blocked in the kernel, so that they can't be killed, and "
        "whom to look at next: of this machine, of some processes, or of a kernel log. Nothing "
        "is attached, nothing is asked of file systems that may hang. Exit status: 0 an answer, "
        "2 inconclusive, 1 an error.",
    )
    add_dstate_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Examine and show; 0 if there is an answer, 2 if it is inconclusive.  Raises FaultkitError."""
    from faultkit.dstate import examine

    wanted = dstate_arguments(vars(arguments))
    if wanted.watch:
        from faultkit.render.dstate_watch import show_changes

        report = show_changes(wanted, host(), sys.stdout.write, sys.stdout.flush)
    else:
        report = examine(wanted, host())
    return give(report, wanted)
