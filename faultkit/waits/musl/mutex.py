"""Mutexes of musl: all but the plain ones record their owner in the lock word."""

from __future__ import annotations

from faultkit.layouts import musl
from faultkit.model import INFERRED, Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, FutexCall, lock_key, parse
from faultkit.waits._owner import held_by
from faultkit.world import Blocked

# Before glibc's: a private wait for a word with the top bit set is never glibc's, whose robust
# mutexes use shared futexes only, but it looks like one whose owner is gone.
PRIORITY = 6

NO_OWNER = (
    "musl records no owner for a normal mutex; a recursive or error-checking one would name it"
)


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in pthread_mutex_timedlock (src/thread/pthread_mutex_timedlock.c)."""
    call = parse(blocked)
    if call is None or call.operation != WAIT or not call.value & musl.WAITERS:
        return None
    mutex = musl.read_mutex(blocked.process, call.uaddr, call.private)
    if mutex is None:
        return None
    key = lock_key(blocked, mutex.address, call.private)
    lock = Lock("pthread_mutex", mutex.address, key=key)
    if mutex.records_owner:
        return _with_owner(blocked, call, mutex, lock)
    if call.value != musl.WAITERS | musl.EBUSY:
        return None
    wait = Wait(blocked.task, lock, timed=call.timed, confidence=INFERRED)
    if mutex.lock & ~musl.WAITERS == 0:
        return wait.but(fault="lost-wakeup", fault_detail="the mutex is free: its word is 0")
    if mutex.lock & ~musl.WAITERS != musl.EBUSY:
        return None
    return wait.but(
        evidence=("musl normal mutex, locked",),
        candidates=blocked.world.members(blocked.process),
        missing=NO_OWNER,
    )


def _with_owner(blocked: Blocked, call: FutexCall, mutex: musl.Mutex, lock: Lock) -> Wait | None:
    if mutex.lock & musl.OWNER_DIED:  # set at a thread's exit, whatever the type (__pthread_exit)
        robust = "the next owner has to mend what it guards"
        never = "nobody can ever take it, for it is not robust"
        return Wait(
            blocked.task,
            lock,
            timed=call.timed,
            fault="orphaned-lock",
            fault_detail="the mutex's owner exited while it held it: "
            + (robust if mutex.type & musl.ROBUST else never),
        )
    if mutex.owner == 0:
        return Wait(
            blocked.task,
            lock,
            timed=call.timed,
            fault="lost-wakeup",
            fault_detail="the mutex is free: its word names no owner",
        )
    if mutex.owner > musl.MAX_WAITERS:  # no tid
        return None
    return held_by(
        blocked,
        lock,
        mutex.owner,
        call.private,
        timed=call.timed,
        evidence=(f"musl {mutex.flavour} mutex: owner tid {mutex.owner} in its lock word",),
    )
