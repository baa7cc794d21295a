"""vfork() and kthread_stop(): waits until another task has ended (or executes another program);
kthread_park(): until it has parked itself."""

from __future__ import annotations

from faultkit.kernel import states
from faultkit.kernel.objects import pointer
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import _completion
from faultkit.model import EVENT, Lock, Task, Wait
from faultkit.target import FaultkitError

FUNCTIONS = _completion.FUNCTIONS
PRIORITY = 30


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for a completion that belongs to one other task."""
    queue = _completion.waited_for(sleeper)
    if queue is None:
        return None
    found = _owners(sleeper.system).get(queue.lock)
    if found is None:
        return None
    kind, task, how = found
    return Wait(
        sleeper.task,
        Lock(kind, queue.lock, f"{task.tid} {task.name}", ("kernel", queue.lock)),
        needs=EVENT,
        holders=(task,),
        evidence=(f"{how} of task {task.tid} is what it waits for",),
    )


def _owners(system: System) -> dict[int, tuple[str, Task, str]]:
    """(kind of wait, task, evidence) by the completion that the task completes.

    kernel/fork.c, mm_release: task_struct.vfork_done is completed when the task ends or has
    called exec.  For a kthread it is its struct kthread's `exited` (kernel/kthread.c), beside
    which is `parked`.
    """
    known: dict[int, tuple[str, Task, str]] | None = system.cache.get("task ends")
    if known is not None:
        return known
    known = system.cache["task ends"] = {}
    kernel = system.kernel
    exited, parked = kernel.offset("kthread", "exited"), kernel.offset("kthread", "parked")
    for task in system.tasks:
        try:
            done = pointer(kernel, task.address or 0, "task_struct", "vfork_done")
            if not done:
                continue
            if not system.flags(task) & states.PF_KTHREAD:
                known[done] = "vfork", task, "vfork_done"
                continue
        except FaultkitError:
            continue
        known[done] = "kthread_stop", task, "the struct kthread's `exited`"
        if exited is not None and parked is not None:
            place = done - exited + parked
            known[place] = "kthread_park", task, "the struct kthread's `parked`"
    return known
