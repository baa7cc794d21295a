"""Lists of waiters: which lock a waiter struct on a task's stack is queued on, and who is ahead."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from faultkit.kernel.objects import BrokenList, is_kernel_pointer, need, ring
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System, base_name
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, ReadError

MOST_WAITERS = 20_000  # of one lock
MOST_ASKED = 8  # waiters of one lock on whose stacks it is looked for


class QueueType(NamedTuple):
    """How one kind of lock queues its waiters: names of types and members.

    Up to 7.0 a lock has a list_head (`head`) that links the waiters; since then mutexes, rwsems
    and semaphores point to the first waiter only (`first`), whose links close the ring ("locking:
    Convert mutex/rwsem/semaphore to first_waiter", 7.1).
    """

    lock: str
    waiter: str
    links: str = "list"
    task: str = "task"
    head: str = "wait_list"
    first: str = "first_waiter"
    blockers: tuple[int, ...] = ()  # low bits of task_struct.blocker for this kind
    sleeps_in: frozenset[str] = frozenset()  # functions, in whose frames the waiter structs lie


class Queue(NamedTuple):
    """A lock and the waiter structs queued on it, first in line first.

    `damage` says how the lock's end of the list contradicts its waiters' links, which name the
    lock nonetheless; the waiters are then those that could be reached.  `unread`: the dump lacks
    the lock's memory.
    """

    lock: int
    waiters: tuple[int, ...]
    damage: str | None = None
    unread: bool = False


def waiting_in(
    sleeper: Sleeper, kind: QueueType, marks: tuple[str, int] = ("", 0)
) -> tuple[int, Queue] | None:
    """(waiter struct, queue) of a waiter struct on the sleeper's stack that is queued on a lock
    of this kind.  A few words left over from earlier calls may look like one on a damaged queue:
    that counts only in the frame of a function that sleeps so, and if none is in order.  `marks` is
    a 64-bit member of the waiter struct, and the value that it must have.  Raises UnknownLayout."""
    damaged = None
    for waiter in sleeper.waiter_structs(kind.waiter, kind.task):
        member, value = marks
        if (
            member
            and sleeper.kernel.u64(waiter + need(sleeper.kernel, kind.waiter, member)) != value
        ):
            continue
        queue = queue_of(sleeper, waiter, kind)
        if queue is not None and queue.damage is None and not queue.unread:
            return waiter, queue
        if queue is not None and damaged is None and _in_frame(sleeper, waiter, kind):
            damaged = waiter, queue
    return damaged


def _in_frame(sleeper: Sleeper, address: int, kind: QueueType) -> bool:
    """Whether the address lies in the frame of a function that waits for a lock of this kind."""
    return any(
        base_name(frame.symbol or "") in kind.sleeps_in
        and (frame.sp or 0) <= address < (outer.sp or 0)
        for frame, outer in zip(sleeper.frames, sleeper.frames[1:])
    )


def queue_of(sleeper: Sleeper, waiter: int, kind: QueueType) -> Queue | None:
    """The queue that a waiter struct is in; None if it is in none.  Raises UnknownLayout.

    A crowd on one lock is walked once.
    """
    known: dict[int, Queue | None] = sleeper.system.cache.setdefault(kind, {})
    if waiter not in known:
        queue = _look_up(sleeper, waiter, kind)
        if queue is not None and _is_local(sleeper.system, queue.lock):
            queue = None
        if queue is not None:
            known.update(dict.fromkeys(queue.waiters, queue))
        known.setdefault(waiter, None)
    return known[waiter]


def _is_local(system: System, lock: int) -> bool:
    """Whether what the waiters hang on lies on the stack of a task that runs: one that lets go of
    a lock keeps a list of those that it wakes there."""
    owner = system.stack_owner(lock)
    return owner is not None and system.on_cpu(owner)


def tasks_of(system: System, queue: Queue, kind: QueueType) -> list[Task]:
    """The tasks in a queue, first in line first; those that can't be told left out."""
    found = (task_of(system, waiter, kind) for waiter in queue.waiters)
    return [task for task in found if task is not None]


def task_of(system: System, waiter: int, kind: QueueType) -> Task | None:
    """Whose waiter struct it is: the task that it names, and on whose stack it lies."""
    try:
        named = system.kernel.u64(waiter + need(system.kernel, kind.waiter, kind.task))
    except ReadError:
        return None
    task = system.by_address.get(named)
    return task if task is not None and system.stack_owner(waiter) == task else None


def _look_up(sleeper: Sleeper, waiter: int, kind: QueueType) -> Queue | None:
    kernel = sleeper.kernel
    links = need(kernel, kind.waiter, kind.links)
    head = kernel.offset(kind.lock, kind.head)
    if head is None:
        return _by_first(sleeper, waiter, kind)
    node = waiter + links
    try:
        if not all(map(is_kernel_pointer, struct.unpack("<2Q", sleeper.peek(node, 16)))):
            return None  # most words that look like the task are no waiter struct's
        nodes = [node, *ring(kernel, node, MOST_WAITERS)]
    except (BrokenList, ReadError):
        return _damaged(sleeper.system, node, head, kind)
    heads = [at for at, other in enumerate(nodes) if not _is_waiter(sleeper.system, other, kind)]
    if len(heads) != 1:
        return None
    ordered = nodes[heads[0] + 1 :] + nodes[: heads[0]]
    return Queue(nodes[heads[0]] - head, tuple(other - links for other in ordered))


def _is_waiter(system: System, node: int, kind: QueueType) -> bool:
    """Whether the node is part of a waiter struct, not the lock's own list_head, which may lie
    on a stack too."""
    return task_of(system, node - need(system.kernel, kind.waiter, kind.links), kind) is not None


def _damaged(system: System, node: int, head: int, kind: QueueType) -> Queue | None:
    """A lock whose memory was overwritten while tasks wait: followed either way, the waiters'
    links lead to one and the same place, which does not lead back."""
    links = need(system.kernel, kind.waiter, kind.links)
    after, end = _follow(system, node, 0, kind)
    before, start = _follow(system, node, 8, kind)
    if end != start or end is None:
        return None
    nodes = [*reversed(before), node, *after]
    try:
        following, previous = system.kernel.words(end, 2)
    except ReadError:
        return Queue(end - head, tuple(other - links for other in nodes), unread=True)
    damage = (
        f"its list of waiters starts with {following:#x} and ends with {previous:#x}, its "
        f"waiters are linked from {nodes[0]:#x} to {nodes[-1]:#x}"
    )
    return Queue(end - head, tuple(other - links for other in nodes), damage)


def _follow(
    system: System, node: int, direction: int, kind: QueueType
) -> tuple[list[int], int | None]:
    """The waiters' nodes after `node` (direction 0) or before it (8), and where they lead: the
    first address that is no waiter's; None if that is no address of the kernel, or if a waiter
    does not link back: then the node is none of its neighbours, but left over from earlier calls.
    What a lock that was overwritten says of its waiters does not change what they say of each
    other."""
    nodes: list[int] = []
    seen = {node}
    current = node
    for _ in range(MOST_WAITERS):
        came_from = current
        try:
            current = system.kernel.u64(current + direction)
        except ReadError:
            return nodes, None
        if not is_kernel_pointer(current) or current & 7 or current in seen:
            return nodes, None
        if not _is_waiter(system, current, kind):
            return nodes, current
        try:
            if system.kernel.u64(current + 8 - direction) != came_from:
                return nodes, None
        except ReadError:
            return nodes, None
        seen.add(current)
        nodes.append(current)
    return nodes, None


def _by_first(sleeper: Sleeper, waiter: int, kind: QueueType) -> Queue | None:
    """The ring has no head: the lock is what the waiters' stacks, or the kernel's own notes of
    what blocks them, point to whose first waiter is in the ring."""
    kernel, system = sleeper.kernel, sleeper.system
    first = need(kernel, kind.lock, kind.first)
    links = need(kernel, kind.waiter, kind.links)
    try:
        members = [waiter, *(node - links for node in ring(kernel, waiter + links, MOST_WAITERS))]
    except (BrokenList, ReadError):
        return None
    place = {member: at for at, member in enumerate(members)}
    for member in members[:MOST_ASKED]:
        task = task_of(system, member, kind)
        if task is None:
            return None
        asked = sleeper if member == waiter else Sleeper(system, task, 0)
        for candidate in (*recorded_blockers(asked, kind), *candidates(asked)):
            try:
                at = place.get(kernel.u64(candidate + first))
            except ReadError:
                continue
            if at is not None:
                return Queue(candidate, tuple(members[at:] + members[:at]))
    for recorded in recorded_blockers(sleeper, kind):
        return _damaged_first(sleeper.system, recorded, members, kind)
    return None


def _damaged_first(system: System, lock: int, members: list[int], kind: QueueType) -> Queue | None:
    """A lock that the kernel recorded as what blocks the task, and whose memory was overwritten."""
    try:
        value = system.kernel.u64(lock + need(system.kernel, kind.lock, kind.first))
    except ReadError:
        return Queue(lock, tuple(members), unread=True)
    return Queue(
        lock,
        tuple(members),
        f"its first waiter is {value:#x}, which is none of those that wait for it",
    )


def candidates(sleeper: Sleeper) -> Iterator[int]:
    """What the task's stack points to that may be what it waits for: stacks left out."""
    owner = sleeper.system.stack_owner
    return (word for word in sleeper.pointers() if owner(word) is None)


def recorded_blockers(sleeper: Sleeper, kind: QueueType) -> list[int]:
    """The lock of this kind that the kernel itself recorded as what blocks the task, where it
    does: task_struct.blocker (with CONFIG_DETECT_HUNG_TASK_BLOCKER, 6.16; include/linux/
    hung_task.h has the low bits) and, for mutexes, .blocked_on (for proxy execution, 6.17)."""
    kernel = sleeper.kernel
    found = []
    for member, marks in (("blocker", kind.blockers), ("blocked_on", (0,))):
        offset = kernel.offset("task_struct", member)
        if offset is None or (member == "blocked_on" and kind.lock != "mutex"):
            continue
        try:
            value = kernel.u64((sleeper.task.address or 0) + offset)
        except FaultkitError:
            continue
        lock = value & ~7
        if is_kernel_pointer(lock) and value & 7 in marks and lock not in found:
            found.append(lock)
    return found


def own_wait_queues(sleeper: Sleeper) -> Iterator[int]:
    """The wait_queue_heads on which the sleeper's entry, on its stack, is the only one: those of
    objects that are made for one waiter each (a file lock, a FUSE request)."""
    kernel = sleeper.kernel
    links = need(kernel, "wait_queue_entry", "entry")
    head_at = need(kernel, "wait_queue_head", "head")
    for entry in sleeper.waiter_structs("wait_queue_entry", "private"):
        node = entry + links
        try:
            head, previous = kernel.words(node, 2)
            if head == previous != node and kernel.words(head, 2) == (node, node):
                yield head - head_at
        except ReadError:
            continue
