"""Work items (kernel/workqueue.c): flush_work(), cancel_work_sync(), flush_workqueue() and
drain_workqueue() wait for what kworkers run."""

from __future__ import annotations

from faultkit.kernel.objects import BrokenList, need, pointer, ring, signed, text, unsigned
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import _completion
from faultkit.kernel.workers import (
    Worker,
    colour_of,
    is_barrier,
    place_of,
    workers,
    workqueue_of,
    workqueues,
)
from faultkit.model import EVENT, Lock, Wait
from faultkit.target import FaultkitError

FUNCTIONS = _completion.FUNCTIONS
PRIORITY = 31


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for the completion in a wq_barrier or a wq_flusher on the task's own stack."""
    queue = _completion.waited_for(sleeper)
    if queue is None or sleeper.system.stack_owner(queue.lock) != sleeper.task:
        return None
    return _barrier(sleeper, queue.lock) or _flusher(sleeper, queue.lock)


def _barrier(sleeper: Sleeper, completion: int) -> Wait | None:
    """flush_work() put a struct wq_barrier in line behind the item that it waits for."""
    kernel, system = sleeper.kernel, sleeper.system
    barrier = completion - need(kernel, "wq_barrier", "done")
    work = barrier + need(kernel, "wq_barrier", "work")
    if pointer(kernel, barrier, "wq_barrier", "task") != sleeper.task.address:
        return None
    if not is_barrier(system, work):
        return None
    place = place_of(system, work)
    if place is None:
        return None
    target = place.target
    lock = Lock("work", target or None, _item_name(system, target), ("kernel", target or work))
    wait = Wait(sleeper.task, lock, needs=EVENT)
    worker = place.worker
    if worker is not None:
        return wait.but(
            holders=(worker.task,),
            evidence=(f"its barrier is next in line on the kworker {worker.task.tid}",),
            lock=lock._replace(name=_function(system, worker.function) or lock.name),
        )
    if place.held_back:
        active = [
            other.task
            for other in workers(system)
            if workqueue_of(system, other) == place.held_back
        ]
        name = _queue_name(system, place.held_back)
        return wait.but(
            holders=tuple(active),
            any_of=True,
            evidence=(
                f"its barrier is in line behind the item, which is held back until one that is "
                f"active in workqueue {name} ends",
            ),
        )
    return wait.but(evidence=("the item is in line for a free kworker",))


def _flusher(sleeper: Sleeper, completion: int) -> Wait | None:
    """flush_workqueue() waits until all items of its colour, and of those before, have ended."""
    kernel, system = sleeper.kernel, sleeper.system
    flusher = completion - need(kernel, "wq_flusher", "done")
    queue = _flushed(system, flusher)
    if not queue:
        return None
    name = _queue_name(system, queue)
    wait = Wait(sleeper.task, Lock("workqueue", queue, name, ("kernel", queue)), needs=EVENT)
    first = pointer(kernel, queue, "workqueue_struct", "first_flusher")
    if first != flusher:
        ahead = system.stack_owner(first)
        return wait.but(
            holders=(ahead,) if ahead is not None else (),
            evidence=(f"another task flushes workqueue {name}, and comes first",),
        )
    colour = signed(unsigned(kernel, flusher, "wq_flusher", "flush_color"), 32)
    active = [worker for worker in workers(system) if workqueue_of(system, worker) == queue]
    meant = [worker for worker in active if colour_of(system, worker) == colour]
    functions = ", ".join(dict.fromkeys(filter(None, (_function_of(system, w) for w in meant))))
    return wait.but(
        holders=tuple(worker.task for worker in meant),
        evidence=(
            f"it is the first flusher of workqueue {name}, whose items in progress it waits for"
            + (f": {functions}" if functions else ""),
        ),
    )


def _flushed(system: System, flusher: int) -> int:
    """The workqueue that a wq_flusher flushes; 0 if none has it."""
    kernel = system.kernel
    first_at = need(kernel, "workqueue_struct", "first_flusher")
    heads = [need(kernel, "workqueue_struct", m) for m in ("flusher_queue", "flusher_overflow")]
    try:
        linked = set(ring(kernel, flusher + need(kernel, "wq_flusher", "list")))
    except (BrokenList, FaultkitError):
        linked = set()
    for queue in workqueues(system):
        try:
            first = kernel.u64(queue + first_at)
        except FaultkitError:
            continue
        if first == flusher or any(queue + head in linked for head in heads):
            return queue
    return 0


def _function_of(system: System, worker: Worker) -> str | None:
    return _function(system, worker.function)


def _function(system: System, address: int) -> str | None:
    """ "lru_add_drain_per_cpu", "flush_item [faultlab]"."""
    symbol = system.symbol_at(address) if address else None
    if symbol is None:
        return None
    return f"{symbol.name} [{symbol.module}]" if symbol.module else symbol.name


def _item_name(system: System, work: int) -> str | None:
    if not work:
        return None
    try:
        return _function(system, pointer(system.kernel, work, "work_struct", "func"))
    except FaultkitError:
        return None


def _queue_name(system: System, queue: int) -> str:
    kernel = system.kernel
    offset = kernel.offset("workqueue_struct", "name")
    if offset is None:
        return f"{queue:#x}"
    try:
        return text(kernel, queue + offset, kernel.size("workqueue_struct", "name") or 24)
    except FaultkitError:
        return f"{queue:#x}"
