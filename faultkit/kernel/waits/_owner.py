"""From the task_struct that a lock records as its owner to the wait for it."""

from typing import Any

from faultkit.kernel import states
from faultkit.kernel.objects import is_kernel_pointer, unsigned
from faultkit.kernel.sleeper import Sleeper
from faultkit.model import Lock, Wait
from faultkit.target import FaultkitError


def held_by(sleeper: Sleeper, lock: Lock, owner: int, **fields: Any) -> Wait:
    """The wait for a lock whose owner field holds this task_struct's address, flags removed.

    An owner that is no task of this kernel has exited (its memory was freed, and may be
    another's by now), or the word was overwritten; which, its memory tells.
    """
    evidence = tuple(fields.pop("evidence", ()))
    wait = Wait(sleeper.task, lock, evidence=evidence, **fields)
    task = sleeper.system.by_address.get(owner)
    if task is not None:
        try:
            gone = bool(
                unsigned(sleeper.kernel, owner, "task_struct", "exit_state")
                & (states.DEAD | states.ZOMBIE)
            )
        except FaultkitError:
            gone = False
        if gone:
            return wait.but(
                fault="orphaned-lock",
                fault_detail=f"its owner, task {task.tid}, has exited while it held the lock",
            )
        return wait.but(holders=(task,))
    if looks_freed(sleeper, owner):
        return wait.but(
            fault="orphaned-lock",
            fault_detail=f"its owner, task_struct {owner:#x}, is no task any more: it has exited "
            "while it held the lock",
        )
    return wait.but(
        fault="corrupt-lock", fault_detail=f"its owner field {owner:#x} points to no task"
    )


def looks_freed(sleeper: Sleeper, owner: int) -> bool:
    """Whether the address is that of a task_struct that was freed: an object of the slab cache
    that task_structs come from."""
    if not is_kernel_pointer(owner) or owner & 7:
        return False
    try:
        return sleeper.kernel.slab(owner) == "task_struct"
    except FaultkitError:
        return False
