"""RCU: the task waits until every CPU, and every task that was preempted while reading, has passed
a quiescent state."""

import re

from faultkit.causes import Explanation
from faultkit.causes.view import Blocked, View
from faultkit.model import Behind

CAUSE = "rcu"
FUNCTIONS = frozenset(
    """
    __wait_rcu_gp synchronize_rcu synchronize_rcu_normal synchronize_rcu_expedited
    synchronize_rcu_expedited_wait wait_rcu_exp_gp exp_funnel_lock synchronize_sched
    synchronize_sched_expedited synchronize_rcu_bh synchronize_net _rcu_barrier rcu_barrier
    synchronize_srcu __synchronize_srcu synchronize_srcu_expedited srcu_barrier
    synchronize_rcu_tasks synchronize_rcu_tasks_generic rcu_tasks_wait_gp
    synchronize_rcu_tasks_rude rcu_sync_enter rcu_sync_dtor
    """.split()
)
PRIORITY = 30
_STALL = re.compile(r"(?:^|\s)(\d+)-[.?!A-Za-z]|\bCPU[: ]*(\d+)|\bP(\d+)\b")


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for a grace period; which CPUs or tasks the stall detector names."""
    kind = next(name for name in blocked.functions if name in FUNCTIONS)
    srcu = "srcu" in kind
    text = "waits for a grace period of RCU" + (
        ": until all readers of one SRCU domain are done" if srcu else ""
    )
    stalls = [line for line in view.log("rcu: INFO", "detected stall", "expedited stalls")]
    links = []
    for line in stalls[-4:]:
        for match in _STALL.finditer(line.partition("stall")[2]):
            cpu, other_cpu, pid = match.groups()
            if pid:
                links.append(Behind("task", pid, "a reader that was preempted"))
            else:
                links.append(Behind("cpu", cpu or other_cpu, "has not passed a quiescent state"))
    return Explanation(
        text,
        ("srcu" if srcu else "rcu",),
        behind=tuple(dict.fromkeys(links))[:1],
        next="see which CPU or task holds the grace period up: `rcu:` lines in the kernel log, "
        "CPUs busy in the kernel (top: sy), and /sys/kernel/debug/rcu",
        evidence=tuple(f"kernel log: {line}" for line in stalls[-1:]),
    )
