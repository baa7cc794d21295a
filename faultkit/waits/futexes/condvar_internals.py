"""The words that a condition variable sleeps on for its own sake: its internal lock, and a group
of waiters being closed (nptl/pthread_cond_common.c, __condvar_acquire_lock and
__condvar_quiesce_and_switch_g1).  Whoever sleeps there signals, and soon gets on."""

from __future__ import annotations

from faultkit.model import OUTSIDE, Lock, Wait
from faultkit.waits import _futex
from faultkit.waits._callers import innermost_functions
from faultkit.waits.futexes.condvar import condvar_of
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 33  # after the mutexes, before what takes any value of 2 for a lock


def recognise(blocked: Blocked) -> Wait | None:
    """A signaller's moment inside a condition variable."""
    call = _futex.parse(blocked)
    if call is None or call.now is None or call.operation != _futex.WAIT or call.timed:
        return None
    condvar = condvar_of(blocked, call)
    if condvar is None or not condvar.internal:
        return None
    if not condvar.waiters and not any(
        "pthread_cond_" in name for name in innermost_functions(blocked)
    ):
        return None  # too little to know it by
    key = _futex.lock_key(blocked, condvar.address, call.private)
    return Wait(blocked.task, Lock("condvar", condvar.address, key=key), needs=OUTSIDE, timed=True)
