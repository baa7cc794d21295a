"""Whether a task was born after another one fell asleep: then it can't be what that one has been
waiting for, but has the freed task_struct of what it was.  And how long ago a moment was."""

from __future__ import annotations

from faultkit.kernel.objects import need, pointer
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.target import FaultkitError

FEWEST = 20  # tasks of which the clocks' distance is told
MARGIN = 10_000_000  # nanoseconds, far more than the fastest of them took to run first


def born_after_sleep(system: System, task: Task, sleeper: Task) -> bool:
    """Whether it is certain that `task` was created after `sleeper` was switched out.

    task_struct.start_time is of the monotonic clock (kernel/fork.c), se.exec_start of the
    scheduler's task clock (kernel/sched/fair.c).  No task runs before it is created, so the least
    difference of the two over all tasks is how far apart the clocks are, at most: that of the one
    that ran soonest after its birth, and never again.
    """
    try:
        born = started(system, task)
        if born <= started(system, sleeper):
            return False
        distance = _distance(system)
        if distance is None:
            return False
        return born + distance > _left(system, sleeper) + _lag(system, sleeper) + MARGIN
    except FaultkitError:
        return False


def seconds_since(system: System, moment: int) -> float | None:
    """Seconds since a moment of the monotonic clock (ktime_get(), in nanoseconds), to some
    milliseconds; None if that can't be told."""
    clocks = [clock for clock, _ in system.clocks.values()]
    try:
        distance = _distance(system)
    except FaultkitError:
        return None
    if distance is None or not clocks:
        return None
    passed = (max(clocks) - distance - moment) / 1e9
    return max(passed, 0.0) if -60 < passed < 1e9 else None


def started(system: System, task: Task) -> int:
    """When the task was made, in ns of the monotonic clock.  Raises FaultkitError."""
    return pointer(system.kernel, task.address or 0, "task_struct", "start_time")


def _left(system: System, task: Task) -> int:
    kernel = system.kernel
    at = need(kernel, "task_struct", "se") + need(kernel, "sched_entity", "exec_start")
    return kernel.u64((task.address or 0) + at)


def _lag(system: System, task: Task) -> int:
    """How much of the CPU's time the task clock has left out so far."""
    clock, clock_task = system.clocks.get(task.cpu or 0, (0, 0))
    return max(clock - clock_task, 0)


def _distance(system: System) -> int | None:
    """The task clock less the monotonic one, in nanoseconds; None if there are too few tasks."""
    if "clock distance" not in system.cache:
        found = []
        for task in system.tasks:
            try:
                left = _left(system, task) if task.tid else 0
                if left:
                    found.append(left - started(system, task))
            except FaultkitError:
                continue
        system.cache["clock distance"] = min(found) if len(found) >= FEWEST else None
    distance: int | None = system.cache["clock distance"]
    return distance
