"""Read-write locks of musl: a count of readers, or a mark for a writer; never who."""

from __future__ import annotations

from faultkit.layouts import musl
from faultkit.model import INFERRED, Lock, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, lock_key, parse
from faultkit.world import Blocked

PRIORITY = 7

NO_OWNER = "musl's rwlock records neither its writer nor its readers"


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in pthread_rwlock_timedrdlock or _timedwrlock (src/thread); only writers wait for
    readers, both wait for a writer."""
    call = parse(blocked)
    if call is None or call.operation != WAIT or not call.value & musl.WAITERS:
        return None
    if call.value == musl.WAITERS:
        return None
    readers = call.value & ~musl.WAITERS
    if readers != musl.WRITE_LOCKED and readers > musl.MAX_WAITERS:
        return None
    rwlock = musl.read_rwlock(blocked.process, call.uaddr, call.private)
    if rwlock is None:
        return None
    lock = Lock("rwlock", call.uaddr, key=lock_key(blocked, call.uaddr, call.private))
    wait = Wait(
        blocked.task,
        lock,
        timed=call.timed,
        confidence=INFERRED,
        candidates=blocked.world.members(blocked.process),
        missing=NO_OWNER,
    )
    if readers != musl.WRITE_LOCKED:
        what = f"musl rwlock, held by {readers} reader{'s' if readers > 1 else ''}"
        return wait.but(mode="write", holder_count=readers, evidence=(what,))
    return wait.but(
        mode=_mode(blocked), holder_count=1, evidence=("musl rwlock, held by a writer",)
    )


def _mode(blocked: Blocked) -> str | None:
    names = innermost_functions(blocked)
    if any("wrlock" in name for name in names):
        return "write"
    return "read" if any("rdlock" in name for name in names) else None
