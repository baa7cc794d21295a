"""Who holds a lock that records no holder: signs, their strength, and when they suffice.

A strong sign is one that would convince an engineer who reads the code; a weak one only makes
curious.  A task is named as holder on a strong sign, never on weak ones: these do not add up, as
whoever works with a lock without holding it gives all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from faultkit.code.symbols import demangle
from faultkit.infer import functions
from faultkit.infer.functions import (
    BARRIER,
    CONDITION,
    COUNTER,
    EVENTS,
    FILE,
    GUARD,
    MUTEX,
    ONCE,
    RUST,
    SEMAPHORE,
    family_of,
)
from faultkit.infer.lock import Target, locate, locked_descriptors
from faultkit.infer.signals import awaits_signal, runs_by_timers
from faultkit.infer.trace import Trace, Tracing
from faultkit.layouts.guards import guard_of
from faultkit.model import HELD, INFERRED, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, Process
from faultkit.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


_MANGLED = r"\b_[ZR]\w[\w.$]*"
_HASH = r"::h[0-9a-f]{16}$"  # that rustc's older mangling ends with

STRONG, WEAK = 2, 1
ENOUGH = 2
MOST_CANDIDATES = 64
EXCLUSIVE = (MUTEX, RUST, GUARD)  # at most one holder, and who waits for it does not have it
COUNTS = (SEMAPHORE, COUNTER)  # which some use as locks


class Suspect(NamedTuple):
    """A task that may hold the lock (or, for events, would bring the event about)."""

    task: Task
    strength: int
    evidence: tuple[str, ...]
    took_it: bool = False  # a semaphore, as one takes a lock


class Case:
    """The signs against one task."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.strong: list[str] = []
        self.weak: list[str] = []
        self.on_stack: str | None = None
        self.given_back = False
        self.taken: str | None = None  # a semaphore, for good: as one takes a lock

    @property
    def strength(self) -> int:
        if self.strong:
            return STRONG * len(self.strong) + WEAK * (len(self.weak) + bool(self.on_stack))
        return WEAK if self.weak or self.on_stack else 0

    @property
    def evidence(self) -> tuple[str, ...]:
        lines = [*self.strong, *self.weak]
        return tuple(lines + [self.on_stack] if self.on_stack else lines)


Doors: TypeAlias = "frozenset[int | None]"  # where functions start


class Findings(NamedTuple):
    """Suspects, strongest first, and what keeps them from being all."""

    suspects: list[Suspect]
    unseen: int  # candidates that were not looked at
    blind: int  # candidates that were, in vain: no stack, or code that can't be followed
    takers: list[Suspect]  # those that took a semaphore and kept it, where none would post
    doubtful: tuple[Task, ...]  # that might, for all that could be followed of them


def infer_holders(world: World, wait: Wait, candidates: Iterable[Task]) -> list[Suspect]:
    """Who may hold what `wait` waits for, strongest first; see `resolve` for what suffices.

    `candidates` may hold the waiter itself: it is asked whether it already has the lock.
    """
    return investigate(world, wait, tuple(candidates)).suspects


def investigate(
    world: World,
    wait: Wait,
    candidates: Sequence[Task],
    most: int = MOST_CANDIDATES,
    waiters: Collection[Task] = (),
) -> Findings:
    """As `infer_holders`, and how many candidates could not be judged; looks at the first `most`
    of them.  Of an event's `waiters`, who are no candidates, see `_took_twice`."""
    family = family_of(wait.lock.kind, wait.needs)
    if family is None or not (candidates or waiters):
        return Findings([], 0, 0, [], ())
    tracing = Tracing(world, wait, family)
    unseen = max(0, len(candidates) - most)
    doors = _doors(world, wait, tracing) if family == ONCE else frozenset()
    cases = []
    traces: dict[Task, Trace | None] = {}
    queue = []
    blind = 0
    doubtful = []
    for task in candidates[:most]:
        process = world.process(task.pid)
        target = locate(world, wait, process) if process is not None else None
        if process is None or target is None:
            blind += 1
            continue
        waits_too = target.waited_by(process, task)
        if waits_too and family in EVENTS:
            continue
        if waits_too and task != wait.task and family in EXCLUSIVE:
            queue.append((task, process, target))
            continue
        trace = traces[task] = tracing.trace(process, task)
        if trace is None or (family in EVENTS and trace.opaque):
            blind += 1
        case = _examine(task, process, trace, target, family, waits_too, doors)
        by_timer = family in EVENTS and runs_by_timers(process, task)
        unseen_events = family in EVENTS and trace is not None and trace.acts_unseen
        unknown = (trace is None or trace.opaque or unseen_events) and not case.taken
        if family == FILE:  # whoever took it, any thread may give it back
            if trace is not None and any(trace.coming(target)):
                doubtful.append(task)
        elif by_timer or (unknown and not awaits_signal(process, task)):
            doubtful.append(task)
        cases.append(case)
    if family in COUNTS and not any(case.strong or case.taken for case in cases):
        twice = _took_twice(world, wait, waiters, tracing, family)
        if twice:  # whoever else took it may have done so in code that is long left
            doubtful = [task for task in candidates if not _waits_for_signal(world, task)]
        cases += twice
    if family == FILE and not unseen:
        _by_elimination(world, wait, cases, traces)
    if not any(case.strong for case in cases):  # then it may be one of the queue, and took it twice
        for task, process, target in queue:
            trace = tracing.trace(process, task)
            cases.append(_examine(task, process, trace, target, family, True))
    return weigh(wait, cases, unseen, blind, tuple(doubtful))


def _by_elimination(
    world: World, wait: Wait, cases: Sequence[Case], traces: dict[Task, Trace | None]
) -> None:
    """Of a file's lock that the waiter's own process holds: the waiter is who took it, where its
    code took as many such locks as the process has, and no other thread's code takes any."""
    process, trace = world.process(wait.task.pid), traces.get(wait.task)
    own = next((case for case in cases if case.task == wait.task), None)
    if process is None or own is None or trace is None or any(case.strong for case in cases):
        return
    taken = trace.holding_unnamed()
    locked = len(locked_descriptors(world, process))
    others = [other for task, other in traces.items() if task != wait.task]
    if len(taken) >= locked and not any(other is None or other.may_take for other in others):
        own.strong += (f"{how} before, and no other thread's code does so" for how in taken)


def _took_twice(
    world: World, wait: Wait, waiters: Collection[Task], tracing: Tracing, family: str
) -> list[Case]:
    """Those of a semaphore's waiters that have taken it before, and would post it: as a lock that
    is taken twice, or by more than it has room for.  (Who waits for events posts them not.)"""
    cases = []
    for task in islice(waiters, MOST_CANDIDATES):
        process = world.process(task.pid)
        target = locate(world, wait, process) if process is not None else None
        trace = tracing.trace(process, task) if process is not None else None
        if trace is None or target is None:
            continue
        case = Case(task)
        judge_by_code(case, trace, target, family)
        if case.taken and case.strong:
            cases.append(case)
    return cases


def _doors(world: World, wait: Wait, tracing: Tracing) -> Doors:
    """The functions through which the waiter came to wait for the lock."""
    process = world.process(wait.task.pid)
    target = locate(world, wait, process) if process is not None else None
    trace = tracing.trace(process, wait.task) if process is not None else None
    return trace.waits_inside(target) if trace is not None and target is not None else frozenset()


def _examine(
    task: Task,
    process: Process,
    trace: Trace | None,
    target: Target,
    family: str,
    waits_too: bool,
    doors: Doors = frozenset(),
) -> Case:
    """All signs against one task."""
    case = Case(task)
    if trace is not None:
        judge_by_code(case, trace, target, family)
        if family == ONCE:
            _by_once(case, trace, target, waits_too, doors)
        # nobody who waits for an atomic to change is surprised that others know it, too
        if not waits_too and not case.given_back and family != COUNTER:
            case.on_stack = on_stack(process, trace, target)
    # without a trace nobody knows whether it sleeps on a condition, its mutex given back
    told = trace is not None or family not in EXCLUSIVE
    if told and not case.given_back and family not in (FILE, *EVENTS):
        _by_guards(case, process, task, trace, target)
    return case


def weigh(
    wait: Wait, cases: list[Case], unseen: int, blind: int, doubtful: tuple[Task, ...]
) -> Findings:
    """The cases against all that were looked at, put together."""
    suspects = [
        Suspect(case.task, case.strength, case.evidence, case.taken is not None)
        for case in cases
        if case.strength
    ]
    suspects.sort(key=lambda suspect: (-suspect.strength, suspect.task.pid, suspect.task.tid))
    takers = [] if unseen else _takers(cases)
    return Findings(suspects, unseen, blind, takers, doubtful)


def resolve(
    world: World,
    wait: Wait,
    candidates: Iterable[Task],
    most: int = MOST_CANDIDATES,
    waiters: Collection[Task] = (),
) -> Wait:
    """`wait` with the holders that the signs suffice for, its confidence inferred; else as it
    was, `missing` naming whom only weak signs point to.  The first `most` candidates are looked
    at; of an event's `waiters`, only whether one of them has taken it before."""
    if wait.holders or wait.fault or wait.holder_count == 0:
        return wait
    found = investigate(world, wait, tuple(candidates), most, waiters)
    return conclude(wait, family_of(wait.lock.kind, wait.needs), found)


def conclude(wait: Wait, family: str | None, found: Findings, task_noun: str = "thread") -> Wait:
    """What the findings amount to: `wait` with holders or with another `missing`."""
    named = [suspect for suspect in found.suspects if suspect.strength >= ENOUGH]
    refusal = _refusal(family, wait, found, named) if named else None
    if refusal is None and named:
        named, refusal = _within_count(family, wait, named)
    as_lock = family in COUNTS and all(suspect.took_it for suspect in named)
    needs = HELD if family == ONCE or as_lock else wait.needs
    others = found.doubtful if family in (*EVENTS, FILE) else ()
    if not named and family in COUNTS and found.takers:
        named, needs = found.takers, HELD
    if not named or refusal is not None:
        suspects = tuple(suspect.task for suspect in found.suspects)
        return wait.but(missing=_missing(wait, found, refusal, task_noun), suspects=suspects)
    any_of = (
        bool(others)
        or family in (*COUNTS, CONDITION)
        or (family == FILE and len(named) > 1)
        or (family == BARRIER and len(named) > (wait.holder_count or len(named)))
    )
    evidence = tuple(
        f"{task_noun} {suspect.task.tid}: {line}" for suspect in named for line in suspect.evidence
    )
    return wait.but(
        holders=tuple(suspect.task for suspect in named),
        any_of=any_of,
        others=others,
        needs=needs,
        confidence=INFERRED,
        evidence=wait.evidence + _readable(evidence),
        missing=None,
    )


def _readable(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines with C++ and Rust names as their sources spell them."""
    mangled = sorted({name for line in lines for name in re.findall(_MANGLED, line)})
    if not mangled:
        return lines
    plain = dict(zip(mangled, demangle(mangled)))
    return tuple(
        re.sub(_MANGLED, lambda match: re.sub(_HASH, "", plain[match.group()]), line)
        for line in lines
    )


def _refusal(family: str | None, wait: Wait, found: Findings, named: list[Suspect]) -> str | None:
    """Why the signs do not suffice though they are strong, or None.

    For an event it matters who else could bring it about.  Those whose code can't be followed
    become the wait's `others`; those that were not looked at leave it open."""
    if family in EVENTS and found.unseen:
        return f"{found.unseen} threads that were not looked at could do so too"
    if family == BARRIER and wait.holder_count and len(named) > wait.holder_count > 1:
        return f"{len(named)} threads would arrive, and only {wait.holder_count} are waited for"
    return None


def _waits_for_signal(world: World, task: Task) -> bool:
    process = world.process(task.pid)
    return process is not None and awaits_signal(process, task)


def _takers(cases: Sequence[Case]) -> list[Suspect]:
    """The tasks that use a semaphore as a lock: they took it, did not give it back, and nobody's
    code is seen to post it later."""
    if any(case.strong for case in cases):
        return []
    return [
        Suspect(case.task, ENOUGH, (case.taken, "nobody's code is seen to post it"))
        for case in cases
        if case.taken is not None
    ]


def _within_count(
    family: str | None, wait: Wait, named: list[Suspect]
) -> tuple[list[Suspect], str | None]:
    """The suspects that fit the lock's own count of holders; strictly stronger ones first."""
    most = wait.holder_count
    if family in EVENTS:
        return named, None
    if most is None and family in EXCLUSIVE:
        most = 1
    if most is None or len(named) <= most:
        return named, None
    if named[most - 1].strength > named[most].strength:
        return named[:most], None
    return [], f"{len(named)} threads look like holders, and the lock counts {most}"


def _missing(wait: Wait, found: Findings, refusal: str | None, task_noun: str) -> str | None:
    parts = [wait.missing] if wait.missing else []
    if found.suspects:
        first = found.suspects[0]
        others = len(found.suspects) - 1
        more = f" (and {others} more)" if others else ""
        why = refusal or "that alone proves nothing"
        parts.append(f"{task_noun} {first.task.tid}{more} is suspected: {first.evidence[0]}; {why}")
    if found.unseen:
        parts.append(f"{found.unseen} more {task_noun}s were not looked at")
    return "; ".join(parts) or None


def judge_by_code(case: Case, trace: Trace, target: Target, family: str) -> None:
    """What the task's own code did to the lock before it got where it is, or will do."""
    for holding in trace.holding(target):
        line = holding.text
        if family in COUNTS:
            case.weak.append(line)
            case.taken = line if holding.sure else case.taken
        elif holding.sure:
            case.strong.append(line)
        else:
            case.weak.append(line)
    case.given_back = trace.gave_back(target)
    if family in EVENTS:
        for line in trace.coming(target):
            case.strong.append(line)


def _by_once(case: Case, trace: Trace, target: Target, waits: bool, doors: Doors) -> None:
    """Whether it is inside a function that runs initialisers, or that the waiter waits in, with
    this once flag, and does not itself wait there."""
    for site in trace.inside(target, waits):
        named = site.name is not None and re.search(functions.ONCE_RUNNERS, site.name)
        if named or trace.entered(site) & doors:
            frame = site.frame.frame
            case.strong.append(f"frame #{frame.index} runs the initialiser of this once flag")
            return


def _by_guards(
    case: Case, process: Process, task: Task, trace: Trace | None, target: Target
) -> None:
    """Local guard objects in the task's frames, by debug information."""
    try:
        variables = process.locals(task)
    except FaultkitError:
        return
    for local in variables:
        guard = guard_of(local, target.addresses)
        if guard is None:
            continue
        where = f"frame #{local.frame_index} {local.function or '?'}()"
        line = f'{local.type} "{local.name}" in {where} refers to it'
        moved = guard.droppable and (trace is None or trace.may_have_moved(local.frame_index))
        if moved:
            case.weak.append(line + ", but the guard may have been moved or dropped")
        else:
            case.strong.append(line)


def on_stack(process: Process, trace: Trace, target: Target) -> str | None:
    """The lock's exact address in the task's live stack or callee-saved registers."""
    where = trace.find_word(process, target.addresses)
    return f"its address is {where}" if where is not None else None
