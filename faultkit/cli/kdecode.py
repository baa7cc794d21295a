"""`faultkit kdecode FILE|ADDRESS...`: back traces of the kernel in text, mapped to source."""

from __future__ import annotations

import argparse
import sys
import time

from faultkit.cli.answer import give, host
from faultkit.model import FOUND
from faultkit.options.kdecode import add_kdecode_arguments, kdecode_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


QUIET = 1.0  # seconds of work that nobody needs to be told of


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the parser of `faultkit kdecode`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "kdecode",
        help="a kernel's back trace, from text or addresses, mapped to source lines",
        description="Map back traces to functions, files and lines: pasted oopses and warnings, "
        "sysrq output, /proc/PID/stack, perf script, ftrace, bpftrace, SystemTap, bt of crash or "
        "gdb, plain addresses. Needs the kernel's vmlinux (and .ko files) with debug "
        "information: given, in the usual places, or from $DEBUGINFOD_URLS. Exit status: 0 an "
        "answer, 2 inconclusive, 1 an error.",
    )
    add_kdecode_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Decode and show; 0 if there is an answer, 2 if it is inconclusive.  Raises FaultkitError."""
    from faultkit.debuginfo import progress
    from faultkit.kdecode import examine

    wanted = kdecode_arguments(vars(arguments))
    shown = _Progress()
    if sys.stderr.isatty():
        progress.show = shown
    try:
        report = examine(wanted, host())
    finally:
        progress.show = None
        shown.clear()
    give(report, wanted)
    return 0 if report.verdict == FOUND else 2


class _Progress:
    """A line on the terminal that tells what takes long."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._told = 0.0
        self._shown = False

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if now - self._began >= QUIET and now - self._told >= 0.1:
            self._told = now
            self._shown = True
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
