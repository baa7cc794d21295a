"""From the thread id that a lock records to the task that holds it, or to why none does."""

from typing import Any, Optional

from faultkit.model import INFERRED, Lock, Task, Wait
from faultkit.target import Mapping, Process
from faultkit.world import ELSEWHERE, GONE, HERE, UNLISTED, UNREAD, Blocked


def held_by(blocked: Blocked, lock: Lock, tid: int, private: bool, **fields: Any) -> Wait:
    """The wait for `lock`, whose owner field names thread `tid` (in the waiter's namespace).

    A lock that only one process can use (`private`) and whose owner is no thread of it can
    never be released: the finding is then "orphaned-lock".
    """
    evidence = tuple(fields.pop("evidence", ()))
    wait = Wait(blocked.task, lock, evidence=evidence, **fields)
    owner = blocked.world.owner(blocked.process, tid)
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
        if private:
            return _orphaned(wait, _why_elsewhere(blocked, owner.task))
        return _held_elsewhere(blocked, wait, owner.task)
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


def _maps(process: Process, mapping: Mapping) -> Optional[bool]:
    """Whether the process maps the same object; None where that can't be told."""
    wanted = mapping.device, mapping.inode
    if mapping.inode and any((m.device, m.inode) == wanted for m in process.mappings()):
        return True
    return False if mapping.inode and process.knows_mappings() else None


def task_of(blocked: Blocked, tid: int) -> Optional[Task]:
    """The thread `tid` of the waiter's own process, or None."""
    return blocked.world.threads(blocked.process).get(tid)
