"""`faultkit deadlock PID...`: the same as in gdb, without gdb: nothing is attached."""

import argparse
import os
import shutil
import sys
from typing import Any

import faultkit
from faultkit.model import FOUND, NOT_FOUND
from faultkit.options import DeadlockArguments, add_deadlock_arguments
from faultkit.target import FaultkitError

STATUS = {FOUND: 0, NOT_FOUND: 0}


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
    from faultkit.procfs.process import ProcProcess
    from faultkit.render import deliver

    fields = {name: getattr(arguments, name) for name in DeadlockArguments._fields}
    wanted = DeadlockArguments(**{**fields, "pids": tuple(dict.fromkeys(fields["pids"]))})
    if not wanted.pids:
        raise FaultkitError("deadlock: no process id given", "faultkit deadlock PID")
    host = {"name": None, "version": None, "faultkit": faultkit.__version__}
    options = Options(wanted.stacks, names=wanted.names_all)
    report = analyze([ProcProcess(pid) for pid in wanted.pids], host, options)
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    color = color and os.environ.get("TERM", "dumb") != "dumb"
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    deliver(report, wanted, sys.stdout.write, width, color)
    return STATUS.get(report.verdict, 2)
