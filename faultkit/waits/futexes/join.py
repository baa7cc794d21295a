"""pthread_join (nptl/pthread_join_common.c): asleep on a word in the struct pthread of the thread
to end that its exit clears: its tid, or (since 2.42) the state that the kernel clears instead."""

from __future__ import annotations

from faultkit.layouts.glibc import thread_around
from faultkit.model import EVENT, Lock, Wait
from faultkit.waits import _futex
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 15

STATES = range(1, 8)  # of a thread that has not exited; a handful


def recognise(blocked: Blocked) -> Wait | None:
    """A wait for another thread's end."""
    call = _futex.parse(blocked)
    if call is None or call.operation not in (_futex.WAIT, _futex.WAIT_BITSET):
        return None
    # The kernel wakes the futex that it clears as a shared one (kernel/fork.c, mm_release); all
    # other words in a struct pthread that threads sleep on are private ones.
    if call.private or call.value != call.now or call.value == 0 or call.uaddr & 3:
        return None
    threads = blocked.world.threads(blocked.process)
    found = thread_around(blocked.process, call.uaddr, threads)
    if found is None:
        return None
    descriptor, tid = found
    target = threads[tid]
    if call.value not in (tid, *STATES) or target == blocked.task:
        return None
    return Wait(
        blocked.task,
        Lock("join", descriptor, f"thread {target.tid}"),
        needs=EVENT,
        holders=(target,),
        timed=call.timed,
        evidence=(f"joins thread {target.tid}: sleeps on the word that its exit clears",),
    )
