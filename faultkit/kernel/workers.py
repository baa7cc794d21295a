"""Workqueues: which kworker runs what, and which items wait behind it."""

from __future__ import annotations

from faultkit.kernel import states
from faultkit.kernel.kthreads import data_of
from faultkit.kernel.objects import (
    BrokenList,
    entries,
    first_offset,
    need,
    pointer,
    ring,
    text,
    unsigned,
)
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_WORKQUEUES = 10_000


class Worker(NamedTuple):
    """A kworker: `work` is the item that it runs, 0 if none, `function` that item's function,
    `pwq` the pool_workqueue the item came by; `scheduled` is the head of the list of what it
    runs next."""

    address: int
    task: Task
    work: int
    function: int
    pwq: int
    scheduled: int


def workers(system: System) -> list[Worker]:
    """All kworkers, rescuers too; looked up once."""
    return system.of_tasks("workers", _worker_of)


def _worker_of(system: System, task: Task) -> Worker | None:
    """The kthread_data() of a task with PF_WQ_WORKER is its struct worker (kernel/kthread.c)."""
    kernel = system.kernel
    try:
        if not system.flags(task) & states.PF_WQ_WORKER:
            return None
        address = data_of(system, task)
        if pointer(kernel, address, "worker", "task") != task.address:
            return None
        return Worker(
            address,
            task,
            pointer(kernel, address, "worker", "current_work"),
            pointer(kernel, address, "worker", "current_func"),
            pointer(kernel, address, "worker", "current_pwq"),
            address + need(kernel, "worker", "scheduled"),
        )
    except FaultkitError:
        return None


def description(system: System, task: Task) -> str:
    """ "+flush-8:0", what a kworker is at, as ps shows it after its name (kernel/workqueue.c,
    wq_worker_comm(): "-" where it has finished with that); "" for any other task."""
    kernel = system.kernel
    worker = _worker_of(system, task)
    at = kernel.offset("worker", "desc") if worker is not None else None
    if worker is None or at is None:
        return ""
    try:
        words = text(kernel, worker.address + at, 24)
    except FaultkitError:
        return ""
    return f"{'+' if worker.work else '-'}{words}" if words else ""


def running(system: System, work: int) -> Worker | None:
    """The kworker that runs an item."""
    return next((worker for worker in workers(system) if worker.work == work), None)


def workqueue_of(system: System, worker: Worker) -> int:
    """The workqueue_struct whose item it runs; 0 if it runs none."""
    return _queue_of_pwq(system, worker.pwq)


def _queue_of_pwq(system: System, pwq: int) -> int:
    if not pwq:
        return 0
    try:
        return pointer(system.kernel, pwq, "pool_workqueue", "wq")
    except FaultkitError:
        return 0


class Place(NamedTuple):
    """Where a queued item is: in line on a worker's own list (`worker`), in the list of items
    held back as too many of its workqueue are active (`held_back`: the workqueue), or, with
    neither, where any free worker of a pool takes it from.  `target` is the item before it that
    is no barrier: what a barrier waits for."""

    worker: Worker | None = None
    held_back: int = 0
    target: int = 0


def place_of(system: System, work: int) -> Place | None:
    """Where an item is queued; None if it is in no list of a workqueue that is in order."""
    kernel = system.kernel
    entry = need(kernel, "work_struct", "entry")
    try:
        nodes = [work + entry, *ring(kernel, work + entry)]
        pwqs = held_back(system)
    except (BrokenList, FaultkitError):
        return None
    target = 0
    for node in reversed(nodes[1:]):  # what is before it, nearest first
        if node in pwqs:
            break
        worker = _by_scheduled(system).get(node)
        if worker is not None:
            break
        if not target and not is_barrier(system, node - entry):
            target = node - entry
    for node in nodes:
        worker = _by_scheduled(system).get(node)
        if worker is not None:
            return Place(worker, 0, worker.work or target)
        if node in pwqs:
            return Place(None, pwqs[node], target)
    return Place(None, 0, target)


def _by_scheduled(system: System) -> dict[int, Worker]:
    known: dict[int, Worker] | None = system.cache.get("workers by scheduled")
    if known is None:
        known = {worker.scheduled: worker for worker in workers(system)}
        system.cache["workers by scheduled"] = known
    return known


def held_back(system: System) -> dict[int, int]:
    """The heads of the pool_workqueues' lists of items held back, with their workqueues."""
    known: dict[int, int] | None = system.cache.get("held back")
    if known is None:
        known = system.cache["held back"] = {}
        kernel = system.kernel
        # delayed_works until f97a4a1a3f87 ("workqueue: Rename "delayed" (delayed by active
        # management) to "inactive"", 5.15)
        held = first_offset(
            kernel, ("pool_workqueue", "inactive_works"), ("pool_workqueue", "delayed_works")
        )
        for queue in workqueues(system):
            for pwq in pwqs_of(system, queue):
                known[pwq + (held or 0)] = queue
    return known


def is_barrier(system: System, work: int) -> bool:
    """Whether the item is a wq_barrier's, put in line by a task that flushes another item."""
    try:
        function = pointer(system.kernel, work, "work_struct", "func")
    except FaultkitError:
        return False
    return function != 0 and function == system.kernel.symbol("wq_barrier_func")


def workqueues(system: System) -> list[int]:
    """All workqueue_structs, as far as the list can be read."""
    kernel = system.kernel
    found: list[int] = []
    head = kernel.symbol("workqueues")
    if head:
        try:
            links = need(kernel, "workqueue_struct", "list")
            found += entries(kernel, head, links, MOST_WORKQUEUES)
        except (BrokenList, FaultkitError):
            pass
    return found


def pwqs_of(system: System, queue: int) -> list[int]:
    """The pool_workqueues of a workqueue, as far as the list can be read."""
    kernel = system.kernel
    try:
        head = queue + need(kernel, "workqueue_struct", "pwqs")
        return list(entries(kernel, head, need(kernel, "pool_workqueue", "pwqs_node")))
    except (BrokenList, FaultkitError):
        return []


def colour_of(system: System, worker: Worker) -> int | None:
    """The flush colour of the item that a kworker runs; None if that can't be told."""
    kernel = system.kernel
    try:
        # since d812796eb390 ("workqueue: Assign a color to barrier work items", 5.15)
        if kernel.offset("worker", "current_color") is not None:
            return unsigned(kernel, worker.address, "worker", "current_color")
        size = kernel.size("pool_workqueue", "nr_in_flight") or 0
        counts = kernel.read(worker.pwq + need(kernel, "pool_workqueue", "nr_in_flight"), size)
    except FaultkitError:
        return None
    in_flight = [number for number in range(size // 4) if any(counts[4 * number :][:4])]
    return in_flight[0] if len(in_flight) == 1 else None
