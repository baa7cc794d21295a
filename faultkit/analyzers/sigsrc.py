"""`sigsrc`: the signal that a process died of or stopped with, and those that are pending: who or
what sent them, and why."""

from __future__ import annotations

import time
from collections.abc import Sequence

from faultkit.model import FOUND, INCONCLUSIVE, INFERRED, NOT_FOUND, Report, Task
from faultkit.record import NamedTuple
from faultkit.signals.case import Case
from faultkit.signals.frames import (
    fault_by_registers,
    number_by_mask,
    siginfo_in,
    signal_frames,
)
from faultkit.signals.model import (
    BLOCKED,
    DEBUGGER,
    DELIVERED,
    FATAL,
    PENDING,
    STOPPED,
    UNKNOWN,
    SignalFinding,
)
from faultkit.signals.names import IGNORED, SIGFPE, SIGKILL, STOPPING, signal_name, signals_in
from faultkit.signals.origins import Origin, explain
from faultkit.signals.origins._calls_made import last_call
from faultkit.signals.origins.arithmetic import INTDIV, divides
from faultkit.signals.senders import Senders
from faultkit.signals.siginfo import NUMBER_ONLY, Siginfo, parse_siginfo
from faultkit.target import FaultkitError, Process, SignalMasks

SHOWN_FRAMES = 32
NO_SIGINFO = "the signal frame keeps no siginfo (no SA_SIGINFO): registers and masks tell this"
UNTOLD = (
    "a signal handler was running; of which signal is not kept: it was installed without "
    "SA_SIGINFO, and blocks more signals than its own"
)
HALTED = (
    "the debugger's own SIGSTOP is pending, as it is where the process was stopped already when "
    "the debugger attached: who stopped it is not kept"
)
OUTERMOST = frozenset(("_start", "clone", "clone3", "__clone", "__clone3"))


class Options(NamedTuple):
    """What may be asked for: `when` is the latest moment at which the signals were sent, in
    seconds since the epoch, None for now."""

    when: float | None = None
    command: str = "sigsrc"


def analyze(
    process: Process, host: dict[str, str | None], options: Options | None = None
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
    if process.kind == "process" and tasks and _described(process, tasks[0]).state == "T":
        report.notes.append(
            "the process is stopped (T) by SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU: who sent it is "
            "not kept; SIGCONT lets it go on"
        )
    report.counts = {"tasks": len(tasks), "pending": sum(one.times for one in pending)}
    report.verdict = _verdict(report)
    report.summary = _summary(process, report, briefs)
    report.elapsed_seconds = time.perf_counter() - began
    return report


def _at_hand(process: Process, senders: Senders, report: Report, briefs: list[str]) -> None:
    """Add the findings of the signal that the process died of or stopped with, after those in
    whose handlers it came: the first of them is the cause."""
    task = process.struck()
    if task is None:
        return
    registers = process.all_registers(task)
    outer = _interrupted(process, task, registers, senders, report.notes)
    data = process.siginfo(task)
    info = parse_siginfo(data) if data is not None else None
    within: int | None = None
    for case, finding, words in outer:
        report.signals.append(finding._replace(within=within))
        briefs.append(words)
        within = case.info.number
    if info is None:
        return
    case = Case(process, task, info, registers, senders)
    origin = explain(case)
    if origin.origin == DEBUGGER:
        report.notes.append(origin.text)
        return
    sp = registers.get("rsp")
    if process.kind == "core" and case.incomplete and sp is not None and case.word(sp) is None:
        report.limits.append(
            f"the stack of thread {task.tid}, at {sp:#x}, is not in the core: there is no back "
            "trace, and what the functions on it were given is not known"
        )
    briefs.append(brief(info, origin) + (" in its handler" if within else ""))
    finding = finding_of(case, origin, _state(process, task, info))
    if within:
        finding = finding._replace(
            within=within,
            explanation=f"{finding.explanation} It came while the handler of "
            f"{signal_name(within)} ran.",
        )
    report.signals.append(finding)


def one_signal(process: Process, task: Task) -> SignalFinding | None:
    """The finding of the signal that a task has stopped with, without its back trace; None if it
    has stopped with none."""
    data = process.siginfo(task)
    info = parse_siginfo(data) if data is not None else None
    if info is None:
        return None
    case = Case(process, task, info, process.all_registers(task), Senders(process))
    return finding_of(case, explain(case), _state(process, task, info), False)


def _interrupted(
    process: Process,
    task: Task,
    registers: dict[str, int],
    senders: Senders,
    notes: list[str],
) -> list[tuple[Case, SignalFinding, str]]:
    """The signals whose handlers run on the task's stack, the first one first: each with its
    finding, and in a few words.  Adds a note where a handler runs of which nothing tells the
    signal."""
    if "rsp" not in registers:
        return []
    try:
        frames = process.frames(task)
    except FaultkitError:
        frames = ()
    stack_pointers = {frame.sp for frame in frames}
    complete = bool(frames) and (frames[-1].symbol or "").split("@")[0] in OUTERMOST
    masks = process.masks(task)
    blocked = masks.blocked if masks is not None else None
    found = []
    for frame in signal_frames(process, registers["rsp"]):
        unwound = frame.address + 8 in stack_pointers
        kept = siginfo_in(frame, blocked)
        known = (kept,) if kept else (fault_by_registers(frame, blocked),
                                      number_by_mask(frame, blocked))  # fmt: skip
        blocked = frame.mask
        if complete and not unwound:
            continue  # left behind by a handler that has returned, or by chance
        saved = {**frame.registers}
        for name in ("fs_base", "gs_base"):
            if name in registers:
                saved[name] = registers[name]
        cases = [Case(process, task, info, saved, senders, False) for info in known if info]
        case = next((one for one in cases if kept or _can_be(one)), None)
        if case is None:
            if unwound and UNTOLD not in notes:
                notes.append(UNTOLD)
            continue
        info = case.info
        origin = _unrecorded(info) if info.layout == NUMBER_ONLY else explain(case)
        finding = finding_of(case, origin, DELIVERED)
        if kept is None:
            finding = finding._replace(
                code=None if info.layout == NUMBER_ONLY else info.code,
                evidence=(*finding.evidence, NO_SIGINFO),
            )
        if not unwound:
            said = "its signal frame was found on the stack by its form"
            finding = finding._replace(confidence=INFERRED, evidence=(*finding.evidence, said))
        found.append((case, finding, brief(info, origin)))
    return found[::-1]


def _can_be(case: Case) -> bool:
    """Whether what the registers tell can be: the trap number of a fault may be an old one."""
    info = case.info
    if info.layout == NUMBER_ONLY:
        return True
    if info.number == SIGFPE and info.code == INTDIV:
        return divides(case)
    if last_call(case) is not None:
        return False
    return (
        info.address in (None, case.registers.get("rip"))
        or case.access is not None
        or case.instruction is None
    )


def _unrecorded(info: Siginfo) -> Origin:
    name = signal_name(info.number)
    return Origin(
        UNKNOWN,
        "unrecorded",
        f"The handler of {name} was running. It was installed without SA_SIGINFO, so that the "
        "kernel kept neither sender nor code.",
        "whose sender was not kept (no SA_SIGINFO)",
        next="sigaction() with SA_SIGINFO would keep the sender; `sigsrc --arm` records it too",
    )


def finding_of(case: Case, origin: Origin, state: str, frames: bool = True) -> SignalFinding:
    """The finding of a case, with its back trace unless the signal has not struck yet."""
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
        info.number_sent,
        state,
        origin.confidence,
        origin.evidence,
        origin.next,
        tuple(case.frames[:SHOWN_FRAMES]) if frames else (),
        case.own_place() if frames else None,
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
        return FATAL if process.kind == "core" and not process.pictured else DELIVERED
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
        found += _queue(process, leader, first, True, senders, report.notes)
    for task, masks in report.masks:
        if masks.pending:
            found += _queue(process, task, masks, False, senders, report.notes)
    return found


def _queue(
    process: Process,
    task: Task,
    masks: SignalMasks,
    shared: bool,
    senders: Senders,
    notes: list[str],
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
        mask &= ~(1 << (info.number - 1))
        origin = explain(case)
        if origin.origin != DEBUGGER:
            found.append(finding_of(case, origin, state, False)._replace(shared=shared))
        elif HALTED not in notes:
            notes.append(HALTED)
    return found + _unqueued(process, task, masks, shared, mask, queued is not None)


def _unqueued(
    process: Process, task: Task, masks: SignalMasks, shared: bool, mask: int, seen: bool
) -> list[SignalFinding]:
    """Findings for pending signals without a siginfo: SIGKILL has none, nor have signals that
    were sent when the queue was full (__send_signal_locked in kernel/signal.c)."""
    found = []
    hidden = not seen and process.kind != "core"
    next_ = f"gdb -p {process.pid} -ex sigsrc names the senders" if hidden else ""
    for number in signals_in(mask):
        name = signal_name(number)
        if number == SIGKILL:
            why = "SIGKILL is pending: the kernel keeps no sender of it."
        elif process.kind == "core":
            why = f"{name} is pending; a core does not keep who sent it."
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
                next=next_,
            )
        )
    return found


def _verdict(report: Report) -> str:
    if report.signals:
        return FOUND
    return INCONCLUSIVE if report.limits else NOT_FOUND


def _summary(process: Process, report: Report, briefs: Sequence[str]) -> str:
    parts = list(briefs)
    pending = report.counts.get("pending", 0)
    if pending:
        names = [one.signal for one in report.signals if one.state in (PENDING, BLOCKED)]
        named = ", ".join(dict.fromkeys(names[:8]))
        parts.append(f"{pending} pending: {named}" if pending > 1 else f"{named} pending")
    if parts:
        return "; ".join(parts)
    if process.kind == "core":  # which has, at most, the pending ones of single threads
        return "no signal is at hand; what is pending for the process, a core does not keep"
    return "no signal is at hand, and none is pending"
