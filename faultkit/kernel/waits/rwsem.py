"""struct rw_semaphore (kernel/locking/rwsem.c): the writer is recorded, readers are counted."""

from __future__ import annotations

from faultkit.kernel.objects import is_kernel_pointer, pointer, unsigned
from faultkit.kernel.queues import Queue, QueueType, recorded_blockers, task_of, waiting_in
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.kernel.waits import _slowpath
from faultkit.kernel.waits._owner import held_by
from faultkit.model import Lock, Task, Wait
from faultkit.target import FaultkitError, ReadError

FUNCTIONS = _slowpath.FUNCTIONS["rwsem"]
PRIORITY = 11

QUEUE = QueueType("rw_semaphore", "rwsem_waiter", blockers=(2, 3), sleeps_in=FUNCTIONS)

# The owner's low bits: RWSEM_READER_OWNED, and one for non-spinnable, which were two until
# 617f3ef95177 ("locking/rwsem: Remove reader optimistic spinning", 5.11).
READER_OWNED, OWNER_FLAGS = 1, 7

# The count: one writer, waiters, handoff, five bits never used, and readers from bit 8 on.
WRITER_LOCKED, WAITERS, RESERVED, READER_SHIFT, READ_FAIL = 1, 2, 0xF8, 8, 1 << 63
MOST_READERS = 1 << 23  # twice as many as there can be tasks


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait for a rw_semaphore on whose list of waiters the task is."""
    found = waiting_in(sleeper, QUEUE)
    if found is None or found[1].unread or not _slowpath.sleeps_in(sleeper, "rwsem"):
        return None
    waiter, queue = found
    wait = _wait_for(sleeper, waiter, queue)
    if wait.fault and not _slowpath.sleeps_in(sleeper, "rwsem", surely=True):
        return None
    return wait


def _wait_for(sleeper: Sleeper, waiter: int, queue: Queue) -> Wait:
    system, address = sleeper.system, queue.lock
    mode = _mode(system, waiter)
    count = pointer(sleeper.kernel, address, "rw_semaphore", "count")
    owner = pointer(sleeper.kernel, address, "rw_semaphore", "owner")
    lock = Lock("rwsem", address, mmap_lock_name(system, address), ("kernel", address))
    evidence = [
        f"its count is {count:#x}, its owner field {owner:#x}, the task is on its list of waiters"
    ]
    if address in recorded_blockers(sleeper, QUEUE):
        evidence.append("the task_struct names it as what blocks the task")
    wait = Wait(sleeper.task, lock, mode=mode, evidence=tuple(evidence))
    damage = queue.damage or _impossible(count, owner)
    if not damage and not _slowpath.knows_of_waiters(
        sleeper, address, "rw_semaphore", count, WAITERS
    ):
        damage = f"its count {count:#x} lacks the flag of a rw_semaphore that has waiters"
    if damage:
        return wait.but(fault="corrupt-lock", fault_detail=damage)
    if count & WRITER_LOCKED:
        if owner & READER_OWNED or not owner & ~OWNER_FLAGS:
            # between the two words' writing, preemption is disabled
            return _changing(wait, "a writer is about to take it, or has just let go of it")
        first = task_of(system, queue.waiters[0], QUEUE)
        return held_by(
            sleeper, lock, owner & ~OWNER_FLAGS, first, mode=mode, evidence=wait.evidence
        )
    readers = (count & ~READ_FAIL) >> READER_SHIFT
    if not readers:
        return _changing(wait, "nobody has it")
    return _behind_readers(system, wait, waiter, queue, readers, owner)


def _behind_readers(
    system: System, wait: Wait, waiter: int, queue: Queue, readers: int, owner: int
) -> Wait:
    """A wait for a lock that readers hold.  First in line is a writer that waits for them; all
    others, readers too, wait for the first writer."""
    first = next((other for other in queue.waiters if _mode(system, other) == "write"), None)
    if first == waiter or first is None:
        if wait.mode == "read":
            return _changing(wait, "no writer is in line to keep the task from reading it")
        last = system.by_address.get(owner & ~OWNER_FLAGS)
        return wait.but(
            holder_count=readers,
            suspects=(last,) if last is not None else (),
            evidence=(
                *wait.evidence,
                _readers(readers)
                + (f"; the last one to get it was task {last.tid}" if last is not None else ""),
            ),
            missing="the readers that hold a rw_semaphore are counted, not recorded: look for "
            "tasks that took it with down_read()",
        )
    if queue.waiters.index(waiter) < queue.waiters.index(first):
        return _changing(wait, "no writer ahead of it keeps the task from reading it")
    writer = task_of(system, first, QUEUE)
    if writer is None:
        raise ReadError(first, 8)  # a task that the dump lacks is ahead
    return wait.but(
        queued=True,
        holders=(writer,),
        evidence=(
            *wait.evidence,
            f"{_readers(readers)}; task {writer.tid} queues for writing ahead of it, which keeps "
            "it out",
        ),
    )


def _readers(count: int) -> str:
    return f"held by {count} reader{'s' if count > 1 else ''}"


def _changing(wait: Wait, why: str) -> Wait:
    """The wait for a lock that the task is about to be given."""
    return wait.but(changing=True, evidence=(*wait.evidence, why))


def _impossible(count: int, owner: int) -> str | None:
    """How the two words contradict whatever the kernel writes there; None if they do not."""
    readers = (count & ~READ_FAIL) >> READER_SHIFT
    if count & RESERVED or readers > MOST_READERS:
        return f"its count {count:#x} has bits that are never set"
    if owner & ~OWNER_FLAGS and not is_kernel_pointer(owner & ~OWNER_FLAGS):
        return f"its owner field {owner:#x} is no address of a task"
    return None


def _mode(system: System, waiter: int) -> str:
    reads = system.kernel.enumerator("RWSEM_WAITING_FOR_READ")
    kind = unsigned(system.kernel, waiter, "rwsem_waiter", "type")
    return "read" if kind == (1 if reads is None else reads) else "write"


def mmap_lock_name(system: System, address: int) -> str | None:
    """ "mmap_lock of 4711 postgres": whose address space a rwsem guards; None if it is none.

    mmap_sem until da1c55f1b272 ("mmap locking API: rename mmap_sem to mmap_lock", 5.8).
    """
    kernel = system.kernel
    offset = kernel.offset("mm_struct", "mmap_lock")
    if offset is None:
        return None
    task = _address_spaces(system).get(address - offset)
    return f"mmap_lock of {task.pid} {task.name}" if task is not None else None


def _address_spaces(system: System) -> dict[int, Task]:
    """The main (or first) thread by mm_struct."""
    spaces: dict[int, Task] | None = system.cache.get("address spaces")
    if spaces is None:
        spaces = system.cache["address spaces"] = {}
        for task in system.tasks:
            try:
                mm = pointer(system.kernel, task.address or 0, "task_struct", "mm")
            except FaultkitError:
                continue
            if mm and (mm not in spaces or task.pid == task.tid):
                spaces[mm] = task
    return spaces
