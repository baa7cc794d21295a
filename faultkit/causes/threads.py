"""Waits for the other threads of the process: exec, a core dump, a whole pid namespace's end.

fs/exec.c, de_thread() (inlined into begin_new_exec()); kernel/exit.c, coredump_task_exit();
fs/coredump.c, coredump_wait(); kernel/pid_namespace.c, zap_pid_ns_processes()."""

from __future__ import annotations

from faultkit.causes import Explanation
from faultkit.causes.chain import task_link
from faultkit.causes.view import Blocked, View

_EXEC = frozenset(("de_thread", "begin_new_exec", "flush_old_exec"))
_DUMPER = frozenset(("coredump_wait", "zap_threads", "do_coredump", "vfs_coredump"))
_DUMPED = frozenset(("coredump_task_exit",))
_NAMESPACE = frozenset(("zap_pid_ns_processes",))

CAUSE = "exec"
FUNCTIONS = frozenset(("de_thread", "coredump_wait", *_DUMPED, *_NAMESPACE))
CALLERS = frozenset((*_EXEC, *_DUMPER))
PRIORITY = 15


def explain(blocked: Blocked, view: View) -> Explanation | None:
    """Which thread the others, or the one, wait for."""
    names = set(blocked.functions)
    pid = blocked.task.pid
    if names & _NAMESPACE:
        return Explanation(
            "is the first process of a pid namespace (a container) that ends, and waits until "
            "all others in it have ended",
            (pid,),
            next="see which process in that container does not end: it is in D state itself, "
            "or its parent outside does not collect it",
            cause="exit",
        )
    if names & _DUMPED:
        return _explain(
            blocked, view, "coredump", "waits until its process's core has been written",
            "see what the thread that writes the core waits for: where core_pattern points to",
        )  # fmt: skip
    if names & _EXEC and "load_elf_binary" in names:
        return _explain(
            blocked, view, "exec", "has called exec, and waits until the other threads of its "
            "process have ended", "see why that thread does not end",
        )  # fmt: skip
    return _explain(
        blocked, view, "coredump", "is about to dump its core, and waits until the other threads "
        "of its process have stopped, or until the core_pattern program takes the dump",
        "see which thread does not stop, and the program in /proc/sys/kernel/core_pattern",
    )  # fmt: skip


def _explain(
    blocked: Blocked, view: View, cause: str, text: str, advice: str
) -> Explanation | None:
    others = [
        other
        for other in view.threads(blocked.task.pid)
        if other.task != blocked.task and other.task.state not in ("Z", "X", "I")
    ]
    others.sort(key=lambda other: other.task.state != "D")
    links = tuple(task_link(view, other.task) for other in others[:1])
    return Explanation(text, (blocked.task.pid,), behind=links, next=advice, cause=cause)
