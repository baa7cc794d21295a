"""How musl lays out pthread objects on x86_64 (src/internal/pthread_impl.h).

musl programs are often static and stripped: nothing names the library, so each shape is
verified by its own words.  Functions return None where the words are not such an object.
"""

from __future__ import annotations

import struct
from collections.abc import Container

from faultkit.record import NamedTuple
from faultkit.target import Process, ReadError

WAITERS = 0x80000000  # somebody waits: set in every lock word by the waiter itself
OWNER_DIED = 0x40000000
TID_MASK = 0x3FFFFFFF
EBUSY = 16  # what a locked normal mutex holds (src/thread/pthread_mutex_trylock.c)
WRITE_LOCKED = 0x7FFFFFFF
MAX_WAITERS = 1 << 22

TYPE_MASK, ROBUST, PRIO_INHERIT, SHARED = 3, 4, 8, 128
TYPES = ("normal", "recursive", "errorcheck")
LOCK_AT = 4  # _m_lock, the word waited on, follows _m_type


class Mutex(NamedTuple):
    """pthread_mutex_t: {_m_type, _m_lock, _m_waiters, ...}; `address` is the object's, four
    bytes before the futex word."""

    address: int
    type: int
    lock: int
    waiters: int

    @property
    def records_owner(self) -> bool:
        """Every type but the plain normal one holds its owner's tid."""
        return bool(self.type & (TYPE_MASK | ROBUST | PRIO_INHERIT))

    @property
    def owner(self) -> int:
        """The tid in the lock word; meaningless for a normal mutex."""
        return self.lock & TID_MASK

    @property
    def flavour(self) -> str:
        """The type in words."""
        robust = "robust " if self.type & ROBUST else ""
        inherit = "priority-inheriting " if self.type & PRIO_INHERIT else ""
        return robust + inherit + TYPES[self.type & TYPE_MASK]


def read_mutex(process: Process, uaddr: int, private: bool) -> Mutex | None:
    """The mutex whose lock word is at `uaddr`, or None.  A waiter has counted itself in
    _m_waiters (src/thread/pthread_mutex_timedlock.c)."""
    try:
        kind, lock, waiters = struct.unpack("<3I", process.read(uaddr - LOCK_AT, 12))
    except ReadError:
        return None
    if kind & ~(TYPE_MASK | ROBUST | PRIO_INHERIT | SHARED) or kind & TYPE_MASK == 3:
        return None
    if bool(kind & SHARED) == private or not 0 < waiters <= MAX_WAITERS:
        return None
    return Mutex(uaddr - LOCK_AT, kind, lock, waiters)


class RwLock(NamedTuple):
    """pthread_rwlock_t: {_rw_lock, _rw_waiters, _rw_shared} (the futex word is the first)."""

    lock: int
    waiters: int
    shared: int


def read_rwlock(process: Process, uaddr: int, private: bool) -> RwLock | None:
    """The rwlock at `uaddr` that somebody waits for, or None.  The rest of it is as it was made:
    zero, where a robust mutex of glibc's, whose owner's tid happens to be SHARED, has its kind."""
    words = struct.unpack("<14I", process.read(uaddr, 56))
    rwlock = RwLock(*words[:3])
    if not 0 < rwlock.waiters <= MAX_WAITERS or any(words[3:]):
        return None
    if rwlock.shared != (0 if private else SHARED):
        return None
    return rwlock


class Semaphore(NamedTuple):
    """sem_t: {value and waiters flag, waiters, private: 128 or 0} (src/thread/sem_init.c)."""

    value: int
    waiters: int
    private: int


def read_semaphore(process: Process, uaddr: int, private: bool) -> Semaphore | None:
    """The semaphore at `uaddr` that somebody waits for, or None."""
    semaphore = Semaphore(*struct.unpack("<3I", process.read(uaddr, 12)))
    if not 0 < semaphore.waiters <= MAX_WAITERS:
        return None
    if semaphore.private != (SHARED if private else 0):
        return None
    return semaphore


TID_AT, DETACH_STATE_AT = 0x30, 0x38  # of struct pthread since 1.1.23 or so; probed around
JOINABLE = (1, 2)  # DT_EXITING and DT_JOINABLE: what pthread_join waits to change


def thread_of_descriptor(process: Process, descriptor: int, tids: Container[int]) -> int | None:
    """The tid of the thread whose struct pthread is at `descriptor` (a pthread_t), or None.

    The block points to itself at its start, and its neighbours in the list of threads point
    back to it (self, dtv, prev, next since 1.2; the tid follows within 64 bytes).
    """
    if descriptor == 0 or descriptor & 7:
        return None
    try:
        head = process.words(descriptor, 4)
        if head[0] != descriptor:
            return None
        if process.u64(head[2] + 24) != descriptor or process.u64(head[3] + 16) != descriptor:
            return None
        window = struct.unpack("<16I", process.read(descriptor + 32, 64))
    except ReadError:
        return None
    usual: int = window[(TID_AT - 32) // 4]
    if usual in tids:
        return usual
    return next((word for word in window if word in tids), None)


def joined_thread(process: Process, uaddr: int, tids: Container[int]) -> int | None:
    """The tid of the thread whose detach_state is the word at `uaddr`, or None
    (src/thread/pthread_join.c)."""
    for offset in (DETACH_STATE_AT, 0x3C, 0x40, 0x44, 0x34, 0x30):
        tid = thread_of_descriptor(process, uaddr - offset, tids)
        if tid is not None:
            return tid
    return None
