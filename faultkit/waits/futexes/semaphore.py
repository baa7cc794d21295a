"""POSIX semaphores, named or not (nptl/sem_waitcommon.c): nobody is recorded, neither who took
it nor who will post."""

from __future__ import annotations

from faultkit.layouts.glibc import read_semaphore
from faultkit.model import EVENT, Lock, Task, Wait
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
    return wait.but(candidates=_candidates(blocked, call))


def _candidates(blocked: Blocked, call: _futex.FutexCall) -> tuple[Task, ...]:
    """Whoever can reach the semaphore at all."""
    members = blocked.world.members(blocked.process)
    mapping = None if call.private else blocked.process.mapping(call.uaddr)
    if mapping is None or not mapping.shared:
        return members
    others = [
        task
        for process, _ in blocked.world.sharers(mapping)
        if process.pid != blocked.process.pid
        for task in process.tasks()
    ]
    return (*members, *others)
