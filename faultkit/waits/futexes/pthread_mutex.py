"""glibc's pthread_mutex_t of every kind but priority inheriting (nptl/pthread_mutex_lock.c);
also std::mutex, std::recursive_mutex, std::timed_mutex and mtx_t, which are the same object."""

from __future__ import annotations

import struct

from faultkit.layouts.glibc import (
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
    PID_MAX_LIMIT,
    PRIO_INHERIT,
    PRIO_PROTECT,
    ROBUST,
    Mutex,
    read_mutex,
)
from faultkit.model import Lock, Wait
from faultkit.waits import _futex
from faultkit.waits._callers import innermost_functions, inside_mutex_lock
from faultkit.waits._owner import held_by, task_of, unowned
from faultkit.world import Blocked

SYSCALLS = _futex.SYSCALLS
PRIORITY = 30

CONTENDED = 2  # the value slept on; the word itself can only be 0, 1 or 2
SPINS_AT = 20  # offset of __spins, __elision and the list of robust mutexes
MANY = 1 << 20  # more users of one mutex than there can be
UNLOCKS = 4096  # that were one too many: each takes a user off, and does no harm else


def recognise(blocked: Blocked) -> Wait | None:
    """A wait for a mutex: by the words behind the futex, in doubt by the function it is in."""
    call = _futex.parse(blocked)
    if call is None or call.operation not in (_futex.WAIT, _futex.WAIT_BITSET):
        return None
    if call.now is None:
        return None
    mutex = read_mutex(blocked.process, call.uaddr)
    if mutex.kind & ROBUST and mutex.kind_known and not mutex.kind & PRIO_INHERIT:
        return _robust(blocked, call, mutex)
    if mutex.kind & PRIO_PROTECT and mutex.kind_known:
        if call.value & 0x7FFFF != CONTENDED:
            return None
    elif call.value != CONTENDED:
        return None
    if not call.can_be_glibc:
        return None
    return _plain(blocked, call, mutex)


def _lock(blocked: Blocked, call: _futex.FutexCall) -> Lock:
    key = _futex.lock_key(blocked, call.uaddr, call.private)
    return Lock("pthread_mutex", call.uaddr, key=key)


def _robust(blocked: Blocked, call: _futex.FutexCall, mutex: Mutex) -> Wait | None:
    """The word of a robust mutex is its owner's tid and FUTEX_WAITERS."""
    owner = mutex.lock & FUTEX_TID_MASK
    if not call.value & FUTEX_WAITERS:  # which every waiter sets before it sleeps
        return None
    # robust mutexes always sleep without FUTEX_PRIVATE_FLAG; the kind tells who can share it
    private = not mutex.kind & 128
    lock = Lock("pthread_mutex", call.uaddr, key=_futex.lock_key(blocked, call.uaddr, private))
    evidence = (f"{mutex.flavour} mutex, its word names tid {owner}",)
    if owner == 0:
        return unowned(blocked, lock, evidence)
    if owner > PID_MAX_LIMIT:
        return _corrupt(
            Wait(blocked.task, lock, evidence=evidence),
            mutex,
            f"its owner {owner:#x} can be no thread",
        )
    return held_by(blocked, lock, owner, private, timed=call.timed, evidence=evidence)


def _plain(blocked: Blocked, call: _futex.FutexCall, mutex: Mutex) -> Wait | None:
    """Word 0, 1 or 2; the owner's tid is two words on."""
    wait = Wait(blocked.task, _lock(blocked, call), timed=call.timed)
    protect = mutex.kind_known and mutex.kind & PRIO_PROTECT
    word = mutex.lock & 0x7FFFF if protect else mutex.lock
    owner_alive = task_of(blocked, mutex.owner) is not None
    shaped = mutex.kind_known and _is_count(mutex.nusers) and mutex.depth < MANY
    if word <= 2 and shaped and 0 < mutex.owner <= PID_MAX_LIMIT:
        # an owner counts as a user; and a small number, in a container a tid, may be a neighbour
        sure = owner_alive and mutex.nusers and mutex.owner >= _futex.SMALL
        if not sure and not _is_mutex(blocked, call.uaddr, mutex):
            return None
        evidence = (f"{mutex.flavour} mutex, its owner field is {mutex.owner}",)
        held = held_by(
            blocked, wait.lock, mutex.owner, call.private, timed=call.timed, evidence=evidence
        )
        if held.holders == (blocked.task,) and mutex.kind & 3 == 1:
            return _corrupt(
                wait.but(evidence=evidence), mutex, "a recursive mutex never makes its owner wait"
            )
        return held
    if word <= 2 and shaped and mutex.owner == 0:
        return _without_owner(blocked, wait, mutex, word)
    if word <= 2 and owner_alive and 0 < mutex.nusers < MANY:
        return _corrupt(wait, mutex, f"its kind {mutex.kind:#x} is impossible")
    if not _is_mutex(blocked, call.uaddr, mutex if word <= 2 and shaped else None):
        return None  # let another provider say
    what = []
    if word > 2:
        what.append(f"its word {mutex.lock:#x} is none of 0, 1, 2")
    if mutex.owner > PID_MAX_LIMIT or (mutex.owner and not owner_alive):
        what.append(f"its owner {mutex.owner:#x} can be no thread")
    if not mutex.kind_known:
        what.append(f"its kind {mutex.kind:#x} is impossible")
    if not _is_count(mutex.nusers):
        what.append(f"its users {mutex.nusers:#x} are too many")
    return _corrupt(wait, mutex, ", ".join(what)) if what else None


def _is_count(users: int) -> bool:
    """Whether __nusers, which glibc counts and never looks at, may be what it counted."""
    return users < MANY or users >= (1 << 32) - UNLOCKS


def _is_mutex(blocked: Blocked, address: int, mutex: Mutex | None) -> bool:
    """Whether words that name no living owner are a mutex at all, and not, say, the inside of a
    condition variable: by the function the waiter is in; in a program without symbols by the
    rest of the object, `mutex` being its sound beginning (None: it is not sound)."""
    if innermost_functions(blocked) or inside_mutex_lock(blocked):
        return inside_mutex_lock(blocked)
    if mutex is None or not 0 < mutex.nusers < MANY:
        return False
    if blocked.process.mapping(mutex.owner | mutex.nusers << 32) is not None:
        return False  # the two words are a pointer
    rest = blocked.process.read(address + SPINS_AT, 20)
    spins, elision, previous, following = struct.unpack("<2H2Q", rest)
    return bool(elision == 0 and spins < 1000 and previous == following == 0)


def _without_owner(blocked: Blocked, wait: Wait, mutex: Mutex, word: int) -> Wait | None:
    """Nobody owns it: free, or just being taken or released (or it is not a mutex)."""
    if not inside_mutex_lock(blocked):
        return None
    if word == 0:
        return wait.but(
            fault="lost-wakeup",
            fault_detail="the mutex is free: its word is 0 and it has no owner",
            evidence=(f"{mutex.flavour} mutex, word 0, owner 0",),
        )
    return wait.but(
        changing=True,
        missing="the mutex is locked but names no owner: it changes hands just now "
        "(look again), or its owner field was overwritten",
    )


def _corrupt(wait: Wait, mutex: Mutex, detail: str) -> Wait:
    words = ", ".join(f"{name} {value:#x}" for name, value in zip(Mutex._fields, mutex))
    return wait.but(
        fault="corrupt-lock", fault_detail=detail, evidence=(*wait.evidence, f"words: {words}")
    )
