"""vfork(): the parent sleeps until its child execs or ends; killable, but not interruptible.

kernel/fork.c, wait_for_vfork_done(), inlined into kernel_clone() (_do_fork() before 5.10)."""

from faultkit.causes import Explanation
from faultkit.causes.chain import task_link
from faultkit.causes.view import Blocked, View

CAUSE = "vfork"
FUNCTIONS = frozenset(("wait_for_vfork_done",))
CALLERS = frozenset(("kernel_clone", "_do_fork", "do_fork"))
PRIORITY = 10


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for its child; which one, and what that is at."""
    text = "has called vfork() and sleeps until its child has called exec or exit"
    children = view.children(blocked.task)
    if not children:
        return Explanation(text, (blocked.task.pid,), next="look at its child: ps --ppid PID")
    child = children[-1]  # the thread can't have made another one since
    found = view.find(child)
    if found is None:
        return Explanation(text, (blocked.task.tid,), next=f"look at its child {child}")
    return Explanation(
        text,
        (blocked.task.tid,),
        behind=(task_link(view, found.task)._replace(detail=f"its child, {_at(view, found)}"),),
        next=f"look at the child, process {child}: it does not get to exec",
    )


def _at(view: View, child: Blocked) -> str:
    return task_link(view, child.task).detail
