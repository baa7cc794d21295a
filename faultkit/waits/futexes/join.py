"""pthread_join (nptl/pthread_join_common.c): asleep on the tid word in the struct pthread of
the thread to end, which the kernel clears when it does."""

from typing import Optional

from faultkit.layouts.glibc import TID_AT, thread_of_descriptor
from faultkit.model import EVENT, Lock, Wait
from faultkit.waits import _futex
from faultkit.waits._owner import task_of
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 15


def recognise(blocked: Blocked) -> Optional[Wait]:
    """A wait for another thread's end."""
    call = _futex.parse(blocked)
    if call is None or call.operation not in (_futex.WAIT, _futex.WAIT_BITSET):
        return None
    if call.value != call.now or call.private:
        return None
    target = task_of(blocked, call.value)
    if target is None:
        return None
    descriptor = call.uaddr - TID_AT
    threads = blocked.world.threads(blocked.process)
    if thread_of_descriptor(blocked.process, descriptor, threads) != call.value:
        return None
    return Wait(
        blocked.task,
        Lock("join", descriptor, f"thread {target.tid}"),
        needs=EVENT,
        holders=(target,),
        timed=call.timed,
        evidence=(f"joins thread {target.tid}: sleeps on the tid word that its exit clears",),
    )
