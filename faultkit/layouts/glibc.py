"""How glibc lays out pthread objects on x86_64, as far as diagnosis needs it.

The structures are read by shape and verified by their own contents: distributions backport
layout changes, so a version number would prove nothing.  Functions return None where the bytes
are not such an object.
"""

from __future__ import annotations

import struct
from collections.abc import Container

from faultkit.record import NamedTuple
from faultkit.target import Process, ReadError

PID_MAX_LIMIT = 4 * 1024 * 1024  # include/linux/threads.h, on 64 bit: no tid is larger

FUTEX_WAITERS, FUTEX_OWNER_DIED, FUTEX_TID_MASK = 0x80000000, 0x40000000, 0x3FFFFFFF

# nptl/pthreadP.h: the bits of pthread_mutex_t.__data.__kind
TYPE_MASK, ROBUST, PRIO_INHERIT, PRIO_PROTECT = 3, 16, 32, 64
SHARED, ELISION, NO_ELISION = 128, 256, 512
PRIO_CEILING = 0xFFF80000  # of __lock, for PP mutexes
KIND_MASK = TYPE_MASK | ROBUST | PRIO_INHERIT | PRIO_PROTECT | SHARED | ELISION | NO_ELISION
TYPES = ("normal", "recursive", "errorcheck", "adaptive")

# robust owner words (nptl/pthreadP.h): the data behind the mutex was, or is to be, mended
INCONSISTENT, NOT_RECOVERABLE = 0x7FFFFFFF, 0x7FFFFFFE


class Mutex(NamedTuple):
    """pthread_mutex_t.__data: {lock, count (here `depth`), owner, nusers, kind}, unmoved from
    2.17 to 2.41 (sysdeps/nptl/bits/struct_mutex.h, x86)."""

    lock: int
    depth: int
    owner: int
    nusers: int
    kind: int

    @property
    def kind_known(self) -> bool:
        """Whether `kind` holds nothing but bits that glibc sets."""
        return self.kind & ~KIND_MASK == 0

    @property
    def flavour(self) -> str:
        """ "robust recursive", "normal"...: the kind in words."""
        words = []
        if self.kind & ROBUST:
            words.append("robust")
        if self.kind & PRIO_INHERIT:
            words.append("priority-inheriting")
        if self.kind & PRIO_PROTECT:
            words.append("priority-protecting")
        words.append(TYPES[self.kind & TYPE_MASK])
        return " ".join(words)


def read_mutex(process: Process, address: int) -> Mutex:
    """The words at `address` taken as a pthread_mutex_t.  Raises ReadError."""
    return Mutex(*struct.unpack("<5I", process.read(address, 20)))


class RwLock(NamedTuple):
    """pthread_rwlock_t.__data since 2.25 (nptl/pthread_rwlock_common.c): `readers` holds the
    count in bits 3 and up, `cur_writer` the tid of the writer that holds it."""

    readers: int
    writers: int
    wrphase_futex: int
    writers_futex: int
    cur_writer: int
    shared: int
    flags: int
    unused: int = 0  # __pad3, __pad4 and __pad2, all zero since the lock was made

    @property
    def reader_count(self) -> int:
        """How many readers hold it, or wait to."""
        return self.readers >> 3

    @property
    def write_phase(self) -> bool:
        """PTHREAD_RWLOCK_WRPHASE."""
        return bool(self.readers & 1)

    @property
    def write_locked(self) -> bool:
        """PTHREAD_RWLOCK_WRLOCKED: a writer holds it, or is the next to."""
        return bool(self.readers & 2)

    @property
    def plausible(self) -> bool:
        """Whether the words can be a rwlock that somebody waits for."""
        return (
            self.reader_count < PID_MAX_LIMIT
            and self.writers & 0x7FFFFFFF < PID_MAX_LIMIT
            and self.wrphase_futex <= 3
            and self.writers_futex <= 3
            and self.cur_writer <= PID_MAX_LIMIT
            and self.shared in (0, 1)
            and self.flags <= 2
            and self.readers != 0
            and self.unused == 0  # where a mutex behind a small number has its owner
        )


READERS, WRPHASE_FUTEX, WRITERS_FUTEX = 0, 8, 12  # offsets of the three words waited on


def read_rwlock(process: Process, address: int) -> RwLock:
    """The words at `address` taken as a pthread_rwlock_t.  Raises ReadError."""
    words = struct.unpack("<14I", process.read(address, 56))
    unused = words[4] | words[5] | words[10] | words[11]
    readers, writers, wrphase, writing = words[:4]
    return RwLock(readers, writers, wrphase, writing, words[6], words[7], words[12], unused)


class Semaphore(NamedTuple):
    """sem_t with 64-bit atomics (nptl/sem_waitcommon.c): the value in the low half, the number
    of waiters in the high half, then `private`: 0 or LLL_SHARED (128)."""

    value: int
    waiters: int
    private: int
    pad: int


def read_semaphore(process: Process, address: int) -> Semaphore | None:
    """The words at `address` as a semaphore that somebody waits for, or None."""
    semaphore = Semaphore(*struct.unpack("<4I", process.read(address, 16)))
    if semaphore.private not in (0, 128):
        return None
    if not 0 < semaphore.waiters <= PID_MAX_LIMIT or semaphore.value > 0x7FFFFFFF:
        return None
    return semaphore


class Barrier(NamedTuple):
    """struct pthread_barrier (sysdeps/nptl/internaltypes.h, 2.22 and newer)."""

    arrived: int
    current_round: int
    parties: int
    shared: int
    out: int

    @property
    def missing(self) -> int:
        """How many threads have still to arrive in this round."""
        return self.parties - (self.arrived - self.current_round)


def read_barrier(process: Process, address: int) -> Barrier | None:
    """The words at `address` as a barrier that somebody waits at, or None."""
    barrier = Barrier(*struct.unpack("<5I", process.read(address, 20)))
    if barrier.shared not in (0, 1, 128) or not 0 < barrier.parties <= PID_MAX_LIMIT:
        return None
    if not 0 < barrier.arrived - barrier.current_round < barrier.parties:
        return None
    return barrier


class CondVar(NamedTuple):
    """pthread_cond_t since 2.25 (nptl/pthread_cond_common.c): how many wait; `internal` if the
    futex word is one of its own bookkeeping, which nobody sleeps on for long."""

    address: int
    waiters: int
    internal: bool


class _CondVarShape(NamedTuple):
    """Where one version keeps its words: the two group signals, the waiters' count, the sizes
    of the groups, and the words of its own lock and of groups being closed."""

    signals: int
    wrefs: int
    sizes: int
    internal: tuple[int, ...]


# 2.41 dropped __g_refs, and distributions backport that
_CONDVAR_SHAPES = (_CondVarShape(40, 36, 24, (16, 20, 32)), _CondVarShape(32, 28, 16, (24,)))


def read_condvar(process: Process, uaddr: int, most: int) -> CondVar | None:
    """The condition variable that has the futex word `uaddr`, or None; `most` is how many can
    wait for it."""
    for shape in _CONDVAR_SHAPES:
        for signals in (shape.signals, shape.signals + 4):
            waiters = _condvar_waiters(process, uaddr - signals, shape)
            if waiters and waiters <= most:
                return CondVar(uaddr - signals, waiters, False)
    for shape in _CONDVAR_SHAPES:
        for word in shape.internal:
            waiters = _condvar_waiters(process, uaddr - word, shape)
            if waiters is not None and waiters <= most:
                return CondVar(uaddr - word, waiters, True)
    return None


def _condvar_waiters(process: Process, address: int, shape: _CondVarShape) -> int | None:
    """How many wait for the condition variable at `address`; None if that is none.

    wrefs counts the waiters from bit 3 on, wseq from bit 1 on all that ever came, which must be
    somebody; nothing else of it may look like garbage."""
    if address & 7:
        return None
    try:
        data = process.read(address, 48)
    except ReadError:
        return None
    waiters = int.from_bytes(data[shape.wrefs : shape.wrefs + 4], "little") >> 3
    wseq, g1_start = struct.unpack_from("<2Q", data)
    if waiters > PID_MAX_LIMIT or not 0 < wseq >> 1 < 1 << 62:
        return None
    counts = (*struct.unpack_from("<2I", data, 16), *struct.unpack_from("<2I", data, shape.sizes))
    if wseq >> 1 < g1_start >> 1 or max(counts) > 2 * PID_MAX_LIMIT + 1:
        return None
    return waiters


SELF_AT = 0x10  # header.self of struct pthread: tcbhead_t (sysdeps/x86_64/nptl/tls.h)
TID_AT = 0x2D0  # struct pthread.tid, 2.17 to 2.41


def thread_of_descriptor(process: Process, descriptor: int, tids: Container[int]) -> int | None:
    """The tid of the thread whose struct pthread is at `descriptor` (a pthread_t), or None.

    The block must point to itself twice (tcb and self); the tid is looked for around its usual
    place and must be one of `tids`.
    """
    if descriptor == 0 or descriptor & 0xF:
        return None
    try:
        head = process.words(descriptor, 3)
        if head[0] != descriptor or head[2] != descriptor:
            return None
        tid = process.u32(descriptor + TID_AT)
        if tid in tids:
            return tid
        window = process.words(descriptor + 0x280, 32)  # the tid's neighbour has been 0 since 2.25
    except ReadError:
        return None
    return next((word for word in window if word in tids), None)


DESCRIPTOR_SIZE = 0x940  # of struct pthread, or a little more
DESCRIPTOR_ALIGNMENT = 0x40  # TCB_ALIGNMENT


def thread_around(process: Process, address: int, tids: Container[int]) -> tuple[int, int] | None:
    """(descriptor, tid) of the thread whose struct pthread holds `address`, or None."""
    try:
        own = thread_of_descriptor(process, address - TID_AT, tids)
        if own is not None:
            return address - TID_AT, own
        mapping = process.mapping(address)
        lowest = max(address - DESCRIPTOR_SIZE, mapping.start if mapping is not None else 0) & ~7
        words = process.words(lowest, (address - lowest) // 8)
    except ReadError:
        return None
    for index in range(len(words) - 3, -1, -1):
        place = lowest + 8 * index
        if words[index] == place and place % DESCRIPTOR_ALIGNMENT == 0:
            tid = thread_of_descriptor(process, place, tids)
            if tid is not None:
                return place, tid
    return None
