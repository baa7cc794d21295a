"""Workers that take turns at waiting for work: one waits with the lock held, and the others for the
lock, each to do then what the first one does.

Servers accept() so (Apache's accept mutex), and pools share the far end of a queue so.  What ends
the wait is the next client or job, and as long as none comes nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.findings import lock_name
from faultkit.model import EVENT, HELD, Finding, Task, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError, Process

MOST_COMPARED = 16  # of those who queue


def without_turns(snapshot: Snapshot, findings: Sequence[Finding]) -> list[Finding]:
    """The findings without the chains that are such pools, which become notes."""
    left = []
    for finding in findings:
        queue = _queue(snapshot, finding)
        if queue:
            _note(snapshot, finding, queue)
        else:
            left.append(finding)
    return left


def _queue(snapshot: Snapshot, finding: Finding) -> list[Wait]:
    """Those who wait for a lock in the chain, where all of them are on the way to what its root
    does; empty where one is not, or that can't be told."""
    root, wait = finding.root, finding.root_waits_for
    if root is None or wait is None or not _rests(wait):
        return []
    waits = [snapshot.waits[task] for task in finding.victims if task in snapshot.waits]
    queue = [one for one in waits if one.needs == HELD]
    for one in queue:
        if root not in one.holders or one.lock.identity != queue[0].lock.identity:
            return []
    place = _way(snapshot, root)
    for one in queue[:MOST_COMPARED]:
        if not _part_within_one_function(place, _way(snapshot, one.task)):
            return []
    return queue


def _rests(wait: Wait) -> bool:
    """Whether nobody who is known owes what it waits for: neither a lock nor an answer."""
    return wait.for_clients or (wait.needs == EVENT and not wait.holders)


def _way(snapshot: Snapshot, task: Task) -> list[tuple[object, object, bool]]:
    """(place, function's place, whether its code tells what it does) of the task's frames,
    outermost first: the same in all processes that run a program."""
    from faultkit.infer.code import code_of

    process = snapshot.tasks[task]
    code = code_of(snapshot.world, process)
    way: list[tuple[object, object, bool]] = []
    try:
        frames = process.bare_frames(task)
    except FaultkitError:
        return way
    for frame in reversed(frames):
        start = code.start(frame)
        tells = start is not None and not code.is_system(start) and not code.interprets(start)
        place = _place(process, frame.address)
        way.append((place, None if start is None else _place(process, start), tells))
    return way


def _place(process: Process, address: int) -> object:
    """Where the address lies in its file."""
    mapping = process.mapping(address)
    if mapping is None or not mapping.path:
        return address
    return mapping.path, address - mapping.start + mapping.offset


def _part_within_one_function(
    one: Sequence[tuple[object, object, bool]],
    other: Sequence[tuple[object, object, bool]],
) -> bool:
    """Whether two ways, the same at first, part at different calls of one function."""
    for (place, function, tells), (there, its_function, _) in zip(one, other):
        if place != there:
            return tells and function is not None and function == its_function
    return False


def _note(snapshot: Snapshot, finding: Finding, queue: Sequence[Wait]) -> None:
    root, wait = finding.root, finding.root_waits_for
    if root is None or wait is None:
        return
    what = lock_name(wait.lock)
    what = what if what.startswith(wait.lock.kind) else f"{wait.lock.kind} {what}"
    snapshot.world.note(
        f"thread {root.tid} waits for {what}, holding {lock_name(queue[0].lock)}, and {len(queue)} "
        "more are about to do the same: workers who take turns, idle as long as nothing comes"
    )
