"""How Rust's standard library (1.62 and newer, on Linux) lays out its locks."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from faultkit.target import Process, ReadError

# Mutex: 0 unlocked, 1 locked, 2 locked and contended (sys/sync/mutex/futex.rs)
CONTENDED = 2

# RwLock: {state, writer_notify} (sys/sync/rwlock/futex.rs)
READERS_WAITING, WRITERS_WAITING = 1 << 30, 1 << 31
COUNT_MASK = WRITE_LOCKED = (1 << 30) - 1
MAX_READERS = 1 << 16  # more than a real program has; the format allows 2**30 - 2

# Parker: 0 empty, 1 notified, -1 parked (sys/sync/thread_parking/futex.rs)
PARKED = 0xFFFFFFFF

# Once: what its waiters sleep on, RUNNING | QUEUED (5 since COMPLETE is 0; 6 in 1.85), or QUEUED
# in older ones (sys/sync/once/futex.rs); up to 1.63 they are parked
ONCE_RUNNING_QUEUED = frozenset((5, 6))
ONCE_RUNNING = ONCE_RUNNING_QUEUED | {3}

MARKS = (b"library/std/src/", b"/rustc/", b"RUST_BACKTRACE")  # survive strip: in panic messages
CHUNK, MOST = 1 << 20, 64 << 20  # how much of the images is searched, in bytes

_runs_rust: WeakKeyDictionary[Process, bool | None] = WeakKeyDictionary()


def runs_rust(process: Process) -> bool | None:
    """Whether a mapped image holds the strings that every program with Rust's std holds, also
    when stripped; None where no image can be read."""
    if process not in _runs_rust:
        _runs_rust[process] = _search(process)
    return _runs_rust[process]


def _search(process: Process) -> bool | None:
    left, seen = MOST, False
    for mapping in process.files():
        name = mapping.path.rsplit("/", 1)[-1]
        if mapping.perms[1:3] in ("w-", "wx"):
            continue
        if name.startswith(("libc.so", "libc-2", "ld-linux", "libm.so", "libpthread", "locale")):
            continue
        at = mapping.start
        while at < mapping.end and left > 0:
            size = min(CHUNK, mapping.end - at)
            try:
                data = process.read(at, size)
            except ReadError:
                break
            seen = True
            if any(mark in data for mark in MARKS):
                return True
            at, left = at + size, left - size
    return False if seen else None
