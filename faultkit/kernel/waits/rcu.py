"""RCU (kernel/rcu/tree.c): synchronize_rcu() and its like wait for all readers, by CPU."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel.objects import BrokenList, need, pointer, ring
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import _completion
from faultkit.model import EVENT, INFERRED, OUTSIDE, Lock, Task, Wait
from faultkit.target import FaultkitError

# What waits for a grace period, and the name of what it waits for.
CALLS = {
    "synchronize_rcu": "grace period",
    "synchronize_rcu_normal": "grace period",
    "__wait_rcu_gp": "grace period",
    "synchronize_rcu_expedited": "expedited grace period",
    "rcu_barrier": "callbacks",
    "synchronize_srcu": "SRCU readers",
    "__synchronize_srcu": "SRCU readers",
    "synchronize_srcu_expedited": "SRCU readers",
    "synchronize_rcu_tasks": "tasks' voluntary switches",
    "synchronize_rcu_tasks_generic": "tasks' voluntary switches",
    "synchronize_rcu_tasks_rude": "tasks' switches",
    "synchronize_rcu_tasks_trace": "trace readers",
}
FUNCTIONS = frozenset(CALLS)
PRIORITY = 32

GRACE = ("grace period", "expedited grace period", "callbacks")
PHASE = 3  # the low bits of rcu_state.gp_seq: not 0 while a grace period is in progress
MOST_READERS = 10_000  # preempted ones of one rcu_node


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for the end of a grace period; who holds it up, as far as RCU records it."""
    what = next((CALLS[name] for name in sleeper.functions if name in CALLS), None)
    if what is None or not _is_waiting(sleeper):
        return None
    system = sleeper.system
    wait = Wait(sleeper.task, Lock("rcu", None, what, ("kernel", "rcu", what)), needs=EVENT)
    if what not in GRACE:
        return wait.but(evidence=("its readers are not recorded",))
    late = tuple(dict.fromkeys(_late(system, what == GRACE[1])))
    if not late:
        return wait.but(
            needs=OUTSIDE,
            timed=True,
            evidence=("RCU names no CPU or task that it waits for: it ends by itself",),
        )
    return wait.but(
        holders=late,
        confidence=INFERRED,
        evidence=tuple(
            f"RCU still waits for CPU {task.cpu}, where task {task.tid} runs"
            if system.on_cpu(task)
            else f"RCU waits for task {task.tid}, which is in a read-side critical section"
            for task in late
        ),
    )


def _is_waiting(sleeper: Sleeper) -> bool:
    """Whether what is on the stack is more than what an earlier call left: the task is in a
    completion's queue, or, expedited, in a wait queue's."""
    if _completion.waited_for(sleeper) is not None:
        return True
    return any(frame.symbol == "synchronize_rcu_expedited" for frame in sleeper.frames[:8])


def _late(system: System, expedited: bool) -> Iterator[Task]:
    """The tasks on CPUs that have not passed a quiescent state in this grace period, and those
    that were preempted while they read (with CONFIG_PREEMPT_RCU)."""
    kernel = system.kernel
    state, data = kernel.symbol("rcu_state"), kernel.symbol("rcu_data")
    if not state or not data:
        return
    mask, readers = ("expmask", "exp_tasks") if expedited else ("qsmask", "gp_tasks")
    try:
        if not expedited and not pointer(kernel, state, "rcu_state", "gp_seq") & PHASE:
            return
        nodes: dict[int, None] = {}
        for cpu, task in system.running.items():
            of_cpu = kernel.per_cpu(data, cpu)
            node = pointer(kernel, of_cpu, "rcu_data", "mynode")
            nodes[node] = None
            bit = pointer(kernel, of_cpu, "rcu_data", "grpmask")
            if task.tid and pointer(kernel, node, "rcu_node", mask) & bit:
                yield task
        for node in nodes:
            yield from _preempted(system, node, readers)
    except FaultkitError:
        return


def _preempted(system: System, node: int, member: str) -> Iterator[Task]:
    """The tasks of an rcu_node's list of readers from the first that matters on."""
    kernel = system.kernel
    entry = kernel.offset("task_struct", "rcu_node_entry")
    first = pointer(kernel, node, "rcu_node", member)
    if entry is None or not first:
        return
    head = node + need(kernel, "rcu_node", "blkd_tasks")
    try:
        for link in [first, *ring(kernel, first, MOST_READERS)]:
            if link == head:
                return
            task = system.by_address.get(link - entry)
            if task is not None:
                yield task
    except BrokenList:
        return
