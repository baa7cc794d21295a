"""Locks without a recorded owner in processes of which every thread waits for them: whoever took
one is no more, or is not here since fork(), or is a waiter that took it twice."""

from __future__ import annotations

from collections.abc import Iterable

from faultkit.model import INFERRED, Wait
from faultkit.snapshot import Snapshot
from faultkit.target import Process
from faultkit.waits._futex import parse
from faultkit.waits._owner import lies_in_file
from faultkit.world import Blocked

# Of these no other than their holder lets go, unlike of semaphores, or of words of one's own.
# Python's lets a signal handler release a Lock: some take one to wait for a signal.
BY_HANDLERS = frozenset(("python_lock",))
LOCKS = BY_HANDLERS | {
    "pthread_mutex", "rwlock", "lowlevellock", "stdio", "cxa_guard", "rust_mutex", "rust_rwlock",
}  # fmt: skip
SIGINT = 2  # Python's own handler raises KeyboardInterrupt
MOST_CHILDREN = 16


def tell_abandoned(snapshot: Snapshot, waits: Iterable[Wait]) -> None:
    """Say so of the locks that nobody is left to release, among those for which `waits` are
    without a holder."""
    groups: dict[tuple[object, ...], list[Wait]] = {}
    for wait in waits:
        records_none = wait.candidates is not None or wait.lock.kind in BY_HANDLERS
        if records_none and wait.lock.kind in LOCKS and (wait.lock.key or ())[:1] == ("private",):
            groups.setdefault(wait.lock.identity, []).append(wait)
    for group in groups.values():
        why = _why(snapshot, group)
        for wait in group if why is not None else ():
            snapshot.waits[wait.task] = wait.but(
                fault="orphaned-lock", fault_detail=why, confidence=INFERRED, missing=None
            )


def _why(snapshot: Snapshot, group: list[Wait]) -> str | None:
    """Why nobody can release it; None where somebody may, or that is not sure."""
    process = snapshot.tasks[group[0].task]
    waiters = {wait.task for wait in group}
    if not waiters.issuperset(snapshot.world.members(process)):
        return None
    if not all(_sleeps_for_good(snapshot, wait) for wait in group):
        return None
    if _may_share_memory(snapshot, process) or _may_be_released(snapshot, group[0], process):
        return None
    who = "the only thread" if len(waiters) == 1 else "every thread"
    return (
        f"{who} of process {process.pid} waits for it, and no other could release it: who took it "
        "has ended, or is in the process that this one was forked from, or waits here for what it "
        "already has"
    )


def _sleeps_for_good(snapshot: Snapshot, wait: Wait) -> bool:
    """Whether the lock is taken, and is this process's own, and the wait for it without an end."""
    process = snapshot.tasks[wait.task]
    system_call = process.syscall(wait.task)
    if wait.timed or system_call is None:
        return False
    blocked = Blocked(snapshot.world, process, wait.task, system_call)
    call = parse(blocked)
    if call is None or call.timed or call.now != call.value:
        return False
    return not lies_in_file(blocked, wait.lock, call.private)  # others may have it mapped, too


def _may_share_memory(snapshot: Snapshot, process: Process) -> bool:
    """Whether others may run in the same memory: the parent that waits in vfork(), or such
    children.  A core tells nothing of either; few are of a child of vfork()."""
    world = snapshot.world
    if not process.live and not world.whole:
        return False
    machine = world.machine
    parent = world.parent_of(process.pid)
    children = machine.children(process.pid)
    if parent is None or len(children) > MOST_CHILDREN:
        return True
    relatives = [pid for pid in (parent, *children) if pid and not machine.is_dead(pid)]
    return any(machine.same_memory(process.pid, pid) is not False for pid in relatives)


def _may_be_released(snapshot: Snapshot, wait: Wait, process: Process) -> bool:
    """Whether a signal handler may release it."""
    if wait.lock.kind not in BY_HANDLERS:
        return False
    if not process.live and not snapshot.world.whole:
        return True
    return snapshot.world.machine.handles_signals(process.pid, but=(SIGINT,))
