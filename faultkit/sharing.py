"""Owners of locks in memory that processes share, where these are in several pid namespaces.

A C library writes the thread id that the owner has in its own pid namespace, as clone() and
set_tid_address() told it.  In the waiter's the number is nobody's, or another thread's: it means
something only of those that share the memory, each by its own ids."""

from __future__ import annotations

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
