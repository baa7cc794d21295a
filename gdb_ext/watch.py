"""`sigsrc --watch`: lets the inferior run, stops it at each signal for as long as it takes to read
the siginfo, and hands the signal on as if nobody had looked."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gdb

from faultkit.analyzers.sigsrc import one_signal
from faultkit.options.sigsrc import SigsrcArguments
from faultkit.render.sigsrc_watch import line_of
from faultkit.signals.model import DEBUGGER, TERMINAL, SignalFinding
from faultkit.signals.names import SIGINT
from faultkit.target import FaultkitError
from gdb_ext.backtrace import told
from gdb_ext.signals import SignalledProcess
from gdb_ext.target import core_file, live_inferior

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


ROW = re.compile(r"^(SIG[\w+-]+)\s+(Yes|No)\s+(Yes|No)\s+(Yes|No)\b", re.MULTILINE)
DEBUGGERS = ("SIGTRAP", "SIGINT")  # gdb stops at these anyway


def watch(
    arguments: SigsrcArguments, write: Callable[[str], object], flush: Callable[[], object]
) -> None:
    """Follow the inferior's signals until it ends, something else stops it, or Ctrl-C; a line
    for each.  Raises FaultkitError if there is no live inferior."""
    if core_file():
        raise FaultkitError(
            "to a core no signals come any more", "sigsrc explains the one that it died of"
        )
    if live_inferior() is None:
        raise FaultkitError("no process is loaded", "attach with `gdb -p PID`, or start one: `run`")
    if not arguments.output:
        _follow(write, flush)
        return
    with open(arguments.output, "w", encoding="utf-8") as file:
        _follow(file.write, file.flush)


def _follow(write: Callable[[str], object], flush: Callable[[], object]) -> None:
    def tell(line: str) -> None:
        write(line + "\n")
        flush()

    began = time.monotonic()
    count = 0
    tell(f"watching the signals of process {gdb.selected_inferior().pid}; Ctrl-C ends it")
    with _stopping_at_all():
        for finding in _signals():
            count += 1
            tell(line_of(time.monotonic() - began, finding))
    left = gdb.selected_inferior().pid
    tell(f"{count} signals; " + ("the process is stopped" if left else "it has ended"))


def _signals() -> Iterator[SignalFinding]:
    """The signals that come, each before it is handed on."""
    resume = "continue"
    while True:
        stop = _run(resume)
        if stop is None or not gdb.selected_inferior().pid:
            return
        process = SignalledProcess()
        task = process.struck()
        found = one_signal(process, task) if task is not None else None
        if found is None or found.origin == DEBUGGER or not isinstance(stop, gdb.SignalEvent):
            return  # a breakpoint, or whatever else the user has asked gdb for
        ours = found.sender is not None and found.sender.pid == os.getpid()
        if found.number == SIGINT and (ours or found.origin == TERMINAL):
            return  # Ctrl-C in gdb
        yield found
        resume = f"signal {stop.stop_signal}"


def _run(command: str) -> Any | None:
    """The event that ended a `continue` or `signal`; None if the inferior has exited."""
    events: list[Any] = []
    gdb.events.stop.connect(events.append)
    try:
        told(lambda: gdb.execute(command, to_string=True))
    except KeyboardInterrupt:
        return None
    finally:
        gdb.events.stop.disconnect(events.append)
    return events[-1] if events else None


@contextmanager
def _stopping_at_all() -> Iterator[None]:
    """gdb stops at every signal; what it did before is put back afterwards."""
    table = told(lambda: gdb.execute("info signals", to_string=True)) or ""
    rows = [row for row in ROW.findall(table) if row[0] not in DEBUGGERS]
    quiet = [name for name, stop, _, _ in rows if stop == "No"]
    unprinted = [name for name, stop, print_, _ in rows if stop == "No" and print_ == "No"]
    told_before = _notifications(True)
    _handle(quiet, "stop print")
    try:
        yield
    finally:
        _handle(quiet, "nostop")
        _handle(unprinted, "noprint")
        _notifications(told_before)


def _notifications(suppressed: bool | None) -> bool | None:
    """Have gdb itself keep quiet about stops, or not; what it did before, None where it always
    tells of them (before gdb 12)."""
    try:
        before = bool(gdb.parameter("suppress-cli-notifications"))
    except RuntimeError:
        return None
    if suppressed is not None:
        word = "on" if suppressed else "off"
        gdb.execute(f"set suppress-cli-notifications {word}", to_string=True)
    return before


def _handle(names: list[str], action: str) -> None:
    if names:
        gdb.execute(f"handle {' '.join(names)} {action}", to_string=True)
