"""`kdecode` in gdb: from its arguments to the report on threads, or on places in the code."""

from __future__ import annotations

import gdb

from faultkit.analyzers.kdecode_program import Stack, analyze
from faultkit.decode.program import ProgramSubject
from faultkit.decode.source import Sources
from faultkit.decode.view import wanted_by
from faultkit.kdecode import places_of
from faultkit.model import Report, Task
from faultkit.options.kdecode import KdecodeArguments
from gdb_ext import frames
from gdb_ext.backtrace import told
from gdb_ext.target import GdbProcess, selection_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_THREADS = 4096


def report_on(arguments: KdecodeArguments, host: dict[str, str | None]) -> Report:
    """The report on the inferior, or, without one, on places in the files that are loaded.
    Raises FaultkitError."""
    with selection_kept():
        if arguments.words and not gdb.selected_inferior().threads():
            return _static(arguments, host)
        process = GdbProcess("name a place in a program's code: kdecode SYMBOL")
        pid = process.pid if process.live else None
        subject = _subject(arguments, process.read, process.mappings(), pid)
        stacks = (
            [frames.places(arguments.words, arguments.exact)]
            if arguments.words
            else _stacks(process, arguments)
        )
        target = {"kind": process.kind, "name": process.name, "release": None}
        wanted = wanted_by(arguments)
        report = analyze(subject, stacks, target, host, wanted, arguments.frames)
        report.paused_seconds = process.paused_seconds()
        report.notes += process.notes()
        report.limits += [limit for limit in process.limits() if limit not in report.limits]
    return report


def _static(arguments: KdecodeArguments, host: dict[str, str | None]) -> Report:
    subject = _subject(arguments, frames.read_static, (), None)
    stack = frames.places(arguments.words, arguments.exact)
    name = told(lambda: gdb.current_progspace().filename)
    target = {"kind": "file", "name": name, "release": None}
    return analyze(subject, [stack], target, host, wanted_by(arguments))


def _subject(arguments: KdecodeArguments, read: Any, mappings: Any, pid: Any) -> ProgramSubject:
    return ProgramSubject(
        read,
        mappings,
        pid,
        frames.symbol_at,
        places_of(arguments),
        Sources(arguments.sources),
        frames.file_of,
    )


def _stacks(process: GdbProcess, arguments: KdecodeArguments) -> list[Stack]:
    selected = gdb.selected_thread()
    threads = [selected]
    if arguments.all or selected is None:
        threads = sorted(gdb.selected_inferior().threads(), key=lambda each: each.num)
    stacks = []
    for thread in threads[:MOST_THREADS]:
        task = process.describe(Task(process.pid, thread.ptid[1] or thread.ptid[0]))
        if not thread.is_valid() or thread.is_running():
            stacks.append(Stack(task, ()))
            continue
        thread.switch()
        stacks.append(frames.stack_of(task))
    return stacks
