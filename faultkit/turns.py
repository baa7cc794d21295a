"""Workers that take turns at waiting for work: one waits with the lock held, and the others for the
lock, each to do then what the first one does.

Servers accept() so (Apache's accept mutex), and pools share the far end of a queue so.  What ends
the wait is the next client or job, and as long as none comes nothing is wrong."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.findings import lock_name
from faultkit.infer.blocks import graph_of
from faultkit.infer.code import Code, code_of
from faultkit.model import EVENT, HELD, OUTSIDE, Finding, Task, Wait
from faultkit.record import NamedTuple
from faultkit.snapshot import Snapshot
from faultkit.target import FaultkitError, Process
from faultkit.waits.calls.poll import listens
from faultkit.world import Blocked

MOST_COMPARED = 16  # of those who queue
MOST_CHAINS = 16  # that are looked into: that unwinds whoever is compared


def without_turns(snapshot: Snapshot, findings: Sequence[Finding]) -> list[Finding]:
    """The findings without the chains that are such pools, which become notes."""
    left = []
    looked_into = 0
    for finding in findings:
        looked_into += finding.root is not None
        queue = _queue(snapshot, finding) if looked_into <= MOST_CHAINS else []
        if queue:
            _note(snapshot, finding, queue)
        else:
            left.append(finding)
    return left


def _queue(snapshot: Snapshot, finding: Finding) -> list[Wait]:
    """Those who wait for a lock in the chain, where all of them are on the way to what its root
    does; empty where one is not, or that can't be told."""
    root, wait = finding.root, finding.root_waits_for
    if root is None or wait is None or not _rests(snapshot, wait):
        return []
    waits = [snapshot.waits[task] for task in finding.victims if task in snapshot.waits]
    queue = [one for one in waits if one.needs == HELD]
    for one in queue:
        if root not in one.holders or one.lock.identity != queue[0].lock.identity:
            return []
    try:
        way, code = _way(snapshot, root), code_of(snapshot.world, snapshot.tasks[root])
        compared = queue[:MOST_COMPARED]
        same = all(_takes_its_turn(_way(snapshot, one.task), way, code) for one in compared)
    except FaultkitError:
        return []
    return queue if same else []


def _rests(snapshot: Snapshot, wait: Wait) -> bool:
    """Whether nobody who is known owes what it waits for: neither a lock nor an answer."""
    if wait.needs == EVENT:
        return not wait.holders
    if wait.needs == OUTSIDE and wait.lock.kind == "poll":
        blocked = _blocked(snapshot, wait.task)
        return blocked is not None and listens(blocked)
    return wait.needs == OUTSIDE and wait.lock.kind == "accept"


def _blocked(snapshot: Snapshot, task: Task) -> Blocked | None:
    """The task with the system call that it is in, None if it is in none."""
    process = snapshot.tasks[task]
    call = process.syscall(task)
    return Blocked(snapshot.world, process, task, call) if call is not None else None


class Step(NamedTuple):
    """A frame: where it is, in which function, and whether that is the program's own; `at` is the
    offset of its call in the function, which starts at `start`; in Python, the line."""

    place: object
    function: object
    own: bool
    at: int
    start: int | None = None


def _way(snapshot: Snapshot, task: Task) -> list[Step]:
    """How the task came to where it is, outermost first: told the same way in all processes that
    run a program."""
    process = snapshot.tasks[task]
    code = code_of(snapshot.world, process)
    way = []
    for frame in reversed(process.bare_frames(task)):
        start = code.start(frame)
        if start is None:
            way.append(Step(frame.address, None, False, 0))
            continue
        if code.interprets(start):
            return _way_in_python(snapshot, task)
        place, function = _place(process, frame.address), _place(process, start)
        own, call = not code.is_system(start), frame.address - start - 1
        way.append(Step(place, function, own, call, start))
    return way


def _way_in_python(snapshot: Snapshot, task: Task) -> list[Step]:
    """The same by the Python frames; [] where one is not understood."""
    from faultkit.layouts.pyframes import place
    from faultkit.waits._python import python_of

    blocked = _blocked(snapshot, task)
    if blocked is None:
        return []
    python = python_of(blocked)
    state = python.state(blocked)
    frames = python.frames(state) if state is not None else []
    places = [place(python.memory, frame) for frame in reversed(frames)]
    way = [
        Step(one, (one.file, one.function), True, one.line or 0)
        for one in places
        if one is not None
    ]
    return way if len(way) == len(places) else []


def _place(process: Process, address: int) -> object:
    """Where the address lies in its file."""
    mapping = process.mapping(address)
    if mapping is None or not mapping.path:
        return address
    return mapping.path, address - mapping.start + mapping.offset


def _takes_its_turn(waiter: Sequence[Step], root: Sequence[Step], code: Code) -> bool:
    """Whether the waiter is where the root was, when it took the lock: their ways are the same up
    to two calls of one function, the root's behind the waiter's, or up to a line where the root
    is further down.  `code` is the root's."""
    for one, other in zip(waiter, root):
        if one.place != other.place:
            same = one.own and one.function is not None and one.function == other.function
            return same and _comes_behind(other, one, code)
    return 0 < len(waiter) < len(root)


def _comes_behind(later: Step, step: Step, code: Code) -> bool:
    """Whether who is at a step may come to a later one of the same function: two parts that it has
    for two kinds of threads do not lead to each other."""
    if later.start is None:
        return later.at > step.at
    graph = graph_of(code.function(later.start, later.start + later.at))
    return graph.ahead(later.start + later.at, later.start + step.at)


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
