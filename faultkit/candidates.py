"""Who may have a lock that records no holder: in which order to ask, and who of them gets on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from faultkit.infer.holders import MOST_CANDIDATES
from faultkit.model import HELD, OUTSIDE, Task
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError, Process

TOP_OF_STACK = 512  # bytes
ALIKE_LOOKED_AT = 2


def likely_first(snapshot: Snapshot, tasks: Iterable[Task]) -> list[Task]:
    """Those of the tasks that were looked at; if they are many, in the order in which to suspect
    them: who waits for a lock, who waits for something else, who runs."""
    waits = snapshot.waits
    known = [task for task in tasks if task in snapshot.tasks]
    if len(known) <= MOST_CANDIDATES:
        return known
    waiting = [task for task in known if task in waits and waits[task].needs == HELD]
    idle = [task for task in known if task in waits and waits[task].needs != HELD]
    return waiting + idle + [task for task in known if task not in waits]


def unlike_first(
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


def others_get_on(
    snapshot: Snapshot, waiters: set[Task], candidates: Sequence[Task], count: int
) -> bool:
    """Whether no candidate but the waiters themselves is stuck, and enough of them (`count`) run
    or sleep for a time only to be those who have the lock."""
    waits = [snapshot.waits.get(task) for task in candidates if task not in waiters]
    if any(wait is not None and wait.needs != OUTSIDE for wait in waits):
        return False
    return sum(1 for wait in waits if wait is None or wait.timed) >= count


def may_be_stuck(snapshot: Snapshot, candidates: list[Task]) -> bool:
    """Whether one of the candidates waits for another task: most futexes that nothing is known
    of are idle ones."""
    waits = (snapshot.waits.get(task) for task in candidates)
    return any(wait is not None and wait.needs != OUTSIDE for wait in waits)


def is_moving(snapshot: Snapshot, task: Task) -> bool:
    """Whether the task runs, or waits only for a time."""
    wait = snapshot.waits.get(task)
    return task in snapshot.running if wait is None else wait.needs == OUTSIDE and wait.timed
