"""Priority-inheriting mutexes: the kernel's FUTEX_LOCK_PI, and the thread that glibc parks for
good when the kernel refuses it (nptl/pthread_mutex_lock.c, __pthread_mutex_lock_full): with
EDEADLK, as it would close a cycle, or with ESRCH, as the owner of a mutex that is not robust has
exited.  Which of the two it was is not kept: the mutex and its owner have to tell."""

from __future__ import annotations

from collections.abc import Iterable

from faultkit.layouts.glibc import (
    FUTEX_TID_MASK,
    PID_MAX_LIMIT,
    PRIO_INHERIT,
    ROBUST,
    SHARED,
    read_mutex,
)
from faultkit.model import Lock, Wait
from faultkit.target import ReadError
from faultkit.waits import _futex
from faultkit.waits._callers import inside_mutex_lock, mutex_of_call
from faultkit.waits._owner import held_by, unowned
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 10

KIND_AT = 16  # offset of __kind in a mutex
PARK_FRAMES = 96  # words of stack above the parked thread's sp that may hold the mutex's address
PARKED = "glibc parked this thread for good: the kernel answered "


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in FUTEX_LOCK_PI, or a thread parked after the kernel refused one."""
    call = _futex.parse(blocked)
    if call is None or call.now is None:
        return None
    if call.operation in (_futex.LOCK_PI, _futex.LOCK_PI2):
        return _waiting(blocked, call, call.uaddr, call.private)
    if call.value == 0 and call.now == 0 and not call.timed:
        return _parked(blocked, call)
    return None


def _waiting(blocked: Blocked, call: _futex.FutexCall, address: int, private: bool) -> Wait:
    word = blocked.process.u32(address)
    owner = word & FUTEX_TID_MASK
    lock = Lock("pthread_mutex", address, key=_futex.lock_key(blocked, address, private))
    evidence = (f"priority-inheriting mutex, its word names tid {owner}",)
    if owner == 0:
        return unowned(blocked, lock, evidence)
    if owner > PID_MAX_LIMIT:
        return Wait(
            blocked.task,
            lock,
            fault="corrupt-lock",
            fault_detail=f"its word {word:#x} names an impossible thread",
            evidence=evidence,
        )
    return held_by(
        blocked, lock, owner, private, timed=call.timed, evidence=evidence, inherits=True
    )


def _parked(blocked: Blocked, call: _futex.FutexCall) -> Wait | None:
    """A thread asleep on a zero in its own stack, in a function that locks a mutex or with a
    priority-inheriting one at hand.  The mutex that the kernel refused is what that function was
    given; where this can't be told, the one that registers and innermost frames name."""
    sp = blocked.call.sp
    if not sp <= call.uaddr < sp + 8 * PARK_FRAMES:
        return None
    near = _refused(blocked, call, _near(blocked, sp))
    is_locking = inside_mutex_lock(blocked)
    if not near and not is_locking:
        return None
    given = mutex_of_call(blocked)
    if given is not None and _inherits(blocked, given):
        return _one_of(blocked, _refused(blocked, call, [given]), is_locking)
    return _one_of(blocked, near or _refused(blocked, call, _passed(blocked)), is_locking)


def _one_of(blocked: Blocked, found: list[Wait], is_locking: bool) -> Wait | None:
    """The wait of a parked thread that can have been refused these mutexes.

    One that another thread holds goes before those of its own, which a thread has at hand
    anyway.  An owner that has exited is as good a reason as a cycle: both leave it open."""
    dead = [wait for wait in found if wait.fault]
    others = [wait for wait in found if not wait.fault and wait.holders != (blocked.task,)]
    own = [wait for wait in found if wait.holders == (blocked.task,)]
    if dead and len(found) == 1 and is_locking:
        return dead[0].but(evidence=(*dead[0].evidence, PARKED + "ESRCH"))
    living = others or own
    if not dead and len(living) == 1:
        evidence = (*living[0].evidence, PARKED + "EDEADLK")
        return living[0].but(evidence=evidence, refused=True)
    return _untold(blocked, closes_cycle=not dead) if is_locking else None


def _untold(blocked: Blocked, closes_cycle: bool) -> Wait:
    """Parked over a mutex that could not be told.  If no owner at hand has exited, it may be told
    by who waits for this thread, since the kernel refuses a living owner's only if that closes a
    cycle."""
    moves = blocked.process.live and not blocked.process.stopped  # then nobody knows its registers
    attach = f"ask attached (gdb -p {blocked.task.pid}), as registers may tell, or " * moves
    return Wait(
        blocked.task,
        Lock("pthread_mutex", key=(_futex.REFUSED, blocked.task.pid, blocked.task.tid)),
        evidence=(PARKED + "EDEADLK or ESRCH",),
        inherits=True,
        refused=closes_cycle,
        missing="the kernel refused a thread a priority-inheriting mutex, because that closes a "
        "cycle (EDEADLK) or because the owner has exited (ESRCH); which mutex could not be told: "
        f"{attach}see what thread {blocked.task.tid} locks, by its back trace",
    )


def _near(blocked: Blocked, sp: int) -> list[int]:
    """Words that may point to the mutex, or to its __kind, which glibc keeps at hand."""
    try:
        words = blocked.process.words(sp, PARK_FRAMES)
    except ReadError:
        words = ()
    near = (*blocked.process.registers(blocked.task).values(), *words)
    return [place for word in near for place in (word, word - KIND_AT)]


def _passed(blocked: Blocked) -> list[int]:
    """What the thread's live calls were passed; unwinds, so only when nothing else tells."""
    from faultkit.infer.calls import first_arguments

    return first_arguments(blocked.world, blocked.process, blocked.task)


def _inherits(blocked: Blocked, address: int) -> bool:
    """Whether there is a priority-inheriting mutex."""
    try:
        mutex = read_mutex(blocked.process, address)
    except ReadError:
        return False
    return bool(mutex.kind & PRIO_INHERIT and mutex.kind_known)


def _refused(blocked: Blocked, call: _futex.FutexCall, addresses: Iterable[int]) -> list[Wait]:
    """The waits for those priority-inheriting mutexes among the addresses that the kernel can
    have refused: each is held, or was when its owner exited.

    __owner must repeat the tid in the word, as glibc does once it has seen it taken."""
    found = []
    for address in dict.fromkeys(addresses):
        if address & 7 or not 0x1000 < address < 1 << 47 or not _inherits(blocked, address):
            continue
        mutex = read_mutex(blocked.process, address)
        holder = mutex.lock & FUTEX_TID_MASK
        if not 0 < holder <= PID_MAX_LIMIT or holder != mutex.owner:
            continue
        wait = _waiting(blocked, call, address, not mutex.kind & SHARED)
        if not wait.fault or (wait.fault == "orphaned-lock" and not mutex.kind & ROBUST):
            found.append(wait)  # a robust one's owner that exits hands it on, with EOWNERDEAD
    return found
