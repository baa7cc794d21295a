"""Tasks that a signal or a tracer has stopped: not in D state, but no more alive for who waits."""

from faultkit.causes import Explanation
from faultkit.causes.chain import task_link
from faultkit.causes.view import Blocked, View

CAUSE = "stopped"
FUNCTIONS = frozenset(("do_signal_stop", "ptrace_stop", "do_jobctl_trap", "ptrace_do_notify"))
CALLERS = frozenset(("get_signal",))
PRIORITY = 10
STATES = "Tt"


def explain(blocked: Blocked, view: View) -> Explanation:
    """Stopped; by which tracer, and what lets it go on.  Harmless where that is ourselves."""
    task = blocked.task
    tracer = view.tracer(task)
    if task.state == "T" and tracer is None:
        return Explanation(
            "is stopped by a signal (SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU)",
            (task.pid,),
            next=f"let it go on: kill -CONT {task.pid}",
        )
    if tracer is None:
        return Explanation("is stopped by its tracer", (task.pid,), next="see who traces it")
    return Explanation(
        f"is stopped by its tracer, process {tracer.pid}",
        (task.pid, "tracer"),
        behind=(task_link(view, tracer),),
        next=f"see why process {tracer.pid} ({tracer.name}) does not let it go on",
        harmless=tracer.pid == view.own_pid,
    )
