"""Priority-inheriting mutexes: the kernel's FUTEX_LOCK_PI, and the thread that glibc parks for
good when the kernel answers EDEADLK (nptl/pthread_mutex_lock.c, __pthread_mutex_lock_full)."""

from typing import Optional

from faultkit.layouts.glibc import (
    FUTEX_TID_MASK,
    PID_MAX_LIMIT,
    PRIO_INHERIT,
    SHARED,
    TYPES,
    read_mutex,
)
from faultkit.model import Lock, Wait
from faultkit.target import ReadError
from faultkit.waits import _futex
from faultkit.waits._owner import held_by, task_of
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 10

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
        return Wait(
            blocked.task,
            lock,
            fault="lost-wakeup",
            fault_detail="the mutex is free: its word names no owner",
            evidence=evidence,
        )
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
    """A thread asleep on a zero in its own stack, with a priority-inheriting mutex of somebody
    else in its registers or innermost frames: the one that the kernel refused it."""
    sp = blocked.call.sp
    if not sp <= call.uaddr < sp + 8 * PARK_FRAMES:
        return None
    try:
        words = blocked.process.words(sp, PARK_FRAMES)
    except ReadError:
        words = ()
    registers = blocked.process.registers(blocked.task)
    found: list[int] = []
    for address in (*registers.values(), *words):
        if address & 7 or address in found or not 0x1000 < address < 1 << 47:
            continue
        if sp <= address < sp + 8 * PARK_FRAMES and address == call.uaddr:
            continue
        if _is_held_pi_mutex(blocked, address):
            found.append(address)
    if len(found) != 1:
        return None
    private = not read_mutex(blocked.process, found[0]).kind & SHARED
    return _waiting(
        blocked,
        call,
        found[0],
        private,
        ("glibc parked this thread for good: the kernel answered EDEADLK",),
    )


def _is_held_pi_mutex(blocked: Blocked, address: int) -> bool:
    try:
        mutex = read_mutex(blocked.process, address)
    except ReadError:
        return False
    if not (mutex.kind & PRIO_INHERIT and mutex.kind_known and mutex.kind & 3 < len(TYPES)):
        return False
    holder = mutex.lock & FUTEX_TID_MASK
    if holder in (0, blocked.task.tid) or holder > PID_MAX_LIMIT:
        return False
    # __owner repeats the tid once glibc has seen the lock taken
    return mutex.owner == holder and (
        task_of(blocked, holder) is not None or bool(mutex.kind & SHARED)
    )
