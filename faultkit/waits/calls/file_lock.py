"""fcntl(2) record locks: F_SETLKW, whose owner is a process, and F_OFD_SETLKW, whose owner is
an open file description; lockf(3) is the former.  The two conflict with one another."""

from __future__ import annotations

import os
import struct

from faultkit.machine import Machine
from faultkit.model import Lock, Wait
from faultkit.procfs.locks import END, FLOCK, OFD, POSIX, FileLock
from faultkit.waits import _file_locks
from faultkit.waits._ipc import IN_A_CORE, fd_argument, unknown_holder
from faultkit.world import Blocked

SYSCALLS = frozenset({72})  # fcntl
PRIORITY = 50
F_SETLKW, F_OFD_SETLKW = 7, 38
MODES = {0: "read", 1: "write"}  # F_RDLCK, F_WRLCK
STRUCT_FLOCK = struct.Struct("<hh4xqqi4x")  # l_type, l_whence, l_start, l_len, l_pid


def recognise(blocked: Blocked) -> Wait | None:
    """The wait of a task in F_SETLKW or F_OFD_SETLKW; None for any other fcntl."""
    fd = fd_argument(blocked)
    command = blocked.call.args[1]
    if command not in (F_SETLKW, F_OFD_SETLKW):
        return None
    machine = blocked.machine
    request = machine.lock_request(blocked.task) if machine is not None else None
    found = (request.mode, (request.start, request.end)) if request else _requested(blocked, fd)
    if found is None:
        return None
    mode, wanted = found
    kind = "posix_lock" if command == F_SETLKW else "ofd_lock"
    if machine is None:
        return unknown_holder(blocked, Lock(kind, name=f"fd {fd}"), IN_A_CORE, mode=mode)
    file = _file_locks.file_of(blocked, fd)
    if file is None or wanted is None:
        return _file_locks.unreadable(blocked, kind, fd, mode)
    own_posix = command == F_SETLKW
    holders = [
        (pid, lock)
        for pid, other, info in _file_locks.lockers(blocked.world, file)
        for lock in info.locks
        if lock.kind != FLOCK and lock.file == file.key and lock.conflicts(mode, *wanted)
        if not _is_own(machine, blocked.task.pid, fd, own_posix, pid, other, lock)
    ]
    # The kernel's own list names the owner also where its descriptors can't be read.
    seen = {lock for _, lock in holders}
    holders += [
        (lock.pid, lock)
        for lock in machine.locks(file.key)
        if lock.kind == POSIX and lock.pid > 0 and lock.conflicts(mode, *wanted)
        if lock not in seen and not (own_posix and lock.pid == blocked.task.pid)
    ]
    return _file_locks.wait(blocked, kind, file, mode, (POSIX, OFD), holders, wanted)


def _requested(blocked: Blocked, fd: int) -> tuple[str, tuple[int, int] | None] | None:
    """The mode and, if it can be told, the range of the struct flock that the call was given;
    None for an unlock."""
    data = blocked.process.read(blocked.call.args[2], STRUCT_FLOCK.size)
    kind, whence, start, length, _ = STRUCT_FLOCK.unpack(data)
    mode = MODES.get(kind)
    if mode is None:
        return None
    machine = blocked.machine
    if machine is None:
        return mode, None
    return mode, _range(machine, blocked.task.pid, fd, whence, start, length)


def _is_own(
    machine: Machine,
    pid: int,
    fd: int,
    own_posix: bool,
    other: int,
    other_fd: int,
    lock: FileLock,
) -> bool:
    """Whether the request and the lock have one owner: they never conflict
    (posix_same_owner in fs/locks.c)."""
    if own_posix:
        return lock.kind == POSIX and other == pid
    if lock.kind != OFD:
        return False
    same = machine.same_description(pid, fd, other, other_fd)
    if same is None:  # no kcmp: the same lock on the waiter's own descriptor is its own
        info = machine.fdinfo(pid, fd)
        return info is None or lock in info.locks
    return same


def _range(
    machine: Machine, pid: int, fd: int, whence: int, start: int, length: int
) -> tuple[int, int] | None:
    """The bytes [first, last] that a struct flock means (flock64_to_posix_lock in fs/locks.c);
    None if it means none, or if the descriptor is gone."""
    if whence == os.SEEK_CUR:
        info = machine.fdinfo(pid, fd)
        if info is None:
            return None
        start += info.position
    elif whence == os.SEEK_END:
        size = machine.file_size(pid, fd)
        if size is None:
            return None
        start += size
    elif whence != os.SEEK_SET:
        return None
    if length > 0:
        first, last = start, start + length - 1
    elif length < 0:
        first, last = start + length, start - 1
    else:
        first, last = start, END
    return (first, last) if 0 <= first <= last <= END else None
