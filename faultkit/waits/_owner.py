"""From the thread id that a lock records to the task that holds it, or to why none does."""

from __future__ import annotations

from faultkit.model import INFERRED, Lock, Task, Wait
from faultkit.target import Mapping, Process, ReadError
from faultkit.world import ELSEWHERE, GONE, HERE, SEVERAL, UNLISTED, UNREAD, Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


ELF = b"\x7fELF"


def held_by(blocked: Blocked, lock: Lock, tid: int, private: bool, **fields: Any) -> Wait:
    """The wait for `lock`, whose owner field names thread `tid` (in the owner's own pid
    namespace).

    A lock that only one process can use (`private`) and whose owner is no thread of it, nor of
    one that shares its memory, can never be released: the finding is then "orphaned-lock".
    """
    evidence = tuple(fields.pop("evidence", ()))
    wait = Wait(blocked.task, lock, evidence=evidence, **fields)
    shared = None if private else _shared(blocked, lock)
    owner = blocked.world.owner(blocked.process, tid, shared)
    if owner.where == SEVERAL:
        pids = ", ".join(str(task.pid) for task in owner.among[:8])
        return wait.but(
            missing=f"the lock's owner has tid {tid} in its own pid namespace, as have threads of "
            f"several processes that share the lock: see which of {pids} holds it"
        )
    if owner.task is not None and not owner.sure:
        return _unless_exited(blocked, wait, owner.task, tid)
    if owner.where == HERE and owner.task is not None and lies_in_file(blocked, lock, private):
        return _perhaps(
            wait, owner.task, "a core does not tell whether other pid namespaces share the lock"
        )
    if owner.where == HERE and owner.task is not None:
        if owner.task != blocked.task and blocked.world.started_after_wait(
            blocked.process, owner.task, blocked.task
        ):
            return _orphaned(
                wait,
                f"owner tid {tid} is now another thread's, born after this wait began: "
                "the owner has exited",
            )
        return wait.but(holders=(owner.task,))
    if owner.where == ELSEWHERE and owner.task is not None:
        if not private:
            return _held_elsewhere(blocked, wait, owner.task)
        shares = blocked.world.machine.same_memory(blocked.process.pid, owner.task.pid)
        if shares is None:
            return wait.but(
                missing=f"the lock's owner, tid {tid}, is in process {owner.task.pid}; whether "
                "that shares the waiter's memory, as after vfork(), can't be told: kcmp(2) is not "
                "permitted here, run it as root outside of the container"
            )
        if shares:
            why = "its process shares the waiter's memory: vfork() or clone(CLONE_VM)"
            return wait.but(holders=(owner.task,), evidence=(*wait.evidence, why))
        return _orphaned(wait, _why_elsewhere(blocked, owner.task))
    if owner.where == UNLISTED:
        return wait.but(
            missing=f"the lock's owner, tid {tid}, is not among the tasks that the debugger lists: "
            "check that it lists them all (crash 8.0.2 does not for 6.1 and newer)"
        )
    if owner.where == UNREAD:
        return wait.but(
            missing=f"the lock's owner, tid {tid}, is not among the tasks that could be read; "
            + blocked.world.machine.remedy
        )
    if owner.where == GONE:
        return _orphaned(wait, f"owner tid {tid} has exited while it held the lock")
    if private:
        return _orphaned(
            wait,
            f"owner tid {tid} is no thread of this process: it exited while it held the lock, "
            "or the lock was copied locked by fork()",
        )
    where = "this core" if not blocked.process.live else "this pid namespace"
    return wait.but(
        missing=f"the lock's owner, tid {tid}, is outside {where}; look at that process too"
    )


def unowned(blocked: Blocked, lock: Lock, evidence: tuple[str, ...]) -> Wait:
    """The wait for a mutex whose word holds its owner's tid, and names none: it is free."""
    return Wait(
        blocked.task,
        lock,
        fault="lost-wakeup",
        fault_detail="the mutex is free: its word names no owner",
        evidence=evidence,
    )


def _orphaned(wait: Wait, detail: str) -> Wait:
    return wait.but(fault="orphaned-lock", fault_detail=detail)


def _why_elsewhere(blocked: Blocked, owner: Task) -> str:
    if blocked.world.parent_of(blocked.process.pid) == owner.pid:
        return (
            f"owner tid {owner.tid} is a thread of the parent process {owner.pid}: the lock was "
            "copied locked by fork(), and nobody here can release it"
        )
    return (
        f"owner tid {owner.tid} now belongs to another process ({owner.pid}), which cannot hold "
        "this private lock: the owner has exited"
    )


def _shared(blocked: Blocked, lock: Lock) -> Mapping | None:
    """The mapping that the lock lies in, if other processes can share it."""
    if lock.address is None or lock.key is None or lock.key[0] != "shared":
        return None
    return blocked.process.mapping(lock.address)


def lies_in_file(blocked: Blocked, lock: Lock, private: bool) -> bool:
    """Whether a core's lock, which others may use, lies in memory that they may share: in a
    mapping of a file (also "/dev/zero", "/SYSV..."), and not in a variable of the program or of
    a library, of which each process has its own."""
    process = blocked.process
    if private or lock.address is None or process.live or blocked.world.whole:
        return False
    mapping = process.mapping(lock.address)
    if mapping is None or not mapping.path:
        return False
    first = next(other for other in process.mappings() if other.path == mapping.path)
    try:
        return process.read(first.start, len(ELF)) != ELF
    except ReadError:
        return True


def _unless_exited(blocked: Blocked, wait: Wait, owner: Task, tid: int) -> Wait:
    """A shared lock that may be held by this thread, the only one with that id among those that
    share it, in its own of several pid namespaces."""
    if blocked.world.started_after_wait(blocked.process, owner, blocked.task):
        return wait.but(
            missing=f"the lock's owner has, or had, tid {tid} in its own pid namespace; thread "
            f"{owner.tid}, which has it now, was born after this wait began: see who else shared "
            "the lock"
        )
    return _perhaps(
        wait,
        owner,
        f"of those that share the lock, in several pid namespaces, thread {owner.tid} has that "
        "id in its own",
    )


def _perhaps(wait: Wait, owner: Task, why: str) -> Wait:
    """Held by this thread, or else by one that had the same id in another pid namespace.  Who
    waits for a lock is the last to hold it, so of itself this is not said."""
    if owner == wait.task:
        return wait.but(
            missing=f"the lock's owner has the same tid in its own pid namespace as thread "
            f"{owner.tid}, which waits for it: it is this thread, or one of another pid "
            "namespace; look at all processes that share the lock"
        )
    return wait.but(holders=(owner,), confidence=INFERRED, evidence=(*wait.evidence, why))


def _held_elsewhere(blocked: Blocked, wait: Wait, owner: Task) -> Wait:
    """A shared lock held by a thread of another process, if that maps the lock at all."""
    other = blocked.world.process(owner.pid)
    here = blocked.process.mapping(wait.lock.address or 0)
    if other is None or here is None:
        return wait.but(holders=(owner,))
    maps_it = _maps(other, here)
    if maps_it is None:
        evidence = f"whether process {owner.pid} maps the lock could not be read"
        return wait.but(holders=(owner,), confidence=INFERRED, evidence=(*wait.evidence, evidence))
    if maps_it:
        if blocked.world.started_after_wait(blocked.process, owner, blocked.task):
            return _orphaned(
                wait,
                f"owner tid {owner.tid} is now a thread born after this wait began: "
                "the owner has exited",
            )
        return wait.but(holders=(owner,))
    return _orphaned(
        wait,
        f"owner tid {owner.tid} now belongs to process {owner.pid}, which does not map the "
        "lock: the owner has exited",
    )


def _maps(process: Process, mapping: Mapping) -> bool | None:
    """Whether the process maps the same object; None where that can't be told."""
    wanted = mapping.device, mapping.inode
    if mapping.inode and any((m.device, m.inode) == wanted for m in process.mappings()):
        return True
    return False if mapping.inode and process.knows_mappings() else None


def task_of(blocked: Blocked, tid: int, lock: Lock | None = None) -> Task | None:
    """The thread `tid` of the waiter's own process, or None; of a `lock` that others share, only
    if the id is surely this process's."""
    shared = _shared(blocked, lock) if lock is not None else None
    if shared is not None and not blocked.world.owner(blocked.process, tid, shared).sure:
        return None
    return blocked.world.threads(blocked.process).get(tid)


def sharer_of(blocked: Blocked, tid: int, lock: Lock) -> Task | None:
    """The thread `tid` of another process that surely maps the lock, too, and had the id before
    the task began to wait; or None."""
    shared = _shared(blocked, lock)
    owner = blocked.world.owner(blocked.process, tid, shared) if shared is not None else None
    if owner is None or owner.task is None or owner.where != ELSEWHERE or not owner.sure:
        return None
    wait = _held_elsewhere(blocked, Wait(blocked.task, lock), owner.task)
    return owner.task if wait.holders and wait.confidence != INFERRED else None
