"""POSIX semaphores, named or not (nptl/sem_waitcommon.c): nobody is recorded, neither who took
it nor who will post."""

from __future__ import annotations

from faultkit.layouts.glibc import read_semaphore
from faultkit.model import EVENT, Lock, Wait
from faultkit.waits import _futex
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 40


def recognise(blocked: Blocked) -> Wait | None:
    """A wait for a semaphore: asleep on a zero value whose upper half counts waiters."""
    call = _futex.parse(blocked)
    if call is None or call.value != 0 or call.now is None or call.uaddr & 7:
        return None
    if not call.is_glibc_bitset:
        return None
    semaphore = read_semaphore(blocked.process, call.uaddr)
    if semaphore is None or (semaphore.private == 0) != call.private:
        return None
    key = _futex.lock_key(blocked, call.uaddr, call.private)
    wait = Wait(
        blocked.task,
        Lock("semaphore", call.uaddr, key=key),
        needs=EVENT,
        any_of=True,
        timed=call.timed,
        evidence=(f"semaphore's value is {semaphore.value}, {semaphore.waiters} wait",),
    )
    if semaphore.value > 0:
        return wait.but(
            fault="lost-wakeup",
            fault_detail=f"the semaphore could be taken: its value is {semaphore.value}",
        )
    return wait.but(candidates=_futex.users(blocked, call.uaddr, call.private))
