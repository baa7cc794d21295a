"""`sigsrc`: the signal that a process died of or stopped with, and those that are pending: who or
what sent them, and why."""

import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

from faultkit.model import FOUND, INCONCLUSIVE, NOT_FOUND, Report, Task
from faultkit.signals.case import Case
from faultkit.signals.model import (
    BLOCKED,
    DELIVERED,
    FATAL,
    PENDING,
    STOPPED,
    UNKNOWN,
    SignalFinding,
)
from faultkit.signals.names import IGNORED, SIGKILL, STOPPING, signal_name, signals_in
from faultkit.signals.origins import Origin, explain
from faultkit.signals.senders import Senders
from faultkit.signals.siginfo import Siginfo, parse_siginfo
from faultkit.target import Process, SignalMasks

SHOWN_FRAMES = 32


class Options(NamedTuple):
    """What may be asked for: `when` is the latest moment at which the signals were sent, in
    seconds since the epoch, None for now."""

    when: Optional[float] = None
    command: str = "sigsrc"


def analyze(
    process: Process, host: dict[str, Optional[str]], options: Optional[Options] = None
) -> Report:
    """Explain the signals of a process.  Raises FaultkitError when nothing can be said at all."""
    began = time.perf_counter()
    options = options or Options()
    senders = Senders(process, options.when)
    report = Report(
        options.command,
        host,
        {"kind": process.kind, "name": process.name, "release": None},
        NOT_FOUND,
    )
    briefs: list[str] = []
    _at_hand(process, senders, report, briefs)
    tasks = process.tasks()
    report.masks = [(task, masks) for task in tasks if (masks := process.masks(task)) is not None]
    pending = _pending(process, report, senders)
    report.signals += pending
    report.limits += process.limits()
    report.counts = {"tasks": len(tasks), "pending": sum(one.times for one in pending)}
    report.verdict = _verdict(report)
    report.summary = _summary(report, briefs)
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _at_hand(process: Process, senders: Senders, report: Report, briefs: list[str]) -> None:
    """Add the findings of the signal that the process died of or stopped with."""
    task = process.struck()
    data = process.siginfo(task) if task is not None else None
    info = parse_siginfo(data) if data is not None else None
    if task is None or info is None:
        return
    case = Case(process, task, info, process.all_registers(task), senders)
    origin = explain(case)
    briefs.append(brief(info, origin))
    report.signals.append(finding_of(case, origin, _state(process, task, info)))


def finding_of(case: Case, origin: Origin, state: str) -> SignalFinding:
    """The finding of a case."""
    info = case.info
    return SignalFinding(
        _described(case.process, case.task),
        info.number,
        origin.origin,
        origin.text,
        info.code,
        origin.cause,
        case.sender,
        origin.address if origin.address is not None else info.address,
        info.value,
        state,
        origin.confidence,
        origin.evidence,
        origin.next,
        tuple(case.frames[:SHOWN_FRAMES]),
    )


def brief(info: Siginfo, origin: Origin) -> str:
    """The signal and its origin in a few words."""
    return signal_name(info.number) + (f", {origin.brief}" if origin.brief else "")


def _described(process: Process, task: Task) -> Task:
    describe = getattr(process, "describe", None)
    described: Task = describe(task) if describe is not None else task
    return described


def _state(process: Process, task: Task, info: Siginfo) -> str:
    """What became of the signal at hand, or will when the process goes on."""
    masks = process.masks(task) if process.live else None
    if masks is None:
        return FATAL if process.kind == "core" else DELIVERED
    bit = 1 << (info.number - 1)
    if (masks.caught or 0) & bit:
        return DELIVERED
    if info.number in STOPPING:
        return STOPPED
    return DELIVERED if (masks.ignored or 0) & bit or info.number in IGNORED else FATAL


def _pending(process: Process, report: Report, senders: Senders) -> list[SignalFinding]:
    """A finding for each pending signal, those of the whole process first."""
    found: list[SignalFinding] = []
    if not report.masks:
        return found
    leader, first = report.masks[0]
    if first.shared:
        found += _queue(process, leader, first, True, senders)
    for task, masks in report.masks:
        if masks.pending:
            found += _queue(process, task, masks, False, senders)
    return found


def _queue(
    process: Process, task: Task, masks: SignalMasks, shared: bool, senders: Senders
) -> list[SignalFinding]:
    mask = (masks.shared if shared else masks.pending) or 0
    queued = process.queued(task, shared)
    found = []
    for data in queued or ():
        info = parse_siginfo(data)
        if info is None:
            continue
        case = Case(process, task, info, {}, senders)
        state = BLOCKED if (masks.blocked or 0) >> (info.number - 1) & 1 else PENDING
        found.append(finding_of(case, explain(case), state)._replace(shared=shared))
        mask &= ~(1 << (info.number - 1))
    return found + _unqueued(process, task, masks, shared, mask, queued is not None)


def _unqueued(
    process: Process, task: Task, masks: SignalMasks, shared: bool, mask: int, seen: bool
) -> list[SignalFinding]:
    """Findings for pending signals without a siginfo: SIGKILL has none, nor have signals that
    were sent when the queue was full (__send_signal_locked in kernel/signal.c)."""
    found = []
    for number in signals_in(mask):
        name = signal_name(number)
        if number == SIGKILL:
            why = "SIGKILL is pending: the kernel keeps no sender of it."
        elif seen:
            why = f"{name} is pending without a siginfo: the queue was full when it was sent."
        else:
            why = f"{name} is pending; its sender can't be seen from here."
        state = BLOCKED if (masks.blocked or 0) >> (number - 1) & 1 else PENDING
        found.append(
            SignalFinding(
                _described(process, task),
                number,
                UNKNOWN,
                why,
                state=state,
                shared=shared,
                next="" if seen else f"gdb -p {process.pid} -ex sigsrc names the senders",
            )
        )
    return found


def _verdict(report: Report) -> str:
    if report.signals:
        return FOUND
    return INCONCLUSIVE if report.limits else NOT_FOUND


def _summary(report: Report, briefs: Sequence[str]) -> str:
    parts = list(briefs)
    pending = report.counts.get("pending", 0)
    if pending:
        names = [one.signal for one in report.signals if one.state in (PENDING, BLOCKED)]
        named = ", ".join(dict.fromkeys(names[:8]))
        parts.append(f"{pending} pending: {named}" if pending > 1 else f"{named} pending")
    if parts:
        return "; ".join(parts)
    return "no signal is at hand, and none is pending"

