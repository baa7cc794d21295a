"""Owners of locks in memory that processes share, where these are in other pid namespaces.

A C library writes the thread id that the owner has in its own pid namespace, as clone() and
set_tid_address() told it.  In the waiter's the number is nobody's, or another thread's: it means
something only of those that share the memory, each by its own ids."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import Task
from faultkit.target import Mapping, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.world import Owner, World


def owner_among_sharers(world: World, process: Process, tid: int, mapping: Mapping) -> Owner:
    """Whose thread id is `tid`, as written in what `process` has at `mapping`?

    Nothing but World.owner's answer where all who share it are in one namespace.  Else the answer
    is not sure: an owner that has exited leaves an id that is another's in the next namespace."""
    from faultkit.world import ELSEWHERE, GONE, HERE, SEVERAL, UNREAD, Owner

    others = world.other_namespaces(process)
    if not others:
        return world.owner(process, tid)
    sharers, unread, named = _named(world, tid, mapping)
    if others.isdisjoint(sharers) and others.isdisjoint(unread):
        return world.owner(process, tid)
    own = world.threads(process).get(tid)
    found = {task for task in (own, *named) if task is not None and world.is_alive(task)}
    if len(found) > 1:
        return Owner(SEVERAL, None, among=tuple(sorted(found)))
    for task in found:
        return Owner(HERE if task.pid == process.pid else ELSEWHERE, task, sure=False)
    sees_all = world.machine.sees_all_processes()
    return Owner(GONE if sees_all and not unread else UNREAD, None)


def owner_in_namespace(world: World, process: Process, tid: int) -> Owner:
    """Which thread of another process has the id `tid` in the pid namespace of `process`, where
    that is not ours?"""
    from faultkit.world import ELSEWHERE, GONE, UNSEEN, Owner

    pid = _pids_by_inner_tid(world, world.in_namespace_of(process)).get(tid)
    if pid is None:
        return Owner(GONE if world.knows_namespaces() else UNSEEN, None)
    other = world.process(pid)
    task = world.threads(other).get(tid) if other is not None else None
    if task is None:
        return Owner(UNSEEN, None)
    return Owner(ELSEWHERE, task) if world.is_alive(task) else Owner(GONE, None)


def _pids_by_inner_tid(world: World, pids: Sequence[int]) -> dict[int, int]:
    """The processes, which are all of one pid namespace, by their threads' ids in it."""
    key = f"inner ids {pids[:1]}"
    if key not in world.cache:
        world.cache[key] = {tid: pid for pid in pids for tid in world.inner_tids(pid)}
    known: dict[int, int] = world.cache[key]
    return known


def _named(
    world: World, tid: int, mapping: Mapping
) -> tuple[frozenset[int], frozenset[int], tuple[Task, ...]]:
    """(the sharers, those who may share it and have a thread of that id but can't be looked at,
    the sharers' threads of that id): the same for all who wait."""
    key = f"named {tid} {mapping.device} {mapping.inode}"
    if key not in world.cache:
        sharers = {sharer.pid: sharer for sharer, _ in world.sharers(mapping)}
        unread = world.unread_sharers(mapping)
        threads = (world.threads(sharer).get(tid) for sharer in sharers.values())
        world.cache[key] = (
            frozenset(sharers),
            frozenset(pid for pid in unread if tid in world.inner_tids(pid)),
            tuple(task for task in threads if task is not None),
        )
    known: tuple[frozenset[int], frozenset[int], tuple[Task, ...]] = world.cache[key]
    return known
