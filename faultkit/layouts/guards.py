"""Scoped lock guards of C++ and Rust as debug information shows them.

A guard is a local object that holds a lock for as long as it lives.  Its type's name says so;
its members point to the lock, and some carry a flag that tells whether they own it now.
"""

from __future__ import annotations

import re
from collections.abc import Container

from faultkit.record import NamedTuple
from faultkit.target import Local


class GuardType(NamedTuple):
    """One family of guards: types that match `pattern`; `flags` are the names of members that
    must not be zero while the lock is held; `shared` if it holds for reading; `droppable` if the
    variable can outlive its guard (Rust moves a guard away without a trace in the variable)."""

    pattern: str
    flags: tuple[str, ...] = ()
    shared: bool = False
    droppable: bool = False


def _type(pattern: str, *flags: str, shared: bool = False, droppable: bool = False) -> GuardType:
    return GuardType(pattern, flags, shared, droppable)


_STD = r"^(const |class |struct )*std::(__\w+::)?"
_BOOST = r"^(const |class |struct )*boost::(sync::|interprocess::)?"
_RUST = r"^(struct |&|mut )*(std|lock_api|parking_lot|tokio|spin)::(\w+::)*"

GUARDS = (
    # libstdc++: bits/std_mutex.h, bits/unique_lock.h, <mutex>, <shared_mutex>; libc++: <mutex>
    _type(_STD + r"lock_guard<"),
    _type(_STD + r"scoped_lock<"),
    _type(_STD + r"unique_lock<", "_M_owns", "__owns_"),
    _type(_STD + r"shared_lock<", "_M_owns", "__owns_", shared=True),
    # boost/thread/lock_types.hpp, lock_guard.hpp
    _type(_BOOST + r"(lock_guard|scoped_lock|strict_lock)<", "m_locked", "mp_locked"),
    _type(_BOOST + r"(unique_lock|upgrade_lock)<", "is_locked", "m_locked"),
    _type(_BOOST + r"(shared_lock|sharable_lock)<", "is_locked", "m_locked", shared=True),
    # absl/synchronization/mutex.h, Qt's qmutex.h and qreadwritelock.h, folly, glib
    _type(r"^(const |class |struct )*absl::(\w+::)?(Writer)?MutexLock$"),
    _type(r"^(const |class |struct )*absl::(\w+::)?ReaderMutexLock$", shared=True),
    _type(r"^(const |class |struct )*Q(Mutex|Write)Locker\b", "isLocked"),
    _type(r"^(const |class |struct )*QReadLocker\b", shared=True),
    # library/std/src/sync: mutex, rwlock, reentrant_lock; lock_api and parking_lot
    _type(_RUST + r"(MutexGuard|RwLockWriteGuard)<", droppable=True),
    _type(_RUST + r"ReentrantLockGuard<", droppable=True),
    _type(_RUST + r"RwLockReadGuard<", shared=True, droppable=True),
)


def guard_type(local: Local) -> GuardType | None:
    """What kind of guard the variable is; None if it is none."""
    return next((guard for guard in GUARDS if re.search(guard.pattern, local.type)), None)


def guard_of(local: Local, lock: Container[int]) -> GuardType | None:
    """The kind of guard, if the variable is one that holds the lock with these addresses.

    It does not when its flag says that it owns nothing, or when it is declared on the frame's
    current line or later: then it is being made, or was not made yet.
    """
    guard = guard_type(local)
    if guard is None:
        return None
    if local.line is not None and local.frame_line is not None and local.line >= local.frame_line:
        return None
    members = {path.rpartition(".")[2]: value for path, value in local.pointers.items()}
    if any(members.get(flag, 1) & 0xFF == 0 for flag in guard.flags):
        return None
    if any(value in lock for value in local.pointers.values()):
        return guard
    return None
