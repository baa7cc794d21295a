"""Waits for kernel threads that do something for others: kthreadd creates them, cpuhp/N brings
its CPU up or down, and a kthread_worker runs items in order."""

from __future__ import annotations

from faultkit.kernel.objects import BrokenList, entries, need, pointer
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import _completion
from faultkit.model import EVENT, Lock, Task, Wait
from faultkit.target import FaultkitError

FUNCTIONS = _completion.FUNCTIONS
PRIORITY = 35


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for a completion that one kernel thread completes."""
    queue = _completion.waited_for(sleeper)
    if queue is None:
        return None
    system = sleeper.system
    for kind, find in (
        ("kthread_create", _creator),
        ("cpu-hotplug", _hotplug),
        ("kthread_work", _runs_work),
    ):
        try:
            task = find(system, queue.lock)
        except (BrokenList, FaultkitError):
            continue
        if task is not None:
            return Wait(
                sleeper.task,
                Lock(kind, queue.lock, f"{task.tid} {task.name}", ("kernel", queue.lock)),
                needs=EVENT,
                holders=(task,),
                evidence=(f"its request is with task {task.tid}",),
            )
    return None


def _creator(system: System, completion: int) -> Task | None:
    """kthreadd, if the request is still in line (kernel/kthread.c)."""
    kernel = system.kernel
    head, creator = kernel.symbol("kthread_create_list"), kernel.symbol("kthreadd_task")
    if not head or not creator:
        return None
    links = need(kernel, "kthread_create_info", "list")
    done = need(kernel, "kthread_create_info", "done")
    for request in entries(kernel, head, links):
        if kernel.u64(request + done) == completion:
            return system.by_address.get(kernel.u64(creator))
    return None


def _hotplug(system: System, completion: int) -> Task | None:
    """The CPU's own thread (kernel/cpu.c, struct cpuhp_cpu_state)."""
    kernel = system.kernel
    states = kernel.symbol("cpuhp_state")
    if not states:
        return None
    members = [need(kernel, "cpuhp_cpu_state", name) for name in ("done_up", "done_down")]
    for cpu in system.running:
        state = kernel.per_cpu(states, cpu)
        if completion - state in members:
            return system.by_address.get(pointer(kernel, state, "cpuhp_cpu_state", "thread"))
    return None


def _runs_work(system: System, completion: int) -> Task | None:
    """The task of the kthread_worker in whose line kthread_flush_work() put its own item."""
    kernel = system.kernel
    function = kernel.symbol("kthread_flush_work_fn")
    work = completion - need(kernel, "kthread_flush_work", "done")
    if not function or pointer(kernel, work, "kthread_work", "func") != function:
        return None
    worker = pointer(kernel, work, "kthread_work", "worker")
    return system.by_address.get(pointer(kernel, worker, "kthread_worker", "task"))
