"""Flushing a work queue: the task waits until a work item that a kworker runs has finished."""

from faultkit.causes import Explanation
from faultkit.causes.chain import task_link
from faultkit.causes.context import work_item
from faultkit.causes.recorded import with_wait
from faultkit.causes.view import Blocked, View
from faultkit.model import INFERRED, PROVEN, Wait

CAUSE = "flush-work"
FUNCTIONS = frozenset(
    """
    __flush_work flush_work __flush_workqueue flush_workqueue drain_workqueue
    __cancel_work_timer __cancel_work_sync cancel_work_sync cancel_delayed_work_sync
    flush_delayed_work flush_rcu_work start_flush_work work_on_cpu
    work_on_cpu_key schedule_on_each_cpu kthread_flush_work
    kthread_flush_worker kthread_cancel_work_sync __kthread_cancel_work_sync
    __lru_add_drain_all lru_add_drain_all
    """.split()
)
PRIORITY = 30

TEXT = "waits until a work item of the kernel's work queues has finished"


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for a work item: which kworkers are blocked, and in what."""
    wait = view.wait(blocked)
    if wait is not None:
        return _recorded(view, wait)
    flush = next(name for name in blocked.functions if name in FUNCTIONS)
    wanted = [name for name in blocked.functions if name not in FUNCTIONS][:8]
    workers = [
        other
        for other in view.others()
        if other.task != blocked.task and work_item(other.functions) is not None
    ]
    workers.sort(key=lambda other: (not _related(other, wanted), -(other.seconds or 0)))
    text = TEXT
    if not workers:
        return Explanation(
            text,
            (flush,),
            next="see what the kworkers run: /proc/PID/stack of those in D or R state, and "
            "`workqueue` lines in the kernel log",
        )
    worker = workers[0]
    item = work_item(worker.functions)
    sure = len(workers) == 1 or _related(worker, wanted)
    return Explanation(
        text,
        (flush,),
        behind=(task_link(view, worker.task)._replace(detail=f"runs {item}(), blocked"),),
        next=f"see what {item}() waits for",
        evidence=(
            f"{len(workers)} kworkers are blocked in a work item"
            + (", this one in code of the same name" if _related(worker, wanted) else ""),
        ),
        confidence=INFERRED if sure else INFERRED if workers else PROVEN,
    )


def _recorded(view: View, wait: Wait) -> Explanation:
    """By the kernel's own record of who runs the item."""
    name = view.name_of(wait.lock)
    found = Explanation(
        TEXT + (f": {name}" if name else ""),
        (wait.lock.identity,),
        evidence=wait.evidence,
        confidence=wait.confidence,
        next="" if wait.holders else "see which kworkers run, and what for (crash: foreach UN bt)",
    )
    return with_wait(found, view, wait)


def _related(worker: Blocked, wanted: "list[str]") -> bool:
    """Whether the work item and the code that waits share the beginning of their names."""
    item = work_item(worker.functions) or ""
    stem = item.lstrip("_").split("_")[0]
    return len(stem) > 2 and any(name.lstrip("_").startswith(stem) for name in wanted)
