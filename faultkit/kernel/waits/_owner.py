"""From the task_struct that a lock records as its owner to the wait for it."""

from __future__ import annotations

from faultkit.kernel import states
from faultkit.kernel.ages import born_after_sleep
from faultkit.kernel.objects import is_kernel_pointer, pointer, text, unsigned
from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.system import System
from faultkit.model import Lock, Task, Wait
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


TASK_DEAD = 0x80  # include/linux/sched.h, since 4.14
TASK_ALIGNED = 64  # bytes; fork_init() aligns task_structs to cache lines (kernel/fork.c)
STACK_END_MAGIC = 0x57AC6E9D  # include/uapi/linux/magic.h: the lowest word of a kernel stack


def held_by(
    sleeper: Sleeper, lock: Lock, owner: int, first: Task | None = None, **fields: Any
) -> Wait:
    """The wait for a lock whose owner field holds this task_struct's address, flags removed.

    An owner that is no task of this kernel has exited (its memory was freed, and may be
    another's by now), or the word was overwritten; which, its memory tells.  `first` is the task
    first in line, if whoever lets go of the lock wakes that one before another can take it: an
    owner that was born while it slept is not who took the lock.
    """
    system = sleeper.system
    wait = Wait(sleeper.task, lock, **fields)
    task = system.by_address.get(owner)
    known: dict[Any, tuple[str | None, str]] = system.cache.setdefault("owners", {})
    key = owner, first
    if key not in known:
        known[key] = _exited(system, task, first) if task is not None else _no_task(system, owner)
    fault, detail = known[key]
    if fault is not None:
        return wait.but(fault=fault, fault_detail=detail)
    if task is None:
        return wait.but(missing=detail)
    return wait.but(holders=(task,))


def _exited(system: System, task: Task, first: Task | None) -> tuple[str | None, str]:
    try:
        state = unsigned(system.kernel, task.address or 0, "task_struct", "exit_state")
    except FaultkitError:
        return None, ""
    if state & (states.DEAD | states.ZOMBIE):
        return (
            "orphaned-lock",
            f"its owner, task {task.tid}, has exited while it held the lock",
        )
    if first is not None and born_after_sleep(system, task, first):
        return (
            "orphaned-lock",
            f"its owner has exited while it held the lock: the task_struct is task {task.tid}'s "
            f"now, which was born when task {first.tid} already waited",
        )
    return None, ""


def _no_task(system: System, owner: int) -> tuple[str | None, str]:
    """What an owner that is not among the tasks may be: (finding type or None, in words)."""
    if not is_kernel_pointer(owner) or owner % TASK_ALIGNED:
        beside = _beside(system, owner)
        return "corrupt-lock", f"its owner field {owner:#x} is no address of a task{beside}"
    kernel = system.kernel
    try:
        exit_state = unsigned(kernel, owner, "task_struct", "exit_state")
        stack = pointer(kernel, owner, "task_struct", "stack")
        name = text(kernel, owner + (kernel.offset("task_struct", "comm") or 0), 16)
        state = system.state(Task(0, 0, address=owner))
    except FaultkitError:
        return None, (
            f"the owner of a lock, {owner:#x}, is not among the tasks, and the dump lacks its "
            "memory: it has exited, or the dump is not complete"
        )
    if state & TASK_DEAD and exit_state & states.DEAD:
        return (
            "orphaned-lock",
            f"its owner has exited while it held the lock: task_struct {owner:#x}, which was "
            f'last "{name}"\'s, is no task any more',
        )
    if _is_stack(system, stack):
        return None, (
            f"the owner of a lock, task_struct {owner:#x}, is not among the tasks that the "
            "debugger lists: check that it lists them all (crash 8.0.2 does not for 6.1 and newer)"
        )
    if _was_task(system, owner):
        return (
            "orphaned-lock",
            f"its owner, task_struct {owner:#x}, is no task any more: it has exited while it "
            "held the lock",
        )
    return "corrupt-lock", f"its owner field {owner:#x} points to no task"


def _beside(system: System, owner: int) -> str:
    """Whose address it would be, but for so few bytes as a counter's steps make."""
    for address, task in system.by_address.items():
        if abs(owner - address) < TASK_ALIGNED:
            return f", but close to that of task {task.tid}, as if it had been counted up or down"
    return ""


def _is_stack(system: System, stack: int) -> bool:
    """Whether a kernel stack of a live task lies at this address."""
    if not is_kernel_pointer(stack) or stack & (system.thread_size - 1):
        return False
    try:
        return system.kernel.u64(stack) == STACK_END_MAGIC
    except FaultkitError:
        return False


def _was_task(system: System, owner: int) -> bool:
    """Whether the address is that of a task_struct that was freed: an object of the slab cache
    that task_structs come from."""
    try:
        slab = system.kernel.slab(owner)
    except FaultkitError:
        return False
    return slab is not None and slab.cache == "task_struct"
