"""Tasks that were frozen where they slept: since 6.1 (f5d39b020809, "freezer,sched: Rewrite core
freezer logic") waits that are TASK_FREEZABLE are not woken to be frozen, and become D state."""

from __future__ import annotations

from faultkit.causes import Explanation
from faultkit.causes.freezer import frozen_by
from faultkit.causes.view import Blocked, View

CAUSE = "freezer"
FUNCTIONS: frozenset[str] = frozenset()
CALLERS = frozenset(
    """
    futex_do_wait futex_wait_queue do_nanosleep hrtimer_nanosleep poll_schedule_timeout do_poll
    do_sys_poll do_select ep_poll do_sigtimedwait __do_sys_pause sigsuspend do_wait
    unix_stream_read_generic unix_stream_data_wait do_msgrcv do_semtimedop pipe_read
    anon_pipe_read sk_wait_data inet_csk_accept __skb_wait_for_more_packets
    inotify_read eventfd_read timerfd_read signalfd_read

    """.split()
)
PRIORITY = 10


def explain(blocked: Blocked, view: View) -> Explanation | None:
    """Frozen; by which control group."""
    frozen = frozen_by(blocked.task, view, ("freezer",))
    if frozen is not None or view.live:
        return frozen
    return Explanation(
        "is frozen where it slept interruptibly: by a control group, or since the machine suspends",
        next="see /sys/fs/cgroup/freezer/*/freezer.state, or thaw the container",
    )
