"""`faultkit sigsrc PID`: pending, blocked and handled signals of a process; nothing is attached."""

from __future__ import annotations

import argparse
import sys

from faultkit.cli.answer import give, host
from faultkit.options.sigsrc import SigsrcArguments, add_sigsrc_arguments, sigsrc_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit sigsrc`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "sigsrc",
        help="which signals a process has pending, blocked, ignored and handled",
        description="Tell of a process's signals by /proc: nothing is attached. Who sent the "
        "pending ones only `sigsrc` in gdb tells, as well as what a core died of. Exit status: "
        "0 an answer, 2 inconclusive, 1 an error.",
    )
    add_sigsrc_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Examine and show; 0 if there is an answer, 2 if it is inconclusive.  Raises FaultkitError."""
    from faultkit.sigsrc import examine

    wanted = sigsrc_arguments(vars(arguments))
    if wanted.arm is not None:
        return _arm(wanted)
    report = examine(wanted, host())
    return give(report, wanted)


def _arm(wanted: SigsrcArguments) -> int:
    from faultkit.sigsrc import printed_tracer, run_tracer

    if wanted.start:
        return run_tracer(wanted)
    sys.stdout.write(printed_tracer(wanted))
    return 0
