"""multiprocessing's Lock and RLock: a POSIX semaphore that processes share.  Each process counts,
in an object of its own, how often its threads have taken it, and which was the last
(Modules/_multiprocessing/semaphore.c, SemLockObject)."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.layouts.cpython import PythonMemory, thread_of
from faultkit.model import EVENT, INFERRED, PROVEN, Lock, Task, Wait
from faultkit.record import NamedTuple
from faultkit.target import Process, ReadError
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, WAIT_BITSET, lock_key, parse
from faultkit.waits._python import python_of
from faultkit.world import Blocked

PRIORITY = 5  # before semaphores, which they are made of

TYPE = "_multiprocessing.SemLock"
# SemLockObject: PyObject_HEAD; sem_t *handle; unsigned long last_tid; int count, maxvalue, kind
HANDLE_AT = 16
RECURSIVE = 0  # enum { RECURSIVE_MUTEX, SEMAPHORE }


class SemLock(NamedTuple):
    """One process's object: `ident` is the threading.get_ident() of the last thread that took it,
    `taken` how often its threads have taken it and not released it; less than 0 where they have
    released what others took."""

    process: Process
    ident: int
    taken: int
    most: int
    kind: int


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in SemLock.acquire() where one process, by its own count, has the lock.

    It is an event, as any process may release a Lock; of an RLock its owner only can."""
    call = parse(blocked)
    if call is None or call.private or call.operation not in (WAIT, WAIT_BITSET) or call.value:
        return None
    python = python_of(blocked)
    for address in python.pointers_on_stack(blocked):
        own = _read(blocked.process, python.memory, address, call.uaddr)
        if own is not None:
            break
    else:
        return None
    if own.most != 1:
        return None  # a Semaphore: many may have it, and others will post it
    taken = [one for one in (own, *_others(blocked, address, call.uaddr)) if one.taken]
    if len(taken) != 1 or taken[0].taken < 1:
        return None  # some release what others take: a gate
    holder = _holder(blocked, taken[0])
    if holder is None or holder == blocked.task:
        return None
    return Wait(
        blocked.task,
        Lock("python_mp_lock", call.uaddr, key=lock_key(blocked, call.uaddr, False)),
        needs=EVENT,
        holders=(holder,),
        any_of=True,
        confidence=PROVEN if own.kind == RECURSIVE else INFERRED,
        timed=call.timed,
        evidence=(
            *(f"in {where}" for where in python.places(blocked)),
            f"process {holder.pid} counts it as taken, by thread {holder.tid}",
        ),
    )


def _read(process: Process, memory: PythonMemory, address: int, handle: int) -> SemLock | None:
    """The SemLock at `address` if it is one of the semaphore at `handle`."""
    if memory.type_name(address) != TYPE:
        return None
    try:
        if process.u64(address + HANDLE_AT) != handle:
            return None
        ident = process.u64(address + HANDLE_AT + 8)
        data = process.read(address + HANDLE_AT + 16, 12)
    except ReadError:
        return None
    times, most, kind = (
        int.from_bytes(data[at : at + 4], "little", signed=True) for at in (0, 4, 8)
    )
    return SemLock(process, ident, times, most, kind)


def _others(blocked: Blocked, address: int, semaphore: int) -> Iterator[SemLock]:
    """The objects of the other processes that have the semaphore mapped: forked ones have theirs
    at the same address, those that were started otherwise do not."""
    process = blocked.process
    mapping = process.mapping(semaphore)
    if mapping is None or not mapping.shared:
        return
    at = semaphore - mapping.start + mapping.offset
    for other, its in blocked.world.sharers(mapping):
        if other.pid != process.pid:
            found = _read(other, PythonMemory(other), address, its.start + at - its.offset)
            if found is not None:
                yield found


def _holder(blocked: Blocked, taken: SemLock) -> Task | None:
    threads = blocked.world.threads(taken.process)
    tid = thread_of(taken.process, taken.ident, threads)
    return threads[tid] if tid is not None else None
