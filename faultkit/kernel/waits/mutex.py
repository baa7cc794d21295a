"""struct mutex (kernel/locking/mutex.c), and the mutex inside of a ww_mutex."""

from __future__ import annotations

from faultkit.kernel.objects import pointer
from faultkit.kernel.queues import Queue, QueueType, recorded_blockers, task_of, waiting_in
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits import _slowpath
from faultkit.kernel.waits._owner import held_by
from faultkit.model import Lock, Wait

FUNCTIONS = _slowpath.FUNCTIONS["mutex"]
PRIORITY = 10

QUEUE = QueueType("mutex", "mutex_waiter", blockers=(0,), sleeps_in=FUNCTIONS)

# include/linux/mutex.h: MUTEX_FLAG_WAITERS, _HANDOFF, _PICKUP in the low bits of the owner
FLAGS, WAITERS, PICKUP = 7, 1, 4


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for a mutex on whose list of waiters the task is."""
    found = waiting_in(sleeper, QUEUE)
    if found is None or found[1].unread or not _slowpath.sleeps_in(sleeper, "mutex"):
        return None
    _, queue = found
    wait = _wait_for(sleeper, queue)
    if wait.fault and not _slowpath.sleeps_in(sleeper, "mutex", surely=True):
        return None
    return wait


def _wait_for(sleeper: Sleeper, queue: Queue) -> Wait:
    address = queue.lock
    kind = "ww_mutex" if any("ww_mutex" in name for name in sleeper.functions) else "kmutex"
    lock = Lock(kind, address, key=("kernel", address))
    word = pointer(sleeper.kernel, address, "mutex", "owner")
    evidence = [f"its owner field is {word:#x}, the task is on its list of waiters"]
    if address in recorded_blockers(sleeper, QUEUE):
        evidence.append("the task_struct names it as what blocks the task")
    first = task_of(sleeper.system, queue.waiters[0], QUEUE)
    wait = held_by(sleeper, lock, word & ~FLAGS, first, evidence=tuple(evidence))
    if queue.damage:
        return wait.but(holders=(), missing=None, fault="corrupt-lock", fault_detail=queue.damage)
    if wait.fault and word & ~FLAGS:
        return wait
    if not _slowpath.knows_of_waiters(sleeper, address, "mutex", word, WAITERS):
        damage = f"its owner field {word:#x} lacks the flag of a mutex that has waiters"
        return wait.but(holders=(), missing=None, fault="corrupt-lock", fault_detail=damage)
    if not word & ~FLAGS or word & PICKUP:
        # with PICKUP it was given to a waiter, who is being woken and will find it
        evidence.append("a waiter was given it" if word & PICKUP else "nobody has it")
        return Wait(sleeper.task, lock, changing=True, evidence=tuple(evidence))
    return wait
