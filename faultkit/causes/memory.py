"""A control group's memory limits: the OOM killer is off, or memory.high slows the task down."""

from faultkit.causes import Explanation
from faultkit.causes.view import Blocked, View
from faultkit.model import Behind

_OOM = frozenset("mem_cgroup_oom_synchronize mem_cgroup_oom ".split())
_HIGH = frozenset("mem_cgroup_handle_over_high __mem_cgroup_handle_over_high".split())

CAUSE = "memory-limit"
FUNCTIONS = _OOM | _HIGH
PRIORITY = 20


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for memory of its control group; which one, its limit and its use."""
    task = blocked.task
    if _OOM.intersection(blocked.functions):
        path = view.cgroup(task, "memory")
        text = (
            "has used up its control group's memory limit; the group's OOM killer is off, so it "
            "sleeps until memory is freed or the limit is raised"
        )
        limit = _value(view, path, "memory", "memory.limit_in_bytes")
        used = _value(view, path, "memory", "memory.usage_in_bytes")
    else:
        path = view.cgroup(task, "")
        text = "is slowed down: its control group uses more than memory.high"
        limit = _value(view, path, "", "memory.high")
        used = _value(view, path, "", "memory.current")
    if path is None:
        return Explanation(text, next="see the limits of its control group: /proc/PID/cgroup")
    detail = f"uses {used} of {limit} bytes" if limit and used else ""
    return Explanation(
        text,
        (path,),
        behind=(Behind("cgroup", path, detail),),
        next=f"raise the limit of {path}, or end one of its processes",
    )


def _value(view: View, path: "str | None", controller: str, name: str) -> str:
    return (view.cgroup_file(path, controller, name) or "").strip() if path else ""
