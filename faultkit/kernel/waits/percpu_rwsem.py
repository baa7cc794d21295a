"""struct percpu_rw_semaphore (kernel/locking/percpu-rwsem.c), and what is built of it: the locks
that keep writers out of a frozen file system."""

from __future__ import annotations

from faultkit.kernel.filesystems import LEVELS, is_frozen, writers_lock
from faultkit.kernel.objects import is_kernel_pointer, need, pointer, unsigned
from faultkit.kernel.queues import Queue, QueueType, candidates, task_of, waiting_in
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.model import EVENT, Lock, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

FUNCTIONS = frozenset(
    ("percpu_rwsem_wait", "percpu_down_write", "__percpu_down_read", "percpu_down_read")
)
PRIORITY = 15

# Since 7f26482a872c ("locking/percpu-rwsem: Remove the embedded rwsem", 5.7).
QUEUE = QueueType(
    "percpu_rw_semaphore",
    "wait_queue_entry",
    links="entry",
    task="private",
    head="waiters.head",
    sleeps_in=FUNCTIONS,
)
# WQ_FLAG_CUSTOM marks readers; it was 0x08 while there was WQ_FLAG_BOOKMARK (0x04), until 6.6.
# Nothing sets the other one in these entries.
READER = 0x0C
TYPE = "percpu_rw_semaphore"


class State(NamedTuple):
    """What a percpu_rw_semaphore says: `blocked` while a writer has it or waits for readers,
    `writer` is the task that waits for readers, `readers` how many there are, None if unsure."""

    blocked: bool
    writer: Task | None
    readers: int | None


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait in the semaphore's queue, or a writer's for the readers that are in already."""
    wakes = sleeper.kernel.symbol("percpu_rwsem_wake_function")
    found = waiting_in(sleeper, QUEUE, ("func", wakes)) if wakes else None
    if found is not None and not found[1].unread:
        return _queued(sleeper, *found)
    return _writer(sleeper)


def _queued(sleeper: Sleeper, waiter: int, queue: Queue) -> Wait:
    system, address = sleeper.system, queue.lock
    reads = unsigned(sleeper.kernel, waiter, "wait_queue_entry", "flags") & READER
    wait = Wait(
        sleeper.task,
        Lock("percpu_rwsem", address, _name(system, address), ("kernel", address)),
        mode="read" if reads else "write",
    )
    if queue.damage:
        return wait.but(fault="corrupt-lock", fault_detail=queue.damage)
    state = _state(system, address)
    evidence: tuple[str, ...] = (f"its `block` is {int(state.blocked)}, the task is in its queue",)
    if not state.blocked:
        return wait.but(changing=True, evidence=(*evidence, "nobody keeps the task from it"))
    if state.writer is not None:
        # block is set first, then it waits for the readers: all others queue behind it
        return wait.but(
            queued=True,
            holders=(state.writer,),
            evidence=(*evidence, f"task {state.writer.tid} has it for writing, once readers leave"),
        )
    frozen = _frozen(system, address)
    if frozen is not None:
        return wait.but(
            needs=EVENT,
            lock=Lock("frozen-fs", address, frozen, ("kernel", address)),
            evidence=(
                *evidence,
                f"the file system on {frozen} is frozen: whoever froze it has to thaw it "
                "(fsfreeze -u, or the snapshot or backup tool that did it)",
            ),
        )
    ahead = _first_writer(system, queue)
    if ahead is not None and ahead != waiter:
        evidence += ("a writer queues ahead of it",)
    return wait.but(
        evidence=(*evidence, "a writer holds it, which is not recorded"),
        missing="the writer that holds a percpu_rw_semaphore is not recorded: look for a task "
        "that called percpu_down_write()",
    )


def _first_writer(system: System, queue: Queue) -> int | None:
    for waiter in queue.waiters:
        flags = unsigned(system.kernel, waiter, "wait_queue_entry", "flags")
        if not flags & READER and task_of(system, waiter, QUEUE) is not None:
            return waiter
    return None


def _writer(sleeper: Sleeper) -> Wait | None:
    """A writer in percpu_down_write() that waits for readers: the semaphore names it."""
    if "percpu_down_write" not in sleeper.functions:
        return None
    system = sleeper.system
    for address in candidates(sleeper):
        try:
            state = _state(system, address)
            if state.writer != sleeper.task or not state.blocked or not _is_one(system, address):
                continue
        except FaultkitError:
            continue
        readers = state.readers
        return Wait(
            sleeper.task,
            Lock("percpu_rwsem", address, _name(system, address), ("kernel", address)),
            mode="write",
            holder_count=readers,
            evidence=(
                "it names the task as the writer that waits for its readers"
                + (f", of which there are {readers}" if readers else ""),
            ),
            missing="the readers that hold a percpu_rw_semaphore are counted, not recorded: look "
            "for tasks that called percpu_down_read()",
        )
    return None


def _state(system: System, address: int) -> State:
    kernel = system.kernel
    writer = kernel.u64(address + need(kernel, TYPE, "writer.task"))
    return State(
        unsigned(kernel, address, TYPE, "block") == 1,
        system.by_address.get(writer),
        _readers(system, address),
    )


def _readers(system: System, address: int) -> int | None:
    """The sum of the CPUs' counts, each of which may be negative; None if it is no count, as
    when a CPU that is offline now has a part in it."""
    kernel = system.kernel
    counts = pointer(kernel, address, TYPE, "read_count")
    try:
        total = sum(kernel.u32(kernel.per_cpu(counts, cpu)) for cpu in system.running)
    except FaultkitError:
        return None
    total &= 0xFFFF_FFFF
    return total if 0 < total <= len(system.tasks) * 64 else None


def _is_one(system: System, address: int) -> bool:
    """Whether a percpu_rw_semaphore's other members are as they must be: the list of its queue
    leads to itself or to a waiter that leads back."""
    kernel = system.kernel
    head = address + need(kernel, TYPE, "waiters.head")
    following, previous = kernel.words(head, 2)
    if not is_kernel_pointer(following) or not is_kernel_pointer(previous):
        return False
    return kernel.u64(following + 8) == head and kernel.u64(previous) == head


def _name(system: System, address: int) -> str | None:
    found = writers_lock(system, address)
    return f"{LEVELS[found[1]]} of {found[0].id}" if found is not None else None


def _frozen(system: System, address: int) -> str | None:
    """The frozen file system that the semaphore keeps writers out of."""
    found = writers_lock(system, address)
    return found[0].id if found is not None and is_frozen(system, found[0]) else None
