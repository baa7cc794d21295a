"""`sigsrc` on a kernel: pending signals with their senders, who is being killed and why he has not
died, what ended those that are gone, and what the log tells."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from faultkit.analyzers.siglog import UNRECORDED, add_logged
from faultkit.kernel import printk
from faultkit.kernel.dying import Delay, delay
from faultkit.kernel.files import processes
from faultkit.kernel.objects import UnknownLayout
from faultkit.kernel.senders import DumpSenders
from faultkit.kernel.signals import (
    GROUP_COREDUMP,
    GROUP_EXIT,
    GroupSignals,
    Pending,
    Signals,
    TaskSignals,
    last_trap,
)
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.kernel.world import KernelWorld
from faultkit.model import FOUND, INCONCLUSIVE, INFERRED, NOT_FOUND, PROVEN, Report, Task
from faultkit.signals.case import Case
from faultkit.signals.model import (
    BLOCKED,
    FATAL,
    KERNEL,
    OOM_KILLER,
    PARENT_DEATH,
    PENDING,
    STOPPED,
    UNKNOWN,
    Sender,
    SignalFinding,
)
from faultkit.signals.names import SI_USER, SIGKILL, signal_name, signals_in
from faultkit.signals.origins import Origin, explain
from faultkit.signals.siginfo import Siginfo, parse_siginfo
from faultkit.target import FaultkitError, SignalMasks

MOST_DELAYS = 8  # threads of one process whose delay is told
MOST_TIMES = 4  # senders named of signals that are alike
EXIT_ZOMBIE = 0x20
PAGE_FAULT = 14
_UNKEPT = "the kernel keeps no sender of SIGKILL"


def analyze_signals(kernel: Kernel, host: dict[str, str | None], pid: int | None = None) -> Report:
    """What the kernel knows of signals: of all programs, or of the process or thread `pid`.

    Raises FaultkitError when nothing can be said at all.
    """
    begun = time.perf_counter()
    system = System(kernel)
    look = _Look(system, pid)
    report = Report(
        "sigsrc",
        host,
        {"kind": kernel.kind, "name": kernel.name, "release": kernel.release},
        NOT_FOUND,
    )
    lines = printk.lines(kernel)
    add_logged(report, lines, pid)
    if not lines:
        report.limits.append("the kernel's log could not be read from the dump: sigsrc --log FILE")
    logged = {one.task.tid for one in report.signals} | {one.task.pid for one in report.signals}
    report.signals += look.killed()
    report.signals += look.stopped()
    report.signals += look.pending()
    report.signals += [one for one in look.ended() if one.task.pid not in logged]
    report.notes += _poisoned(kernel)
    report.masks = look.masks()
    report.limits += [*look.limits, *system.limits, *kernel.limits()]
    report.counts = look.counts
    if report.signals:
        report.verdict = FOUND
    elif report.limits:
        report.verdict = INCONCLUSIVE
    report.summary = _summary(report.signals, pid)
    report.elapsed_seconds = time.perf_counter() - begun
    return report


def _summary(signals: Sequence[SignalFinding], pid: int | None) -> str:
    counts: Counter[str] = Counter()
    for one in signals:
        if one.cause == "being-killed":
            counts["process{s} being killed"] += 1
        elif one.state in (PENDING, BLOCKED):
            counts["signal{s} pending"] += one.times
        elif one.state == STOPPED:
            counts["task{s} stopped"] += 1
        elif one.origin == OOM_KILLER:
            counts["process{s} killed by the OOM killer"] += 1
        else:
            counts["fatal signal{s} recorded"] += one.times
    if not counts:
        return f"no signal is recorded of {'any program' if pid is None else f'process {pid}'}"
    return ", ".join(
        f"{count} {what.format(s='s' * (count > 1))}".replace("processs", "processes")
        for what, count in counts.items()
    )


class _Look:
    """One look at all programs, or one."""

    def __init__(self, system: System, pid: int | None) -> None:
        self.system = system
        self.limits: list[str] = []
        try:
            self.signals = Signals(system)
        except UnknownLayout as error:
            raise FaultkitError(str(error)) from None
        self._world = KernelWorld(system)
        system.look_ahead()
        self._pid = pid
        self._tasks = [
            one for one in self.signals.of_programs() if pid in (None, one.task.pid, one.task.tid)
        ]
        if pid is not None and not self._tasks:
            self.limits.append(f"the dump has no program {pid}: it is gone, or never was")
            self.limits.append(UNRECORDED)
        self._living = processes(system)
        self._condemned: set[Task] = set()
        self.counts = {
            "tasks": len(self._tasks),
            "pending": sum(len(one.own.queue) for one in self._tasks),
        }

    def masks(self) -> list[tuple[Task, SignalMasks]]:
        """The sets of signals of the threads that were asked for; none where all were."""
        if self._pid is None:
            return []
        return [(one.task, self.signals.masks(one)) for one in self._tasks if not one.exit_state]

    def _groups(self) -> Iterator[tuple[GroupSignals, list[TaskSignals]]]:
        """Each process, with its threads that were looked at."""
        by_signal: dict[int, list[TaskSignals]] = {}
        for one in self._tasks:
            by_signal.setdefault(one.signal, []).append(one)
        for address, members in by_signal.items():
            group = self.signals.group(address)
            if group is not None:
                yield group, members

    # Being killed

    def killed(self) -> Iterator[SignalFinding]:
        """Processes that are to end, as long as threads of theirs live."""
        for group, members in self._groups():
            alive = [one for one in members if not one.exit_state]
            condemned = [one for one in alive if self._is_condemned(one, group)]
            if condemned:
                self._condemned.update(one.task for one in condemned)
                yield self._being_killed(group, condemned, members)

    def _is_condemned(self, one: TaskSignals, group: GroupSignals) -> bool:
        if one.own.mask >> (SIGKILL - 1) & 1:
            return True
        if group.executes is not None:
            return False
        return bool(group.flags & (GROUP_EXIT | GROUP_COREDUMP))

    def _being_killed(
        self, group: GroupSignals, alive: list[TaskSignals], members: list[TaskSignals]
    ) -> SignalFinding:
        number = group.exit_code & 0x7F
        leader = _leader(members).task
        dumper = self._dumper(alive, number)
        origin, why, evidence, confidence = self._reason(group, number, dumper)
        delays = [(one.task, delay(self.system, one.task)) for one in alive[:MOST_DELAYS]]
        stays = [(task, found) for task, found in delays if found.stays]
        doomed = [str(one.task.tid) for one in alive if one.own.mask >> (SIGKILL - 1) & 1]
        if doomed:
            threads = ", ".join(doomed[:MOST_DELAYS]) + ", ..." * (len(doomed) > MOST_DELAYS)
            evidence = (*evidence, f"SIGKILL is pending for {threads}")
        for task, found in (stays or delays)[:MOST_DELAYS]:
            why += f'; thread {task.tid} "{task.name}" has not died: it {found.words}'
        if len(alive) > MOST_DELAYS:
            why += f"; {len(alive) - MOST_DELAYS} more threads have not died either"
        address = None
        trap = last_trap(self.system, dumper) if dumper is not None else None
        if trap is not None and trap.number == PAGE_FAULT:
            address = trap.address
        return SignalFinding(
            self.system.described(dumper or (leader if len(alive) > 1 else alive[0].task)),
            number if 1 <= number <= 64 else SIGKILL,
            origin,
            why + ".",
            cause="being-killed",
            address=address,
            state=FATAL,
            confidence=confidence,
            evidence=evidence,
            next=_what_next(stays or delays),
            shared=dumper is None and len(alive) > 1,
        )

    def _reason(
        self, group: GroupSignals, number: int, dumper: Task | None
    ) -> tuple[str, str, tuple[str, ...], str]:
        """(origin, why, evidence, confidence) of a process's end."""
        evidence = [f"signal->group_exit_code is {group.exit_code:#x}, flags {group.flags:#x}"]
        if group.executes is not None:
            who = f'{group.executes.tid} "{group.executes.name}"'
            return (
                KERNEL,
                f"Thread {who} executes another program, which ends all others",
                (f"signal->group_exec_task is {who}",),
                PROVEN,
            )
        if group.by_oom_killer:
            evidence.append("signal->oom_mm is set: it is one of the OOM killer's victims")
            return OOM_KILLER, "The OOM killer chose the process", tuple(evidence), PROVEN
        name = signal_name(number)
        if dumper is not None:
            trap = last_trap(self.system, dumper)
            who = f'{dumper.tid} "{dumper.name}"'
            why = f"{name} to thread {who} ends the process, with a core dump"
            if trap is not None and trap.number == PAGE_FAULT:
                access = "execute" if trap.error & 16 else "write to" if trap.error & 2 else "read"
                why += f": it tried to {access} address {trap.address:#x}"
                evidence.append(f"thread.trap_nr 14, error_code {trap.error:#x}")
            elif trap is not None:
                evidence.append(f"thread.trap_nr {trap.number}, error_code {trap.error:#x}")
            return "fault" if trap is not None else UNKNOWN, why, tuple(evidence), PROVEN
        if number == 0 and group.exit_code:
            why = f"A thread has called exit_group({group.exit_code >> 8}), which ends the others"
            return KERNEL, why, tuple(evidence), PROVEN
        if number == 0:
            why = "The process is to end: by exit_group(0), or by a SIGKILL to its threads"
            return UNKNOWN, why, tuple(evidence), INFERRED
        why = f"{name} ends the process"
        if number == SIGKILL:
            why += f"; who sent it is not recorded: {_UNKEPT}"
        return UNKNOWN, why, tuple(evidence), PROVEN

    def _dumper(self, alive: list[TaskSignals], number: int) -> Task | None:
        """The thread that the core dump in progress is of: the one that waits in coredump_wait(),
        or writes."""
        if number == 0:
            return None
        for one in alive:
            task = one.task.address or 0
            for type_name, at in (("signal_struct", one.signal), ("mm_struct", None)):
                offset = self.system.kernel.offset(type_name, "core_state")
                dumper_at = self.system.kernel.offset("core_state", "dumper")
                task_at = self.system.kernel.offset("core_thread", "task")
                if offset is None or dumper_at is None or task_at is None:
                    continue
                try:
                    if at is None:
                        mm = self.system.kernel.offset("task_struct", "mm")
                        at = self.system.kernel.u64(task + (mm or 0))
                    state = self.system.kernel.u64(at + offset) if at else 0
                    if not state:
                        continue
                    found = self.system.kernel.u64(state + dumper_at + task_at)
                except FaultkitError:
                    continue
                dumper = self.system.by_address.get(found)
                if dumper is not None and dumper.pid == one.task.pid:
                    return dumper
        return None

    # Stopped

    def stopped(self) -> Iterator[SignalFinding]:
        """Tasks that a signal has stopped; and traced ones, with the signal they stopped for."""
        for one in self._tasks:
            data = self.signals.last_siginfo(one)
            info = parse_siginfo(data) if data is not None else None
            shown = self.system.described(one.task)
            if info is not None and shown.state == "t":
                finding = self._explained(one, info, STOPPED)
                if finding is not None:
                    text = finding.explanation + " The task has stopped for its tracer to see it."
                    yield finding._replace(explanation=text, cause="traced")
            elif one.stop_signal and shown.state == "T" and one.stop_signal <= 64:
                name = signal_name(one.stop_signal)
                yield SignalFinding(
                    shown,
                    one.stop_signal,
                    UNKNOWN,
                    f"{name} has stopped the task; who sent it is not recorded.",
                    cause="stopped",
                    state=STOPPED,
                    evidence=(f"task->jobctl names {name}",),
                    next=f"kill -CONT {one.task.pid} would continue it",
                )

    # Pending

    def pending(self) -> Iterator[SignalFinding]:
        """Signals that wait to be taken."""
        for group, members in self._groups():
            living = [one for one in members if not one.exit_state]
            if not living:
                continue
            yield from self._queue(_leader(living), group.shared, True)
            for one in living:
                yield from self._queue(one, one.own, False)

    def _queue(self, one: TaskSignals, pending: Pending, shared: bool) -> Iterator[SignalFinding]:
        if pending.damaged is not None:
            self.limits.append(
                f"the signals queued for {one.task.tid} are damaged: {pending.damaged}"
            )
        left = pending.mask
        alike: dict[object, list[Siginfo]] = {}
        for data in pending.queue:
            info = parse_siginfo(data)
            if info is None:
                self.limits.append(f"a signal queued for {one.task.tid} has an impossible number")
                continue
            left &= ~(1 << (info.number - 1))
            alike.setdefault((info.number, info.code, info.uid), []).append(info)
        for infos in alike.values():
            yield from self._alike(one, infos, shared)
        for number in signals_in(left):
            if number == SIGKILL and one.task in self._condemned:
                continue  # told already
            yield self._without_siginfo(one, number, shared)

    def _alike(
        self, one: TaskSignals, infos: list[Siginfo], shared: bool
    ) -> Iterator[SignalFinding]:
        """Signals of one kind: each by itself if they are few."""
        state = BLOCKED if one.blocked >> (infos[0].number - 1) & 1 else PENDING
        few = infos if len(infos) <= MOST_TIMES else infos[:1]
        for info in few:
            finding = self._explained(one, info, state)
            if finding is None:
                continue
            if len(infos) > len(few):
                senders = len({info.pid for info in infos})
                text = f"{len(infos)} signals are alike, from {senders} senders; the first one: "
                finding = finding._replace(times=len(infos), explanation=text + finding.explanation)
            yield finding._replace(shared=shared)

    def _explained(self, one: TaskSignals, info: Siginfo, state: str) -> SignalFinding | None:
        process = self._world.process(one.task.pid)
        if process is None:
            return None
        senders = DumpSenders(process, one.task, self.system, self._world.kinship)
        case = Case(process, one.task, info, {}, senders)
        origin = _parent_death(case, one) or explain(case)
        return SignalFinding(
            self.system.described(one.task),
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
            _look_at(case.sender, origin.next),
        )

    def _without_siginfo(self, one: TaskSignals, number: int, shared: bool) -> SignalFinding:
        name = signal_name(number)
        if number == SIGKILL:
            why = f"SIGKILL is pending; who sent it is not recorded: {_UNKEPT}."
        else:
            why = f"{name} is pending without a siginfo: the queue was full when it was sent."
        state = BLOCKED if one.blocked >> (number - 1) & 1 else PENDING
        return SignalFinding(
            self.system.described(one.task), number, UNKNOWN, why, state=state, shared=shared
        )

    # Ended

    def ended(self) -> Iterator[SignalFinding]:
        """Zombies that a signal has ended."""
        for one in self._tasks:
            number = one.exit_code & 0x7F
            if not one.exit_state & EXIT_ZOMBIE or one.task.tid != one.task.pid or not number:
                continue
            group = self.signals.group(one.signal)
            if self._living.get(one.task.pid) or number > 64:
                continue  # other threads live
            origin, why = UNKNOWN, f"{signal_name(number)} has ended the process"
            evidence = [f"task->exit_code is {one.exit_code:#x}"]
            if group is not None and group.by_oom_killer:
                origin = OOM_KILLER
                why += ": it was one of the OOM killer's victims"
                evidence.append("signal->oom_mm is set")
            elif number == SIGKILL:
                why += f"; who sent it is not recorded: {_UNKEPT}, and the log has no line of it"
            core = " and left a core dump" if one.exit_code & 0x80 else ""
            yield SignalFinding(
                self.system.described(one.task),
                number,
                origin,
                f"{why}{core}; it is a zombie, as its parent has not waited for it.",
                cause="zombie",
                state=FATAL,
                evidence=tuple(evidence),
            )


def _poisoned(kernel: Kernel) -> Iterator[str]:
    """How many pages memory failures have taken away (mm/memory-failure.c)."""
    address = kernel.symbol("num_poisoned_pages")
    try:
        count = kernel.u64(address) if address else 0
    except FaultkitError:
        return
    if 0 < count < 1 << 40:
        pages = "page is" if count == 1 else "pages are"
        yield (
            f"{count} {pages} hardware-poisoned: who touches one, or maps one early, gets SIGBUS "
            "(kmem -p, flag hwpoison)"
        )


def _leader(members: Sequence[TaskSignals]) -> TaskSignals:
    """The thread group's leader, or whichever comes first of those that are left."""
    return min(members, key=lambda one: (one.task.tid != one.task.pid, one.task.tid))


def _what_next(delays: Sequence[tuple[Task, Delay]]) -> str:
    """The commands that tell more of the threads that have not died."""
    commands = dict.fromkeys(found.next for _, found in delays if found.next)
    return "; ".join([*commands][:3])


def _look_at(sender: Sender | None, said: str) -> str:
    """What to look at next, in words of crash where it is the sender."""
    if sender is None or sender.itself or not sender.alive:
        return said
    return f"bt {sender.own_pid} shows what it does now"


def _parent_death(case: Case, one: TaskSignals) -> Origin | None:
    """prctl(PR_SET_PDEATHSIG): the kernel sends it as if the dying parent had (kernel/exit.c,
    forget_original_parent(); si_code is SI_USER)."""
    info, sender = case.info, case.sender
    if info.number != one.parent_death or info.code != SI_USER or sender is None:
        return None
    if sender.alive is not False or sender.pid == 0:
        return None
    name = signal_name(info.number)
    return Origin(
        PARENT_DEATH,
        "parent-death",
        f"{name} tells the process that its parent, pid {sender.pid}, has ended: it had asked for "
        "that with prctl(PR_SET_PDEATHSIG).",
        f"its parent {sender.pid} has ended",
        (f"task->pdeath_signal is {name}, and the sender is gone",),
        confidence=INFERRED,
    )
