"""Kernel threads that were created and not woken yet: in D state by design (kernel/kthread.c,
kthread(): TASK_UNINTERRUPTIBLE until the first wake_up_process())."""

from __future__ import annotations

from faultkit.causes import Explanation
from faultkit.causes.view import Blocked, View

CAUSE = "unstarted-thread"
FUNCTIONS: frozenset[str] = frozenset()
CALLERS = frozenset(("kthread",))
PRIORITY = 90


def explain(blocked: Blocked, view: View) -> Explanation | None:
    """Harmless: nobody waits for it."""
    return Explanation("is a kernel thread that has not been started yet", harmless=True)
