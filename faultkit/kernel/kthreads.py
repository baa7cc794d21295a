"""What kernel threads work on: their own struct kthread, and the items of kthread_workers."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel import states
from faultkit.kernel.objects import BrokenList, entries, first_offset, need, pointer
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST = 10_000  # items of one worker


class KthreadWorker(NamedTuple):
    """A struct kthread_worker: `work` is the item that its task runs, 0 if none."""

    address: int
    task: Task
    work: int


def data_of(system: System, task: Task) -> int:
    """What kthread_data() gives (kernel/kthread.c).  Raises FaultkitError."""
    kernel = system.kernel
    # worker_private since e32cf5dfbe22 ("kthread: Generalize pf_io_worker so it can point to
    # struct kthread", 5.17); before, struct kthread was where set_child_tid is
    at = first_offset(kernel, ("task_struct", "worker_private"), ("task_struct", "set_child_tid"))
    kthread = kernel.u64((task.address or 0) + (at or 0))
    return pointer(kernel, kthread, "kthread", "data")


def kthread_workers(system: System) -> list[KthreadWorker]:
    """All kthread_workers whose tasks are there; looked up once."""
    return system.of_tasks("kthread_workers", _worker_of)


def _worker_of(system: System, task: Task) -> KthreadWorker | None:
    """By kthread_worker_fn()'s argument: the worker names the task in its turn."""
    kernel = system.kernel
    try:
        flags = system.flags(task)
        if not flags & states.PF_KTHREAD or flags & states.PF_WQ_WORKER:
            return None
        address = data_of(system, task)
        if not address or pointer(kernel, address, "kthread_worker", "task") != task.address:
            return None
        work = pointer(kernel, address, "kthread_worker", "current_work")
        return KthreadWorker(address, task, work)
    except FaultkitError:
        return None


def items_of(system: System, worker: KthreadWorker) -> Iterator[int]:
    """The struct kthread_works in the worker's line, in order, as far as it can be read."""
    kernel = system.kernel
    try:
        head = worker.address + need(kernel, "kthread_worker", "work_list")
        yield from entries(kernel, head, need(kernel, "kthread_work", "node"), MOST)
    except (BrokenList, FaultkitError):
        return
