"""fcntl(2) record locks: F_SETLKW, whose owner is a process, and F_OFD_SETLKW, whose owner is
an open file description; lockf(3) is the former.  The two conflict with one another."""

import os
import struct
from typing import Optional

from faultkit.model import Lock, Wait
from faultkit.procfs import fds
from faultkit.procfs.locks import END, FLOCK, OFD, POSIX, FileLock
from faultkit.waits import _file_locks
from faultkit.waits._ipc import IN_A_CORE, fd_argument, unknown_holder
from faultkit.world import Blocked

SYSCALLS = frozenset({72})  # fcntl
PRIORITY = 50
F_SETLKW, F_OFD_SETLKW = 7, 38
MODES = {0: "read", 1: "write"}  # F_RDLCK, F_WRLCK
STRUCT_FLOCK = struct.Struct("<hh4xqqi4x")  # l_type, l_whence, l_start, l_len, l_pid


def recognise(blocked: Blocked) -> Optional[Wait]:
    """The wait of a task in F_SETLKW or F_OFD_SETLKW; None for any other fcntl."""
    fd = fd_argument(blocked)
    command = blocked.call.args[1]
    if command not in (F_SETLKW, F_OFD_SETLKW):
        return None
    data = blocked.process.read(blocked.call.args[2], STRUCT_FLOCK.size)
    kind_of_lock, whence, start, length, _ = STRUCT_FLOCK.unpack(data)
    mode = MODES.get(kind_of_lock)
    if mode is None:
        return None
    kind = "posix_lock" if command == F_SETLKW else "ofd_lock"
    if not blocked.process.live:
        return unknown_holder(blocked, Lock(kind, name=f"fd {fd}"), IN_A_CORE, mode=mode)
    file = _file_locks.file_of(blocked, fd)
    wanted = _range(blocked.task.pid, fd, whence, start, length)
    if file is None or wanted is None:
        return _file_locks.unreadable(blocked, kind, fd, mode)
    own_posix = command == F_SETLKW
    holders = [
        (pid, lock)
        for pid, other, info in _file_locks.lockers(blocked.world, file)
        for lock in info.locks
        if lock.kind != FLOCK and lock.file == file.key and lock.conflicts(mode, *wanted)
        if not _is_own(blocked.task.pid, fd, own_posix, pid, other, lock)
    ]
    # The kernel's own list names the owner also where its descriptors can't be read.
    seen = {lock for _, lock in holders}
    holders += [
        (lock.pid, lock)
        for lock in _file_locks.known_locks(blocked.world, file)
        if lock.kind == POSIX and lock.pid > 0 and lock.conflicts(mode, *wanted)
        if lock not in seen and not (own_posix and lock.pid == blocked.task.pid)
    ]
    return _file_locks.wait(blocked, kind, file, mode, (POSIX, OFD), holders, wanted)


def _is_own(pid: int, fd: int, own_posix: bool, other: int, other_fd: int, lock: FileLock) -> bool:
    """Whether the request and the lock have one owner: they never conflict
    (posix_same_owner in fs/locks.c)."""
    if own_posix:
        return lock.kind == POSIX and other == pid
    if lock.kind != OFD:
        return False
    same = fds.same_description(pid, fd, other, other_fd)
    if same is None:  # no kcmp: the same lock on the waiter's own descriptor is its own
        info = fds.fdinfo(pid, fd)
        return info is None or lock in info.locks
    return same


def _range(pid: int, fd: int, whence: int, start: int, length: int) -> Optional[tuple[int, int]]:
    """The bytes [first, last] that a struct flock means (flock64_to_posix_lock in fs/locks.c);
    None if it means none, or if the descriptor is gone."""
    if whence == os.SEEK_CUR:
        info = fds.fdinfo(pid, fd)
        if info is None:
            return None
        start += info.position
    elif whence == os.SEEK_END:
        try:
            start += os.stat(f"/proc/{pid}/fd/{fd}").st_size
        except OSError:
            return None
    elif whence != os.SEEK_SET:
        return None
    if length > 0:
        first, last = start, start + length - 1
    elif length < 0:
        first, last = start + length, start - 1
    else:
        first, last = start, END
    return (first, last) if 0 <= first <= last <= END else None
