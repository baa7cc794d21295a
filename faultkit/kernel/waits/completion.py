"""A completion of which nothing more is known than who waits for it."""

from __future__ import annotations

from faultkit.kernel.sleeper import Sleeper
from faultkit.kernel.waits import _completion
from faultkit.model import EVENT, Lock, Wait

FUNCTIONS = _completion.FUNCTIONS
PRIORITY = 50

# Functions that wait for their own completion until a device answers.
DEVICES = frozenset(("submit_bio_wait", "blk_wait_io", "blk_execute_rq", "blkdev_issue_flush"))


def recognise(sleeper: Sleeper) -> Wait | None:
    """A wait that somebody's complete() ends: who, the completion does not tell."""
    queue = _completion.waited_for(sleeper)
    if queue is None:
        return None
    kind = "completion" if DEVICES.isdisjoint(sleeper.functions) else "block-io"
    return Wait(
        sleeper.task,
        Lock(kind, queue.lock, key=("kernel", queue.lock)),
        needs=EVENT,
        evidence=("the task is in its queue",),
    )
