"""pthread_barrier_t (nptl/pthread_barrier_wait.c): waits until the missing threads arrive."""

from __future__ import annotations

from faultkit.layouts.glibc import read_barrier
from faultkit.model import EVENT, Lock, Wait
from faultkit.waits import _futex
from faultkit.waits._callers import innermost_functions
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 45


def recognise(blocked: Blocked) -> Wait | None:
    """A wait at a barrier: asleep on its current_round, which is its second word."""
    call = _futex.parse(blocked)
    if call is None or call.operation not in (_futex.WAIT, _futex.WAIT_BITSET) or call.timed:
        return None
    address = call.uaddr - 4
    barrier = read_barrier(blocked.process, address)
    if barrier is None or barrier.current_round != call.value:
        return None
    if (barrier.shared == 0) != call.private:
        return None
    names = innermost_functions(blocked, 3)  # counters of others' own objects look alike
    if names and not any("barrier_wait" in name for name in names):
        return None
    missing = barrier.missing
    return Wait(
        blocked.task,
        Lock("barrier", address, key=_futex.lock_key(blocked, address, call.private)),
        needs=EVENT,
        candidates=_futex.users(blocked, address, call.private),
        holder_count=missing,
        evidence=(f"barrier of {barrier.parties}, {missing} still to arrive",),
    )
