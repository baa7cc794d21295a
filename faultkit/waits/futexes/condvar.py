"""Condition variables (nptl/pthread_cond_wait.c): somebody has to signal; who is not recorded,
and a thread idle on one is the most normal thing there is."""

from __future__ import annotations

from faultkit.layouts.glibc import PID_MAX_LIMIT, CondVar, read_condvar
from faultkit.model import EVENT, Lock, Wait
from faultkit.waits import _futex
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 50

UNLISTED = 32  # threads that wait, and that the target does not list: of half a dump, say


def condvar_of(blocked: Blocked, call: _futex.FutexCall) -> CondVar | None:
    """The condition variable that a futex call is part of.  No more can wait for one in private
    memory than the process has threads: other objects' futexes are shared ones, too."""
    most = PID_MAX_LIMIT
    if _futex.lock_key(blocked, call.uaddr, call.private)[0] == "private":
        most = len(blocked.world.threads(blocked.process)) + UNLISTED
    return read_condvar(blocked.process, call.uaddr, most)


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in a condition variable, by the counters around the futex word."""
    call = _futex.parse(blocked)
    if call is None or call.now is None:
        return None
    if call.operation not in (_futex.WAIT, _futex.WAIT_BITSET):  # WAIT until 2.33
        return None
    condvar = condvar_of(blocked, call)
    if condvar is None or condvar.internal:
        return None
    key = _futex.lock_key(blocked, condvar.address, call.private)
    return Wait(
        blocked.task,
        Lock("condvar", condvar.address, key=key),
        needs=EVENT,
        any_of=True,
        timed=call.timed,
        evidence=(f"condition variable, {condvar.waiters} wait",),
    )
