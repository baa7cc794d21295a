"""struct semaphore (kernel/locking/semaphore.c): it counts, and records no holder."""

from __future__ import annotations

from faultkit.kernel.objects import pointer, unsigned
from faultkit.kernel.queues import Queue, QueueType, recorded_blockers, waiting_in
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits import _slowpath
from faultkit.model import Lock, Wait

FUNCTIONS = _slowpath.FUNCTIONS["semaphore"]
PRIORITY = 12

QUEUE = QueueType("semaphore", "semaphore_waiter", blockers=(1,), sleeps_in=FUNCTIONS)


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for a semaphore on whose list of waiters the task is."""
    found = waiting_in(sleeper, QUEUE)
    if found is None or found[1].unread or not _slowpath.sleeps_in(sleeper, "semaphore"):
        return None
    _, queue = found
    wait = _wait_for(sleeper, queue)
    if wait.fault and not _slowpath.sleeps_in(sleeper, "semaphore", surely=True):
        return None
    return wait


def _wait_for(sleeper: Sleeper, queue: Queue) -> Wait:
    address = queue.lock
    count = unsigned(sleeper.kernel, address, "semaphore", "count")
    evidence = [f"its count is {count}, the task is on its list of waiters"]
    if address in recorded_blockers(sleeper, QUEUE):
        evidence.append("the task_struct names it as what blocks the task")
    wait = Wait(
        sleeper.task,
        Lock("semaphore", address, key=("kernel", address)),
        any_of=True,
    )
    if queue.damage:
        return wait.but(evidence=tuple(evidence), fault="corrupt-lock", fault_detail=queue.damage)
    if count and sleeper.kernel.live:
        evidence.append("it is being let go of")
        return wait.but(evidence=tuple(evidence), changing=True)
    if count:  # __up() counts up only while nobody is on the list
        damage = f"its count {count} is not 0, as that of a semaphore that has waiters"
        return wait.but(evidence=tuple(evidence), fault="corrupt-lock", fault_detail=damage)
    last = _last_holder(sleeper, address)
    suspect = sleeper.system.by_address.get(last)
    if suspect is not None:
        evidence.append(
            f"the last one to take it was task {suspect.tid}, which has not given it back itself: "
            "a hint, others may hold it too and anybody may give it back"
        )
    return wait.but(
        evidence=tuple(evidence),
        suspects=(suspect,) if suspect is not None else (),
        missing="the holders of a semaphore are not recorded: look for tasks that called down()",
    )


def _last_holder(sleeper: Sleeper, address: int) -> int:
    """Since 6.16, with CONFIG_DETECT_HUNG_TASK_BLOCKER ("hung_task: show the blocker task if the
    task is hung on semaphore"): who took it last, cleared when the same task gives it back."""
    if sleeper.kernel.offset("semaphore", "last_holder") is None:
        return 0
    return pointer(sleeper.kernel, address, "semaphore", "last_holder")
