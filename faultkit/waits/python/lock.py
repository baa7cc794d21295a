"""Python's threading.Lock and RLock, Thread.join, and what else waits for a lock of Python's:
each is a semaphore, found through the Python object on the waiter's stack."""

from __future__ import annotations

import os
from collections.abc import Sequence

from faultkit.layouts.cpython import (
    BUFFERED_TYPES,
    LOCK_AT,
    RLOCK_COUNT_AT,
    RLOCK_OWNER_AT,
    is_pointer,
    lock_in_object,
    mutex_in_object,
    parked_mutex,
    thread_is_gone,
    thread_of,
)
from faultkit.layouts.pyframes import Place
from faultkit.model import EVENT, INFERRED, OUTSIDE, Lock, Wait
from faultkit.target import ReadError
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, WAIT_BITSET, FutexCall, parse
from faultkit.waits._owner import held_by
from faultkit.waits._python import Python, python_of
from faultkit.world import Blocked

PRIORITY = 4  # before semaphores, of which they are made

MOST_COUNT = 1 << 32
SIGINT = 2  # Python's own handler raises KeyboardInterrupt
HANDLE_SIZE = 96  # at least as much as a ThreadHandle has

NO_OWNER = (
    "threading.Lock records no owner and no thread is seen to hold it, inside `with` or between "
    "acquire() and release(); "
    "py-spy dump or faulthandler shows all Python stacks, an RLock would name its owner"
)

DOUBTED = (
    "threading.Lock records no owner; thread {} took it, in {}, but that code, or what it calls, "
    "may have released it since; "
    "py-spy dump or faulthandler shows all Python stacks, an RLock would name its owner"
)


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in PyThread_acquire_lock_timed (Python/thread_pthread.h) or for a PyMutex."""
    call = parse(blocked)
    if call is None or call.operation not in (WAIT, WAIT_BITSET) or call.value != 0:
        return None
    python = python_of(blocked)
    mutex = parked_mutex(blocked.process, blocked.call.sp, call.uaddr)
    within = mutex_in_object(python.memory, mutex) if mutex is not None else None
    if within is not None:
        return _wait(blocked, call, python, *within, LOCK_AT)
    pointers = python.pointers_on_stack(blocked)
    for pointer in pointers:
        found = lock_in_object(python.memory, pointer, mutex or call.uaddr)
        if found is not None:
            return _wait(blocked, call, python, pointer, *found)
    return _handle_join(blocked, call, python, pointers)


def _wait(
    blocked: Blocked, call: FutexCall, python: Python, address: int, kind: str, at: int
) -> Wait | None:
    places = python.places(blocked)
    wait = Wait(
        blocked.task,
        _lock(blocked, "python_lock", address),
        timed=call.timed,
        evidence=tuple(f"in {where}" for where in places),
    )
    if kind == "_thread.RLock":
        return _owned(blocked, wait, python, address, "python_rlock", RLOCK_OWNER_AT)
    if kind in BUFFERED_TYPES:
        return _owned(blocked, wait, python, address, "python_buffered", at + 8)
    if kind == "_queue.SimpleQueue":
        return _idle(blocked, wait, "python_queue", address, places)
    joined = python.released_on_exit(address)
    if joined is not None:
        return wait.but(
            lock=_lock(blocked, "python_join", address, f"thread {joined.tid}"),
            needs=EVENT,
            holders=(joined,),
            evidence=(*wait.evidence, f"the lock that thread {joined.tid} releases on exit"),
        )
    if places and _idles(places[0]):
        return _idle(blocked, wait, _made_of(places), address, places)
    return _plain(blocked, wait, python, address)


def _idle(blocked: Blocked, wait: Wait, kind: str, address: int, places: Sequence[Place]) -> Wait:
    """A wait for somebody to notify, set or put.  A signal handler of Python's may: it runs in the
    main thread, which wakes for it, and services wait so for what ends them; for Ctrl-C, where the
    program itself waits for an event, and not a library for an answer."""
    task, machine = blocked.task, blocked.machine
    handled = (
        kind in ("python_condition", "python_queue")
        and task.tid == task.pid
        and machine is not None
        and machine.handles_signals(task.pid, but=() if _by_itself(places) else (SIGINT,))
    )
    needs = OUTSIDE if handled else EVENT
    return wait.but(lock=_lock(blocked, kind, address), needs=needs, any_of=True)


def _lock(blocked: Blocked, kind: str, address: int, name: str | None = None) -> Lock:
    return Lock(kind, address, name, ("private", blocked.process.pid, address))


def _owned(
    blocked: Blocked, wait: Wait, python: Python, address: int, kind: str, owner_at: int
) -> Wait:
    """A lock that records its owner's threading.get_ident(); a later thread may have been given
    the ident of one that ended, and is then the owner for Python, too."""
    name = {"python_rlock": "RLock"}.get(kind, "buffered file")
    wait = wait.but(lock=Lock(kind, address, key=wait.lock.key))
    owner = python.process.u64(address + owner_at)
    if kind == "python_rlock":
        count = python.process.u64(address + RLOCK_COUNT_AT)
        # _PyRecursiveMutex, within the object, counts only what comes after the first
        least = 1 if is_pointer(python.process.u64(address + LOCK_AT)) else 0
        if not owner or not least <= count < MOST_COUNT:
            return wait.but(evidence=(*wait.evidence, "the RLock changes hands just now"))
    tid = thread_of(python.process, owner, python.tasks)
    if tid is not None:
        evidence = f"the {name} records its owner, ident {owner:#x}, tid {tid}"
        return held_by(
            blocked,
            wait.lock,
            tid,
            private=True,
            timed=wait.timed,
            evidence=(*wait.evidence, evidence),
        )
    if owner and thread_is_gone(python.process, owner):
        return wait.but(
            fault="orphaned-lock",
            fault_detail=f"the {name}'s owner, ident {owner:#x}, has exited while it held it",
        )
    return wait.but(missing=f"the {name}'s owner, ident {owner:#x}, is no thread that is known")


def _handle_join(
    blocked: Blocked, call: FutexCall, python: Python, pointers: list[int]
) -> Wait | None:
    """Thread.join since 3.13: the waiter sleeps on a semaphore of its own until the ThreadHandle
    {llist node; ident; ...}, which its stack names, tells of the exit."""
    places = python.places(blocked)
    if not places or places[0].function != "join" or not places[0].is_threading:
        return None
    for pointer in pointers:
        near = _handle_near(python, pointer & ~7)
        if near is None or python.tasks[near[1]] == blocked.task:
            continue
        handle, tid = near
        return Wait(
            blocked.task,
            _lock(blocked, "python_join", handle, f"thread {tid}"),
            EVENT,
            holders=(python.tasks[tid],),
            timed=call.timed,
            evidence=(*(f"in {one}" for one in places), f"joins thread {tid} by its handle"),
        )
    return None


def _handle_near(python: Python, pointer: int) -> tuple[int, int] | None:
    """(address, tid) of the ThreadHandle {node, shutdown_node, ident, pthread_t, ...} that
    `pointer` points into (Modules/_threadmodule.c, 3.13): one of the two list nodes is linked,
    and its neighbours point back to it."""
    start = pointer - HANDLE_SIZE
    try:
        words = python.process.words(start, 2 * HANDLE_SIZE // 8)
    except ReadError:
        return None
    for index in range(4, len(words) - 1):
        ident = words[index]
        if ident != words[index + 1] or not is_pointer(ident, 64):
            continue
        tid = thread_of(python.process, ident, python.tasks)
        if tid is None:
            continue
        for node in (index - 4, index - 2):
            if _is_linked(python, start + 8 * node, *words[node : node + 2]):
                return start + 8 * (index - 4), tid
    return None


def _is_linked(python: Python, node: int, following: int, previous: int) -> bool:
    if not is_pointer(following) or not is_pointer(previous):
        return False
    try:
        return python.process.u64(following + 8) == node == python.process.u64(previous)
    except ReadError:
        return False


def _idles(where: Place) -> bool:
    """Condition.wait() blocks on a lock of its own that notify() releases."""
    return where.function == "wait" and where.is_threading


def _by_itself(places: Sequence[Place]) -> bool:
    """Whether code that is not of the standard library has called threading's wait()."""
    caller = next((one for one in places if not one.is_threading), None)
    if caller is None or not places[0].is_threading:
        return False
    library = os.path.dirname(places[0].file) + "/"
    return not caller.file.startswith(library) or "/site-packages/" in caller.file


def _made_of(places: list[Place]) -> str:
    """What the condition waited for is the inside of, by who called its wait() (Lib/threading.py,
    Lib/concurrent/futures/_base.py)."""
    for caller in places[1:]:
        if caller.is_threading and caller.function == "acquire":
            return "python_semaphore"
        if caller.is_threading and caller.function == "_wait":
            return "python_barrier"
        if caller.file.endswith("/futures/_base.py") and caller.function == "result":
            return "python_future"
        if not caller.is_threading:
            break
    return "python_condition"


def _plain(blocked: Blocked, wait: Wait, python: Python, lock: int) -> Wait:
    """A plain Lock: whoever is inside `with lock:` holds it."""
    wait = wait.but(confidence=INFERRED)
    inside, let_go = python.inside_on(lock)
    holders = tuple(dict.fromkeys(one.task for one in inside))
    if len(holders) == 1 and not let_go:
        found = f"thread {holders[0].tid} is inside `with` on this lock, in {inside[0].where}"
        return wait.but(holders=holders, evidence=(*wait.evidence, found))
    missing = DOUBTED.format(holders[0].tid, inside[0].where) if holders else NO_OWNER
    if not holders:
        taken, releasers = python.taken_by_hand(lock)
        holders = tuple(dict.fromkeys(one.task for one in taken))
        # a thread that takes it twice, or others that only release it: a gate, not a lock
        is_gate = bool(releasers.difference(holders)) or blocked.task in holders
        is_lock = not is_gate or any(one.returns for one in taken)
        if len(holders) == 1 and is_lock:
            if all(one.certain for one in taken):
                found = (
                    f"thread {holders[0].tid} called acquire() on this lock and has not called "
                    f"release() since, in {taken[0].where}"
                )
                return wait.but(holders=holders, evidence=(*wait.evidence, found))
            missing = DOUBTED.format(holders[0].tid, taken[0].where)
    return wait.but(candidates=holders or blocked.world.members(blocked.process), missing=missing)
