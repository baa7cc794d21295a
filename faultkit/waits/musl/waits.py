"""musl's other waits: join, semaphore, condition variable, once, stdio and internal locks."""

from __future__ import annotations

from faultkit.layouts import musl
from faultkit.model import EVENT, INFERRED, Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, FutexCall, lock_key, parse
from faultkit.waits._owner import task_of
from faultkit.waits.musl import libc_is_musl
from faultkit.world import Blocked

PRIORITY = 8

ON_STACK = 64 << 10  # a waiter's node is in the waiting function's own frame
FILE_WAITERS = 0x40000000  # MAYBE_WAITERS, src/internal/stdio_impl.h


def recognise(blocked: Blocked) -> Wait | None:
    """A wait of musl's that is neither mutex nor rwlock."""
    call = parse(blocked)
    if call is None or call.operation != WAIT:
        return None
    for kind in (_join, _stdio, _semaphore, _condvar, _once, _internal):
        wait = kind(blocked, call)
        if wait is not None:
            return wait.but(timed=call.timed)
    return None


def _lock(blocked: Blocked, call: FutexCall, kind: str) -> Lock:
    return Lock(kind, call.uaddr, key=lock_key(blocked, call.uaddr, call.private))


def _join(blocked: Blocked, call: FutexCall) -> Wait | None:
    """pthread_join waits for the target's detach_state to change."""
    if call.value not in musl.JOINABLE:
        return None
    threads = blocked.world.threads(blocked.process)
    tid = musl.joined_thread(blocked.process, call.uaddr, threads)
    if tid is None:
        return None
    evidence = (f"waits for thread {tid} to exit: its struct pthread holds the word",)
    lock = _lock(blocked, call, "join")
    return Wait(blocked.task, lock, EVENT, holders=(threads[tid],), evidence=evidence)


def _stdio(blocked: Blocked, call: FutexCall) -> Wait | None:
    """__lockfile: FILE.lock holds the owner's tid (src/stdio/__lockfile.c)."""
    if not call.private or call.value & 0xC0000000 != FILE_WAITERS:
        return None
    owner = task_of(blocked, call.value & musl.TID_MASK)
    if owner is None or call.now != call.value:
        return None
    evidence = (f"stdio lock of musl: owner tid {call.value & musl.TID_MASK}",)
    return Wait(blocked.task, _lock(blocked, call, "stdio"), holders=(owner,), evidence=evidence)


def _semaphore(blocked: Blocked, call: FutexCall) -> Wait | None:
    """sem_timedwait: -1, or since 1.2.3 the top bit alone, while nobody posts."""
    if call.value not in (0xFFFFFFFF, musl.WAITERS):
        return None
    if musl.read_semaphore(blocked.process, call.uaddr, call.private) is None:
        return None
    if call.value == musl.WAITERS and not _surely_musl(blocked):
        return None  # std::future's word looks like that, too
    return Wait(blocked.task, _lock(blocked, call, "semaphore"), EVENT, confidence=INFERRED)


def _condvar(blocked: Blocked, call: FutexCall) -> Wait | None:
    """pthread_cond_timedwait: a private waiter sleeps on `barrier` (2) of its own node, whose
    `state` before it is 0, WAITING.  A node has pointers before these two, so that `barrier` is
    in the upper half of eight bytes; a lock of glibc's on a stack is not."""
    if call.value != 2 or not 0 < call.uaddr - blocked.call.sp < ON_STACK or call.uaddr & 7 != 4:
        return None
    if blocked.process.u32(call.uaddr - 4) != 0 or call.now != 2:
        return None
    return Wait(blocked.task, _lock(blocked, call, "condvar"), EVENT, confidence=INFERRED)


def _once(blocked: Blocked, call: FutexCall) -> Wait | None:
    """__pthread_once_full: 3 is "running, with waiters"."""
    if call.value != 3 or call.now != 3 or not _surely_musl(blocked):
        return None
    return Wait(
        blocked.task,
        _lock(blocked, call, "once"),
        confidence=INFERRED,
        evidence=("pthread_once: another thread is inside the initialisation",),
        candidates=blocked.world.members(blocked.process),
        missing="musl does not record which thread runs a pthread_once initialisation",
    )


def _internal(blocked: Blocked, call: FutexCall) -> Wait | None:
    """__lock: INT_MIN plus the number of threads in and before it (src/thread/__lock.c)."""
    count = call.value & ~musl.WAITERS
    if not call.value & musl.WAITERS or not 0 < count < 0x10000 or not call.private:
        return None
    if not _surely_musl(blocked):
        return None
    return Wait(
        blocked.task,
        _lock(blocked, call, "lowlevellock"),
        confidence=INFERRED,
        evidence=(f"internal lock of musl, {count} threads in and before it",),
        candidates=blocked.world.members(blocked.process),
        missing="musl's internal locks record no owner",
    )


def _surely_musl(blocked: Blocked) -> bool:
    return libc_is_musl(blocked.process) is True or _main_is_musl(blocked)


def _main_is_musl(blocked: Blocked) -> bool:
    """Whether the waiter's struct pthread, above its stack, is musl's: for static programs."""
    from faultkit.waits._stack import live_stack, words

    tids = blocked.world.threads(blocked.process)
    data = live_stack(blocked.process, blocked.call.sp, ON_STACK)
    base = blocked.call.sp
    for index, word in enumerate(words(data)):
        if word == base + 8 * index:
            tid = musl.thread_of_descriptor(blocked.process, word, tids)
            if tid is not None and tids[tid] == blocked.task:
                return True
    return False
