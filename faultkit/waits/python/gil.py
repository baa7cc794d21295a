"""CPython's global interpreter lock: the lock records the thread that has it."""

from __future__ import annotations

from faultkit.layouts.cpython import gil_of_condvar
from faultkit.model import Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, WAIT_BITSET, parse
from faultkit.waits._python import python_of
from faultkit.world import Blocked

PRIORITY = 3  # before condition variables, of which it is made

# where in a pthread_cond_t its waiters sleep: __g_signals, glibc 2.25 to 2.40 and newer, musl
SIGNALS = (40, 44, 32, 36)


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in take_gil (Python/ceval_gil.c), which sleeps 5 ms at a time, over and over."""
    call = parse(blocked)
    if call is None or call.operation not in (WAIT, WAIT_BITSET) or not call.timed:
        return None
    python = python_of(blocked)
    for offset in SIGNALS:
        if (call.uaddr - offset) % 8:
            continue
        gil = gil_of_condvar(blocked.process, call.uaddr - offset, python.tasks)
        if gil is not None and gil.holder is not None:
            break
    else:
        return None
    holder = python.tasks[gil.holder.tid]
    wait = Wait(
        blocked.task,
        Lock("gil", gil.address, "GIL", ("private", blocked.process.pid, gil.address)),
    )
    if not gil.locked or holder == blocked.task:
        return wait.but(evidence=("the GIL changes hands just now",))
    return wait.but(
        holders=(holder,),
        evidence=(f"the GIL records the thread state {gil.holder.address:#x} of tid {holder.tid}",),
    )
