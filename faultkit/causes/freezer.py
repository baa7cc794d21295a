"""Control groups that are frozen: the v1 freezer (D state), and cgroup.freeze of v2 (S state).

kernel/freezer.c, __refrigerator(); kernel/signal.c, do_freezer_trap(), which is inlined into
get_signal()."""

from typing import Optional

from faultkit.causes import Explanation
from faultkit.causes.view import Blocked, View
from faultkit.model import Behind

CAUSE = "freezer"
FUNCTIONS = frozenset(("__refrigerator", "do_freezer_trap", "cgroup_enter_frozen"))
CALLERS = frozenset(("get_signal",))
PRIORITY = 10
STATES = "DS"


def explain(blocked: Blocked, view: View) -> Optional[Explanation]:
    """Frozen; by which control group, and how it is thawed."""
    by_v1 = "__refrigerator" in blocked.functions
    for controller in ("freezer", "") if by_v1 else ("",):
        path = view.cgroup(blocked.task, controller)
        while path and path != "/":
            if _is_frozen(view, path, controller):
                return _frozen(path, controller, view.cgroup_folder(path, controller))
            path = path.rpartition("/")[0]
    if blocked.functions[0] == "get_signal" and view.live:
        return None  # whatever else get_signal() sleeps for
    return Explanation(
        "is frozen, by a control group or because the machine suspends",
        next="see /sys/fs/cgroup/freezer/*/freezer.state and cgroup.freeze, or thaw the container",
    )


def _is_frozen(view: View, path: str, controller: str) -> bool:
    if controller:
        own = view.cgroup_file(path, controller, "freezer.self_freezing")
        return (own or "").strip() == "1"
    return (view.cgroup_file(path, "", "cgroup.freeze") or "").strip() == "1"


def _frozen(path: str, controller: str, folder: str) -> Explanation:
    version = "v1 freezer" if controller else "v2"
    thaw = f"THAWED > {folder}/freezer.state" if controller else f"0 > {folder}/cgroup.freeze"
    return Explanation(
        f"was frozen with its control group ({version})",
        (path, controller),
        behind=(Behind("cgroup", path, f"frozen ({version})"),),
        next=f"thaw it: echo {thaw}, or unpause the container; see who froze it",
    )
