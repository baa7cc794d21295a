"""struct completion (kernel/sched/completion.c): which one a task waits for."""

from __future__ import annotations

from faultkit.kernel.queues import Queue, QueueType, waiting_in
from faultkit.kernel.sleeper import Sleeper

FUNCTIONS = frozenset(
    (
        "__wait_for_common",
        "do_wait_for_common",
        "wait_for_common",
        "wait_for_common_io",
        "wait_for_completion",
        "wait_for_completion_timeout",
        "wait_for_completion_io",
        "wait_for_completion_io_timeout",
        "wait_for_completion_interruptible",
        "wait_for_completion_interruptible_timeout",
        "wait_for_completion_killable",
        "wait_for_completion_killable_timeout",
        "wait_for_completion_state",
    )
)

# Simple wait queues since a5c6234e1028 ("completion: Use simple wait queues", 5.7).
QUEUE = QueueType("completion", "swait_queue", links="task_list", head="wait.task_list")


def waited_for(sleeper: Sleeper) -> Queue | None:
    """The completion in whose queue the task is; looked up once for all providers."""
    known: dict[int | None, Queue | None] = sleeper.system.cache.setdefault("completions", {})
    address = sleeper.task.address
    if address not in known:
        found = waiting_in(sleeper, QUEUE)
        known[address] = None
        if found is not None:
            known[address] = found[1]
    return known[address]
