"""`faultkit deadlock PID...`: the same as in gdb, without gdb: nothing is attached."""

from __future__ import annotations

import argparse

from faultkit.cli.answer import give, host
from faultkit.options.deadlock import DeadlockArguments, add_deadlock_arguments
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit deadlock`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "deadlock",
        help="who waits for whom in running processes, without attaching to them",
        description="Find deadlocks in running processes through /proc: nothing is attached, "
        "nothing is paused. Exit status: 0 an answer, 2 inconclusive, 1 an error.",
    )
    add_deadlock_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Examine the processes; 0 if there is an answer, 2 if it is inconclusive.

    Raises FaultkitError without process ids, and for processes that can't be read."""
    from faultkit.analyzers.deadlock import Options, analyze
    from faultkit.world import named

    fields = {name: getattr(arguments, name) for name in DeadlockArguments._fields}
    wanted = DeadlockArguments(**{**fields, "pids": tuple(dict.fromkeys(fields["pids"]))})
    if not wanted.pids:
        raise FaultkitError("deadlock: no process id given", "faultkit deadlock PID")
    options = Options(wanted.stacks, names=wanted.names_all)
    report = analyze(named(wanted.pids), host(), options)
    return give(report, wanted)
