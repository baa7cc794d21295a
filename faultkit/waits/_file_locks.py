"""What flock and fcntl locks share: the file, the descriptors that carry locks on it."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import HELD, PROVEN, Lock, Wait
from faultkit.procfs.fds import Device, FdInfo
from faultkit.procfs.locks import END, FileLock
from faultkit.record import NamedTuple
from faultkit.waits._ipc import (
    Owners,
    descriptors,
    once,
    outside,
    process_owners,
    tasks_of,
    tasks_of_all,
    unknown_holder,
)
from faultkit.world import Blocked, World

NAMES = {"FLOCK": "flock", "POSIX": "posix_lock", "OFDLCK": "ofd_lock"}


class File(NamedTuple):
    """A file that has locks: its path and its identity in the kernel's lock tables."""

    path: str
    device: Device
    inode: int
    remote: bool

    @property
    def key(self) -> tuple[Device, int]:
        """As FileLock.file has it."""
        return self.device, self.inode


def file_of(blocked: Blocked, fd: int) -> File | None:
    """The file that the task's descriptor has open; None if it can't be told."""
    pid = blocked.task.pid
    machine = blocked.world.machine

    def find() -> File | None:
        path = machine.link(pid, fd)
        identity = machine.file_identity(pid, fd) if path is not None else None
        if path is None or identity is None:
            return None
        device, inode, mount = identity
        return File(path, device, inode, mount.remote)

    return once(blocked.world, ("file", pid, fd), find)


def unreadable(blocked: Blocked, kind: str, fd: int, mode: str) -> Wait:
    """The wait when the descriptor itself can't be read."""
    remedy = blocked.world.machine.remedy
    missing = f"the descriptors of process {blocked.task.pid} can't be read; {remedy}"
    return unknown_holder(blocked, Lock(kind, name=f"fd {fd}"), missing, mode=mode)


def lockers(world: World, file: File) -> list[tuple[int, int, FdInfo]]:
    """The descriptors of the file, of all processes, that carry locks."""

    def find() -> list[tuple[int, int, FdInfo]]:
        found = descriptors(world).of_file(file.inode, file.device)
        return [entry for entry in found if entry[2].locks]

    return once(world, ("lockers", file.key), find)


def wait(
    blocked: Blocked,
    kind: str,
    file: File,
    mode: str,
    kinds: Sequence[str],
    holders: Sequence[tuple[int, FileLock]],
    wanted: tuple[int, int],
) -> Wait:
    """The Wait for `mode` on the bytes `wanted`, held by the (pid, lock) pairs `holders`."""
    machine = blocked.world.machine
    locks = sorted({lock for _, lock in holders}, key=lambda lock: (lock.start, lock.end))
    if not locks:
        return _no_holder(blocked, kind, file, mode, kinds, wanted)
    # Who took it is who will release it; those that only inherited the descriptor could.
    pids = set()
    for lock in locks:
        by_pids = {pid for pid, other in holders if other == lock}
        if lock.pid > 0 and lock.pid not in by_pids and _is_unread(blocked.world, lock.pid):
            missing = f"{file.path} was locked by pid {lock.pid}, whose descriptors can't be read; "
            unread = Lock(kind, name=file.path, key=(kind, file.key, *wanted))
            return unknown_holder(blocked, unread, missing + machine.remedy, mode=mode)
        pids |= {lock.pid} if lock.pid in by_pids else by_pids
    inherited = {pid for pid, _ in holders} - pids
    owners: Owners = process_owners(blocked.world, pids)
    others = tuple(task for task in tasks_of_all(blocked.world, inherited) if task != blocked.task)
    evidence = []
    for lock in locks[:4]:
        by = sorted({pid for pid, other in holders if other == lock} - inherited)
        evidence.append(
            f"{machine.lock_table}: {lock.kind} {lock.mode.upper()}{_bytes(lock)} held by "
            f"pid {', '.join(map(str, by[:8]))}"
        )
        if lock.pid > 0 and lock.pid not in by:
            gone = "now gone" if machine.is_dead(lock.pid) else "which closed it"
            evidence.append(f"taken by pid {lock.pid}, {gone}; inherited since")
    if inherited:
        shown = ", ".join(str(pid) for pid in sorted(inherited)[:8])
        evidence.append(f"its descriptor is open in pid {shown} too, by inheritance")
    first = locks[0]
    # Several locks, each of one task: all of them have to go.  A lock that several tasks could
    # release goes when any of them does; for a mixture the cautious reading is the latter.
    together = len(locks) > 1 and owners.candidates is None and len(pids) == len(locks)
    return Wait(
        blocked.task,
        Lock(
            kind,
            name=file.path + _bytes(first),
            key=(NAMES.get(first.kind, kind), file.key, first.start, first.end),
        ),
        needs=HELD,
        mode=mode,
        holders=owners.holders,
        candidates=owners.candidates,
        any_of=not together or bool(others),
        others=others,
        confidence=PROVEN,
        evidence=(*evidence, *owners.evidence),
    )


def _is_unread(world: World, pid: int) -> bool:
    """Whether the process may have a descriptor that we can't see."""
    machine = world.machine
    if machine.is_dead(pid):
        return False
    return pid in descriptors(world).unreadable or not tasks_of(world, pid)


def _no_holder(
    blocked: Blocked,
    kind: str,
    file: File,
    mode: str,
    kinds: Sequence[str],
    wanted: tuple[int, int],
) -> Wait:
    machine = blocked.world.machine
    lock = Lock(kind, name=file.path, key=(kind, file.key, *wanted))
    if file.remote:
        return outside(
            blocked, kind, file.path, mode=mode,
            missing=f"{file.path} is on a server: another host may hold the lock; ask there",
        )  # fmt: skip
    left = [
        held
        for held in machine.locks(file.key)
        if held.kind in kinds and held.conflicts(mode, *wanted)
        if held.pid != blocked.task.pid
    ]
    if left:
        pid = left[0].pid
        taker = "an open file description" if pid < 0 else f"pid {pid}"
        gone = " (now gone)" if pid > 0 and machine.is_dead(pid) else ""
        return unknown_holder(
            blocked, lock, f"{file.path} is locked by {taker}{gone}, and no process that we "
            f"can read has it open; {machine.remedy}", mode=mode,
        )  # fmt: skip
    if not machine.sees_all_processes():
        return unknown_holder(
            blocked, lock, "locks of processes in other pid namespaces are not shown here; "
            "run on the host", mode=mode,
        )  # fmt: skip
    return outside(
        blocked, kind, file.path, mode=mode, evidence=("no conflicting lock is left on it",)
    )


def _bytes(lock: FileLock) -> str:
    """The range, "" for the whole file."""
    if (lock.start, lock.end) == (0, END):
        return ""
    return f" [{lock.start}..{'end' if lock.end == END else lock.end}]"
