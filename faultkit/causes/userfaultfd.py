"""userfaultfd: a page fault that another thread, or another process, has to resolve."""

from faultkit.causes import Explanation
from faultkit.causes.chain import task_link
from faultkit.causes.view import Blocked, View

CAUSE = "userfaultfd"
FUNCTIONS = frozenset(("handle_userfault", "userfaultfd_event_wait_completion", "dup_fctx"))
PRIORITY = 10
STATES = "DS"
KIND = "anon_inode:[userfaultfd]"


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for whoever reads the userfaultfd."""
    handlers = [task for task in view.holders(KIND) if task.pid == blocked.task.pid]
    handlers = handlers or list(view.holders(KIND))
    links = tuple(
        task_link(view, task)._replace(detail="has a userfaultfd open") for task in handlers[:4]
    )
    return Explanation(
        "has touched memory whose page faults a userfaultfd handler has to resolve",
        (blocked.task.pid,),
        behind=links,
        next="see why the handler (lazy migration, post-copy, a garbage collector) does not "
        "answer: " + (f"gdb -p {handlers[0].pid}" if handlers else "who has a userfaultfd open"),
    )
