"""Waits whose holders no lock records: inference fills them in where that can close a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter

from faultkit.graph import WaitGraph
from faultkit.model import EVENT, HELD, INFERRED, OUTSIDE, Task, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError, Process

INFERRED_LOCKS = 256  # locks without a recorded holder that are looked into
CROWD, SAMPLED = 64, 2  # of more events of one kind than that, so many are looked into at first
TOP_OF_STACK = 512  # bytes
ALIKE_LOOKED_AT = 2
LONGEST_CHAIN = 16  # of events, one behind the other, that are looked into
HINTING = 16  # candidates for such an event, where there are too many to name one


def fill_holders(snapshot: Snapshot) -> None:
    """Look for the holders that the locks do not record, and for locks that have none."""
    _infer_holders(snapshot)
    left = [wait for wait in snapshot.waits.values() if _is_open(wait)]
    if left:
        from faultkit.abandoned import tell_abandoned

        tell_abandoned(snapshot, left)


def _is_open(wait: Wait) -> bool:
    return wait.needs == HELD and not wait.holders and not wait.fault and not wait.changing


def _infer_holders(snapshot: Snapshot) -> None:
    """Once for each lock, where that can close a cycle at all."""
    unknown: dict[tuple[object, ...], list[Wait]] = {}
    for wait in snapshot.waits.values():
        if not snapshot.concerns(wait):
            continue
        if wait.candidates is not None and not wait.holders and not wait.fault:
            unknown.setdefault((*wait.lock.identity, wait.mode), []).append(wait)
    if not unknown:
        return
    from faultkit.infer.holders import MOST_CANDIDATES, resolve

    events = [group[0].lock.kind for group in unknown.values() if group[0].needs == EVENT]
    crowds = {kind for kind in set(events) if events.count(kind) > CROWD}
    sampled: dict[str, int] = {}  # by kind, as long as nobody is found who would act
    ordered: dict[int, list[Task]] = {}  # by the identity of the candidates' tuple: many share it
    ways: dict[Task, tuple[int, ...]] = {}
    number = skipped = 0
    for group in unknown.values():
        waiters = {wait.task for wait in group}
        first = group[0]
        kind = first.lock.kind
        crowded = first.needs == EVENT and kind in crowds
        if crowded and sampled.get(kind, 0) >= SAMPLED:
            continue  # idle, as those that were looked into
        if number >= INFERRED_LOCKS:
            skipped += 1
            continue
        number += 1
        if id(first.candidates) not in ordered:
            ordered[id(first.candidates)] = _likely_first(snapshot, first.candidates or ())
        candidates = ordered[id(first.candidates)]
        if first.needs == EVENT:
            candidates = [task for task in candidates if task not in waiters]
        elif len(candidates) > MOST_CANDIDATES:  # who queues is the last to have it
            candidates = sorted(_unlike_first(snapshot, candidates, ways), key=waiters.__contains__)
        twice = sorted(waiters, key=attrgetter("pid", "tid")) if kind == "semaphore" else ()
        if not (candidates or twice) or (
            kind == "futex" and not _may_be_stuck(snapshot, candidates)
        ):
            continue
        try:
            few = crowded and len(candidates) > MOST_CANDIDATES
            most = HINTING if few else MOST_CANDIDATES
            resolved = resolve(snapshot.world, first, candidates, most, twice)
            if kind == "futex" and first.needs == HELD and not resolved.holders:
                # not a lock, then: perhaps a count, a std::latch's, say, that somebody changes
                watched = first.but(needs=EVENT, any_of=True, missing=None)
                others = [task for task in candidates if task not in waiters]
                watched = resolve(snapshot.world, watched, others, most)
                resolved = watched if watched.holders else resolved
        except FaultkitError as error:
            snapshot.world.limit(str(error))
            resolved = first
        if resolved.holders and resolved.needs == EVENT and kind == "semaphore":
            resolved = _unless_handled(snapshot, first, resolved)
        if resolved.holders:
            crowds.discard(kind)
        sampled[kind] = sampled.get(kind, 0) + 1
        if not resolved.holders and first.lock.key and first.lock.key[0] == "shared":
            _by_sharing(snapshot, group, candidates)
            continue
        if not resolved.holders and first.any_of and first.needs == HELD:
            _by_process(snapshot, group, candidates)
            continue
        missing = resolved.missing
        if resolved.suspects and all(_is_moving(snapshot, task) for task in resolved.suspects):
            missing = None  # whoever of them has it gets on
        count = first.holder_count
        if missing == first.missing and count is not None:
            missing = None if _others_get_on(snapshot, waiters, candidates, count) else missing
        for wait in group:
            snapshot.waits[wait.task] = wait.but(
                holders=resolved.holders,
                needs=resolved.needs,
                any_of=resolved.any_of,
                others=resolved.others,
                confidence=resolved.confidence if resolved.holders else wait.confidence,
                evidence=resolved.evidence,
                missing=missing,
            )
    if skipped:
        snapshot.world.limit(f"the holders of {skipped} more locks were not looked for")


def _likely_first(snapshot: Snapshot, tasks: Iterable[Task]) -> list[Task]:
    """Those of the tasks that were looked at; if they are many, in the order in which to suspect
    them: who waits for a lock, who waits for something else, who runs."""
    from faultkit.infer.holders import MOST_CANDIDATES

    waits = snapshot.waits
    known = [task for task in tasks if task in snapshot.tasks]
    if len(known) <= MOST_CANDIDATES:
        return known
    waiting = [task for task in known if task in waits and waits[task].needs == HELD]
    idle = [task for task in known if task in waits and waits[task].needs != HELD]
    return waiting + idle + [task for task in known if task not in waits]


def _unlike_first(
    snapshot: Snapshot, tasks: Iterable[Task], ways: dict[Task, tuple[int, ...]]
) -> list[Task]:
    """The tasks, but of those that wait for the same lock and came there the same way only two
    before all others: a crowd of victims must not hide who else waits with them.  `ways` are
    remembered, for the next lock."""
    seen: dict[tuple[object, ...], int] = {}
    first: list[Task] = []
    rest: list[Task] = []
    for task in tasks:
        wait = snapshot.waits.get(task)
        if wait is None or wait.needs != HELD:
            rest.append(task)
            continue
        if task not in ways:
            ways[task] = _way(snapshot.tasks[task], task)
        way = (wait.lock.identity, ways[task])
        seen[way] = seen.get(way, 0) + 1
        (first if seen[way] <= ALIKE_LOOKED_AT else rest).append(task)
    return first + rest


def _way(process: Process, task: Task) -> tuple[int, ...]:
    """How the task came to where it waits: the addresses of code on top of its stack."""
    from faultkit.waits._stack import is_code, live_stack, stack_pointer, words

    try:
        stack = words(live_stack(process, stack_pointer(process, task), TOP_OF_STACK))
    except FaultkitError:
        return ()
    return tuple(word for word in stack if is_code(process, word))


def _others_get_on(
    snapshot: Snapshot, waiters: set[Task], candidates: Sequence[Task], count: int
) -> bool:
    """Whether no candidate but the waiters themselves is stuck, and enough of them (`count`) run
    or sleep for a time only to be those who have the lock."""
    waits = [snapshot.waits.get(task) for task in candidates if task not in waiters]
    if any(wait is not None and wait.needs != OUTSIDE for wait in waits):
        return False
    return sum(1 for wait in waits if wait is None or wait.timed) >= count


def _may_be_stuck(snapshot: Snapshot, candidates: list[Task]) -> bool:
    """Whether one of the candidates waits for another task: most futexes that nothing is known
    of are idle ones."""
    waits = (snapshot.waits.get(task) for task in candidates)
    return any(wait is not None and wait.needs != OUTSIDE for wait in waits)


def _is_moving(snapshot: Snapshot, task: Task) -> bool:
    """Whether the task runs, or waits only for a time."""
    wait = snapshot.waits.get(task)
    return task in snapshot.running if wait is None else wait.needs == OUTSIDE and wait.timed


def _unless_handled(snapshot: Snapshot, wait: Wait, resolved: Wait) -> Wait:
    """`resolved`, unless a process has signal handlers: sem_post() is one of the few functions that
    these may call (signal-safety(7)), whatever the threads do."""
    world, process = snapshot.world, snapshot.tasks[wait.task]
    if not (process.live or world.whole):
        return resolved
    pids = dict.fromkeys(task.pid for task in (wait.task, *resolved.holders))
    handling = next((pid for pid in pids if world.machine.handles_signals(pid)), None)
    if handling is None:
        return resolved
    return wait.but(
        suspects=resolved.holders,
        missing=f"{resolved.evidence[-1]}; a signal handler of process {handling} may post it, "
        "too: look at its handlers",
    )


def _by_process(snapshot: Snapshot, group: list[Wait], candidates: Sequence[Task]) -> None:
    """Holders of what the kernel names the process of: any of its threads.  If it is the waiter's
    own process, another thread or the waiter itself: that matters if the others just rest."""
    waiters = {wait.task for wait in group}
    themselves = waiters.intersection(candidates)
    others = tuple(task for task in candidates if task not in waiters)
    waits = [snapshot.waits.get(task) for task in others]
    rest = any(wait is not None and wait.needs == OUTSIDE for wait in waits)
    get_on = any(_is_moving(snapshot, task) for task in others)
    for wait in group:
        task = wait.task
        if task not in themselves:
            snapshot.waits[task] = wait.but(holders=wait.candidates or ())
        elif rest and not get_on:
            snapshot.waits[task] = wait.but(
                missing=f"{wait.lock.name or wait.lock.kind} is held by process {task.pid} itself; "
                f"whether by thread {task.tid}, which wants it, is not recorded"
            )
        else:
            snapshot.waits[task] = wait.but(holders=others or (task,), confidence=INFERRED)


def _by_sharing(snapshot: Snapshot, group: list[Wait], candidates: list[Task]) -> None:
    """Holders of a semaphore that several processes map, and nothing else tells: only they can
    post it, so that it stays as it is if none of them can ever run."""
    for wait in group:
        elsewhere = tuple(task for task in candidates if task.pid != wait.task.pid)
        pids = sorted({task.pid for task in elsewhere})
        if wait.needs != EVENT or not pids:
            continue
        name = _name_for_all(snapshot, wait)
        if name is not None:
            snapshot.waits[wait.task] = wait.but(
                missing=f"who would post {name} is not recorded, and whoever opens it can: look at "
                f"what process {pids[0]} does, which has it mapped, too"
            )
            continue
        snapshot.waits[wait.task] = wait.but(
            holders=elsewhere,
            others=tuple(task for task in candidates if task.pid == wait.task.pid),
            any_of=True,
            confidence=INFERRED,
            missing=None,
            evidence=(
                *wait.evidence,
                f"besides this process only {', '.join(map(str, pids[:8]))} has it mapped",
            ),
        )


def _name_for_all(snapshot: Snapshot, wait: Wait) -> str | None:
    """The name by which others could open the file that the semaphore lies in."""
    process = snapshot.tasks[wait.task]
    mapping = process.mapping(wait.lock.address or 0)
    return snapshot.world.present_name(process, mapping) if mapping is not None else None


def with_wakers(snapshot: Snapshot, graph: WaitGraph) -> WaitGraph:
    """The graph with who would bring about the events that its chains' roots wait for.  Each one
    that is found makes another task the root, which may wait for an event, too."""
    for _ in range(LONGEST_CHAIN):
        if not _fill_wakers(snapshot, graph):
            break
        graph = WaitGraph(snapshot.waits, graph.tasks)
    return graph


def _fill_wakers(snapshot: Snapshot, graph: WaitGraph) -> bool:
    """For roots of chains that wait for an event within their process: does everybody who would
    bring it about wait for the root?  Whether any was found."""
    found = False
    for root, _ in graph.chains()[:INFERRED_LOCKS]:
        wait = snapshot.waits[root]
        if wait.needs != EVENT or wait.candidates is not None or not snapshot.concerns(wait):
            continue
        process = snapshot.tasks[root]
        from faultkit.infer.holders import resolve

        members = _likely_first(snapshot, snapshot.world.members(process))
        others = [task for task in members if task != root]
        try:
            resolved = resolve(snapshot.world, wait, others)
        except FaultkitError:
            continue
        if resolved.holders:
            snapshot.waits[root] = resolved
            found = True
    return found
