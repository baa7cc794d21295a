"""Waits for a lock that could not be told: the dump lacks its memory, or that of its waiters."""

from __future__ import annotations

from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits import _slowpath
from faultkit.model import Lock, Wait

FUNCTIONS = frozenset().union(*_slowpath.FUNCTIONS.values())
PRIORITY = 95

KINDS = {"mutex": "kmutex", "rwsem": "rwsem", "semaphore": "semaphore"}


def recognise(sleeper: Sleeper) -> Wait | None:
    """A sleep in a lock's slow path, by the back trace, though the task is on no lock's list."""
    for family, kind in KINDS.items():
        if _slowpath.sleeps_in(sleeper, family, surely=True):
            return Wait(
                sleeper.task,
                Lock(kind, key=("kernel", "unknown", sleeper.task.address)),
                missing=f"the {family} that a task waits for could not be found by its stack: the "
                "dump lacks memory, or the stack or the lock was overwritten",
            )
    return None
