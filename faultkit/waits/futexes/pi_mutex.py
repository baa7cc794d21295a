"""Priority-inheriting mutexes: the kernel's FUTEX_LOCK_PI, and the thread that glibc parks for
good when the kernel answers EDEADLK (nptl/pthread_mutex_lock.c, __pthread_mutex_lock_full)."""

from typing import Optional

from faultkit.layouts.glibc import (
    FUTEX_TID_MASK,
    PID_MAX_LIMIT,
    PRIO_INHERIT,
    SHARED,
    read_mutex,
)
from faultkit.model import Lock, Wait
from faultkit.target import ReadError
from faultkit.waits import _futex
from faultkit.waits._callers import inside_mutex_lock
from faultkit.waits._owner import held_by, task_of, unowned
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 10

KIND_AT = 16  # offset of __kind in a mutex
PARK_FRAMES = 96  # words of stack above the parked thread's sp that may hold the mutex's address


def recognise(blocked: Blocked) -> Optional[Wait]:
    """A wait in FUTEX_LOCK_PI, or a thread parked after the kernel refused one."""
    call = _futex.parse(blocked)
    if call is None or call.now is None:
        return None
    if call.operation in (_futex.LOCK_PI, _futex.LOCK_PI2):
        return _waiting(blocked, call, call.uaddr, call.private, ())
    if call.value == 0 and call.now == 0 and not call.timed:
        return _parked(blocked, call)
    return None


def _waiting(
    blocked: Blocked,
    call: _futex.FutexCall,
    address: int,
    private: bool,
    evidence: tuple[str, ...],
) -> Optional[Wait]:
    word = blocked.process.u32(address)
    owner = word & FUTEX_TID_MASK
    lock = Lock("pthread_mutex", address, key=_futex.lock_key(blocked, address, private))
    evidence = (f"priority-inheriting mutex, its word names tid {owner}", *evidence)
    if owner == 0:
        return unowned(blocked, lock, evidence)
    if owner > PID_MAX_LIMIT:
        return Wait(
            blocked.task,
            lock,
            fault="corrupt-lock",
            fault_detail=f"its word {word:#x} names an impossible thread",
            evidence=evidence,
        )
    return held_by(blocked, lock, owner, private, timed=call.timed, evidence=evidence)


def _parked(blocked: Blocked, call: _futex.FutexCall) -> Optional[Wait]:
    """A thread asleep on a zero in its own stack, with a priority-inheriting mutex in its
    registers, innermost frames or live calls: the one that the kernel refused it."""
    sp = blocked.call.sp
    if not sp <= call.uaddr < sp + 8 * PARK_FRAMES:
        return None
    address = _refused_mutex(blocked, _near(blocked, sp)) or _refused_mutex(
        blocked, _passed(blocked)
    )
    if address is None:
        return _refused(blocked)
    private = not read_mutex(blocked.process, address).kind & SHARED
    return _waiting(
        blocked,
        call,
        address,
        private,
        ("glibc parked this thread for good: the kernel answered EDEADLK",),
    )


def _refused(blocked: Blocked) -> Optional[Wait]:
    """Parked over a mutex that could not be found: its owner is to be told from who waits for
    this thread, since the kernel only refuses a mutex that closes a cycle."""
    if not inside_mutex_lock(blocked):
        return None
    return Wait(
        blocked.task,
        Lock("pthread_mutex", key=(_futex.REFUSED, blocked.task.pid, blocked.task.tid)),
        evidence=("glibc parked this thread for good: the kernel answered EDEADLK",),
        missing="the kernel refused a thread a priority-inheriting mutex because that closes a "
        "cycle (EDEADLK); which mutex could not be told: attach gdb to its process",
    )


def _near(blocked: Blocked, sp: int) -> list[int]:
    """Words that may point to the mutex, or to its __kind, which glibc keeps at hand."""
    try:
        words = blocked.process.words(sp, PARK_FRAMES)
    except ReadError:
        words = ()
    near = (*blocked.process.registers(blocked.task).values(), *words)
    return [place for word in near for place in (word, word - KIND_AT)]


def _passed(blocked: Blocked) -> list[int]:
    """What the thread's live calls were passed; unwinds, so only when nothing else tells."""
    from faultkit.infer.calls import first_arguments

    return first_arguments(blocked.world, blocked.process, blocked.task)


def _refused_mutex(blocked: Blocked, addresses: list[int]) -> Optional[int]:
    """The one priority-inheriting mutex among the addresses that another thread holds; else
    the one that this very thread holds, and tried to take again."""
    others, own = set(), set()
    for address in dict.fromkeys(addresses):
        if address & 7 or not 0x1000 < address < 1 << 47:
            continue
        holder = _holder(blocked, address)
        if holder == blocked.task.tid:
            own.add(address)
        elif holder:
            others.add(address)
    found = others or own
    return found.pop() if len(found) == 1 else None


def _holder(blocked: Blocked, address: int) -> int:
    """The tid that holds the priority-inheriting mutex at `address`; 0 if that is none, or
    free.  __owner must repeat the tid in the word, as glibc does once it has seen it taken."""
    try:
        mutex = read_mutex(blocked.process, address)
    except ReadError:
        return 0
    if not (mutex.kind & PRIO_INHERIT and mutex.kind_known):
        return 0
    holder = mutex.lock & FUTEX_TID_MASK
    if holder != mutex.owner or holder > PID_MAX_LIMIT:
        return 0
    if task_of(blocked, holder) is None and not mutex.kind & SHARED:
        return 0
    return holder
