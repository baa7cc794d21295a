"""The lock that a suspect would hold, as the suspect's process sees it."""

from __future__ import annotations

import os

from faultkit.infer.functions import FILE, family_of
from faultkit.model import Task, Wait
from faultkit.procfs.fds import fdinfo
from faultkit.procfs.locks import FileLock
from faultkit.procfs.process import home_of
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, Process
from faultkit.world import World

FUTEX, RESTART_SYSCALL = 202, 219
EXTENT = {"rwlock": 56, "rust_rwlock": 8, "pthread_mutex": 40, "barrier": 32, "condvar": 48}
MAX_DESCRIPTORS = 4096


class Target(NamedTuple):
    """`addresses` are what code passes to functions, or guards point to, when they mean the
    lock (for file locks: descriptor numbers); the lock's words are [start, end)."""

    addresses: frozenset[int]
    start: int
    end: int

    def waited_by(self, process: Process, task: Task) -> bool:
        """Whether the task sleeps on one of the lock's own words."""
        try:
            call = process.syscall(task)
        except FaultkitError:
            return False
        if call is None or call.nr not in (FUTEX, RESTART_SYSCALL) or not call.args:
            return False
        return self.start <= call.args[0] < self.end


def locate(world: World, wait: Wait, process: Process) -> Target | None:
    """Where `process` has the lock that `wait` waits for; None if that can't be told."""
    if family_of(wait.lock.kind, wait.needs) == FILE:
        numbers = _descriptors(world, wait, process)
        return Target(numbers, 0, 0) if numbers else None
    address = wait.lock.address
    if address is None:
        return None
    if process.pid != wait.task.pid:
        own = world.process(wait.task.pid)
        address = _translate(own, address, process) if own is not None else None
        if address is None:
            return None
    return Target(frozenset((address,)), address, address + EXTENT.get(wait.lock.kind, 4))


def _translate(own: Process, address: int, other: Process) -> int | None:
    """The place in `other` where the same shared object is mapped."""
    here = own.mapping(address)
    if here is None or not here.shared or not here.inode:
        return None
    place = address - here.start + here.offset
    for there in other.mappings():
        same = (there.inode, there.device, there.shared) == (here.inode, here.device, True)
        if same and there.offset <= place < there.offset + there.end - there.start:
            return place - there.offset + there.start
    return None


def _descriptors(world: World, wait: Wait, process: Process) -> frozenset[int]:
    """The descriptors of `process` whose open file holds a lock on those bytes of the file that
    the wait is for: its key has the kind, (device, inode), and the range."""
    key = wait.lock.key or ()
    if len(key) != 4:
        return frozenset()
    _, (_, inode), start, end = key
    return frozenset(
        number
        for number, lock in locked_descriptors(world, process)
        if lock.inode == inode and lock.start <= end and start <= lock.end
    )


def locked_descriptors(world: World, process: Process) -> list[tuple[int, FileLock]]:
    """The descriptors whose open files hold locks, and these (Documentation/filesystems/proc.rst,
    fdinfo: "lock:" lines, of that open file only)."""
    known: dict[int, list[tuple[int, FileLock]]] = world.cache.setdefault("locked descriptors", {})
    if process.pid not in known:
        known[process.pid] = _locked(process.pid) if process.live else []
    return known[process.pid]


def _locked(pid: int) -> list[tuple[int, FileLock]]:
    try:
        numbers = os.listdir(f"{home_of(pid)}/fdinfo")[:MAX_DESCRIPTORS]
    except OSError:
        return []
    found = ((int(number), fdinfo(pid, int(number))) for number in numbers)
    return [
        (number, lock)
        for number, info in found
        if info is not None
        for lock in info.locks
        if not lock.blocked
    ]
