"""Any other futex: a lock written by hand, or something that no provider knows."""

from __future__ import annotations

from faultkit.layouts.glibc import FUTEX_TID_MASK, FUTEX_WAITERS
from faultkit.model import EVENT, HELD, INFERRED, Lock, Wait
from faultkit.waits import _futex
from faultkit.waits._owner import sharer_of, task_of
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 90

MOST_STATES = 1 << 16  # a word that counts or holds a state does not jump beyond
CONTENDED = 2  # what most hand-written locks sleep on


def recognise(blocked: Blocked) -> Wait | None:
    """A wait on a futex word; its holder only if the word is a living thread's id."""
    call = _futex.parse(blocked)
    if call is None:
        return None
    lock = Lock("futex", call.uaddr, key=_futex.lock_key(blocked, call.uaddr, call.private))
    is_own = lock.key is not None and lock.key[0] == "private"  # whatever the call's flag says
    wait = Wait(blocked.task, lock, needs=EVENT, any_of=True, timed=call.timed)
    if call.now is None:
        return wait.but(
            missing=f"the futex word at {call.uaddr:#x} can't be read; if this is a core, it is "
            "truncated or lacks shared mappings (coredump_filter)"
        )
    tid = call.now & FUTEX_TID_MASK
    if call.value == call.now and (tid >= _futex.SMALL or call.now & FUTEX_WAITERS):
        owner = task_of(blocked, tid, lock)
        if owner is None and call.now & FUTEX_WAITERS:
            owner = sharer_of(blocked, tid, lock)
        if owner is not None and owner != blocked.task:
            return wait.but(
                needs=HELD,
                any_of=False,
                holders=(owner,),
                confidence=INFERRED,
                evidence=(f"the word slept on holds tid {tid} of a living thread",),
            )
    if call.value == call.now == CONTENDED:
        return wait.but(
            needs=HELD,
            any_of=False,
            candidates=blocked.world.members(blocked.process),
            evidence=("sleeps on the value 2, as hand-written locks do when contended",),
            missing=f"the futex at {call.uaddr:#x} records no owner that is known here",
        )
    if call.value == CONTENDED and call.now > MOST_STATES:
        return wait.but(
            needs=HELD,
            any_of=False,
            changing=True,
            missing=f"the futex at {call.uaddr:#x} was 2 when threads went to sleep on it and is "
            f"{call.now:#x} now: if it is a lock, its memory was overwritten (valgrind, or "
            "-fsanitize=address, finds the bug; memtest failing memory)",
        )
    return wait.but(
        candidates=blocked.world.members(blocked.process) if is_own else None,
        evidence=(f"sleeps on the value {call.value:#x}, now {call.now:#x}",),
    )
