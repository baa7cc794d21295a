"""Control groups that are frozen: the v1 freezer (D state), and cgroup.freeze of v2 (S state).

kernel/freezer.c, __refrigerator(); kernel/signal.c, do_freezer_trap(), which is inlined into
get_signal()."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.causes import Explanation
from faultkit.causes.view import Blocked, View
from faultkit.model import Behind, Task

CAUSE = "freezer"
FUNCTIONS = frozenset(("__refrigerator", "do_freezer_trap", "cgroup_enter_frozen"))
CALLERS = frozenset(("get_signal",))
PRIORITY = 10
STATES = "DS"


def explain(blocked: Blocked, view: View) -> Explanation | None:
    """Frozen; by which control group, and how it is thawed."""
    by_v1 = "__refrigerator" in blocked.functions
    frozen = frozen_by(blocked.task, view, ("freezer", "") if by_v1 else ("",))
    if frozen is not None:
        return frozen
    if view.live and not FUNCTIONS.intersection(blocked.functions):
        return None  # whatever else get_signal() sleeps for
    return Explanation(
        "is frozen, by a control group or because the machine suspends",
        next="see /sys/fs/cgroup/freezer/*/freezer.state and cgroup.freeze, or thaw the container",
    )


def frozen_by(task: Task, view: View, controllers: Sequence[str]) -> Explanation | None:
    """The explanation by the nearest control group that was frozen itself, not with another one
    above it: of the v1 freezer ("freezer") or of v2 ("").  None if there is none."""
    for controller in controllers:
        path = view.cgroup(task, controller)
        while path and path != "/":
            if _is_frozen(view, path, controller):
                return _frozen(path, controller, view.cgroup_folder(path, controller))
            path = path.rpartition("/")[0]
    return None


def _is_frozen(view: View, path: str, controller: str) -> bool:
    name = "freezer.self_freezing" if controller else "cgroup.freeze"
    return (view.cgroup_file(path, controller, name) or "").strip() == "1"


def _frozen(path: str, controller: str, folder: str) -> Explanation:
    version = "v1 freezer" if controller else "v2"
    thaw = f"THAWED > {folder}/freezer.state" if controller else f"0 > {folder}/cgroup.freeze"
    return Explanation(
        f"was frozen with its control group ({version})",
        (path, controller),
        behind=(Behind("cgroup", path, f"frozen ({version})"),),
        next=f"thaw it: echo {thaw}, or unpause the container; see who froze it",
        lasts=True,
    )
