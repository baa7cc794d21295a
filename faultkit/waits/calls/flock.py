"""flock(2): the lock belongs to an open file description, so whoever has that one open may
release it; /proc/PID/fdinfo tells which descriptors carry it (show_fd_locks in fs/locks.c)."""

from __future__ import annotations

from faultkit.model import Lock, Wait
from faultkit.procfs.locks import FLOCK
from faultkit.waits import _file_locks
from faultkit.waits._ipc import IN_A_CORE, fd_argument, unknown_holder
from faultkit.world import Blocked

SYSCALLS = frozenset({73})  # flock
PRIORITY = 50
LOCK_SH, LOCK_EX, LOCK_NB = 1, 2, 4


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task in flock(); OUTSIDE when no conflicting lock is left."""
    fd = fd_argument(blocked)
    operation = blocked.call.args[1] & ~LOCK_NB
    if operation not in (LOCK_SH, LOCK_EX):
        return None
    mode = "read" if operation == LOCK_SH else "write"
    if blocked.machine is None:
        return unknown_holder(blocked, Lock("flock", name=f"fd {fd}"), IN_A_CORE, mode=mode)
    file = _file_locks.file_of(blocked, fd)
    if file is None:
        return _file_locks.unreadable(blocked, "flock", fd, mode)
    # The waiter's own description holds nothing: flock_lock_inode drops its old lock first.
    holders = [
        (pid, lock)
        for pid, other, info in _file_locks.lockers(blocked.world, file)
        for lock in info.locks
        if lock.kind == FLOCK and lock.file == file.key and lock.conflicts(mode, 0, 0)
        if not blocked.machine.same_description(blocked.task.pid, fd, pid, other)
    ]
    return _file_locks.wait(blocked, "flock", file, mode, (FLOCK,), holders, (0, 0))
