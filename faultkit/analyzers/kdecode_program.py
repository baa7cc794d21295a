"""`kdecode` in a session on a program: threads' frames and places in its code."""

from __future__ import annotations

import time
from collections.abc import Sequence

from faultkit.analyzers.kdecode_kernel import conclude
from faultkit.decode.model import DecodedTrace, Trace
from faultkit.decode.program import ProgramSubject, Unwound
from faultkit.decode.view import Wanted, dress
from faultkit.model import Report, Task
from faultkit.record import NamedTuple


class Stack(NamedTuple):
    """The frames of a thread (or of places in code: no task), innermost first; `fault` is what
    stopped it, in words, with the address that was accessed if that is known."""

    task: Task | None
    frames: Sequence[Unwound]
    fault: str | None = None
    fault_address: int | None = None


def analyze(
    subject: ProgramSubject,
    stacks: Sequence[Stack],
    target: dict[str, str | None],
    host: dict[str, str | None],
    wanted: Wanted,
    most: int | None = None,
) -> Report:
    """The report on the stacks, on `most` frames of each."""
    began = time.perf_counter()
    report = Report("kdecode", host, target, "")
    every = []
    for stack in stacks:
        shown = subject.frames(stack.frames)[:most]  # a caller tells of its callee's values
        if stack.fault and shown:
            shown[0] = shown[0]._replace(faulted=True, fault_address=stack.fault_address)
        trace = Trace("thread" if stack.task is not None else "addresses", stack.fault or "")
        if stack.task is not None:
            trace.task, trace.pid = stack.task.name, stack.task.tid
        if not shown:
            trace.notes.append("no frames can be told of it: it runs, or its registers are gone")
        report.traces.append(DecodedTrace(trace, [each.decoded for each in shown]))
        every += shown
    limits = dress(every, subject, wanted)
    report.limits = list(dict.fromkeys([*subject.limits, *limits]))
    report.verdict, report.summary, report.counts = conclude(report.traces)
    report.elapsed_seconds = time.perf_counter() - began
    return report
