"""Sleeps: whether one ends by a timer, and what a task sleeps in that no provider knows."""

from __future__ import annotations

import struct
from functools import lru_cache

from faultkit.kernel.objects import first_offset, need
from faultkit.kernel.sleeper import Sleeper
from faultkit.model import OUTSIDE, Lock, Wait
from faultkit.places import is_lock_function
from faultkit.target import FaultkitError

# By what they call: the type, its links, and how many words these are.
TIMERS = (
    ("process_timeout", "timer_list", "entry", 2),
    ("hrtimer_wakeup", "hrtimer", "node.node", 3),
)
MOST_TIMERS = 1000  # that end within the same moment


def ends_by_timer(sleeper: Sleeper) -> bool:
    """Whether a timer that is pending will wake the task: one that lies on its own stack, as
    schedule_timeout() and schedule_hrtimeout_range() put it there."""
    try:
        return _has_timer(sleeper) or _has_hrtimer(sleeper)
    except FaultkitError:
        return False


def _has_timer(sleeper: Sleeper) -> bool:
    """kernel/time/timer.c (6.13+: sleep_timeout.c), struct process_timer: its timer_list's
    function is process_timeout.  A pending timer is what its `pprev` points to
    (timer_pending(), include/linux/timer.h)."""
    kernel = sleeper.kernel
    wakes = kernel.symbol("process_timeout")
    if not wakes:
        return False
    function_at = need(kernel, "timer_list", "function")
    entry_at = need(kernel, "timer_list", "entry")
    for at in sleeper.on_stack(wakes):
        entry = at - function_at + entry_at
        pprev = kernel.u64(entry + 8)
        if pprev and kernel.u64(pprev) == entry and not _is_circular(sleeper, entry):
            return True
    return False


def _is_circular(sleeper: Sleeper, entry: int) -> bool:
    """Whether the links lead back: then they are a list_head's, of the waiter struct that now lies
    where a timer was; hlists, as timers are kept in, end."""
    node = entry
    for _ in range(MOST_TIMERS):
        node = sleeper.kernel.u64(node)
        if not node:
            return False
        if node == entry:
            return True
    return False


def _has_hrtimer(sleeper: Sleeper) -> bool:
    """kernel/time/hrtimer.c, struct hrtimer_sleeper: its hrtimer's function is hrtimer_wakeup, and
    HRTIMER_STATE_ENQUEUED is in `state` (`is_queued` in kernels that have no state any more)."""
    kernel = sleeper.kernel
    wakes = kernel.symbol("hrtimer_wakeup")
    if not wakes:
        return False
    function_at = need(kernel, "hrtimer", "function")
    state_at = first_offset(kernel, ("hrtimer", "is_queued"), ("hrtimer", "state"))
    for at in sleeper.on_stack(wakes):
        if state_at is None or sleeper.peek(at - function_at + state_at, 1)[0] & 1:
            return True
    return False


def timers_beside(sleeper: Sleeper) -> set[int]:
    """What the links of the timers on the task's own stack hold: where the timers before and
    behind lie, which may be anybody's.  Empty where that can't be read."""
    kernel = sleeper.kernel
    found: set[int] = set()
    for wakes, type_name, links, count in TIMERS:
        try:
            function = kernel.symbol(wakes)
            distance = need(kernel, type_name, links) - need(kernel, type_name, "function")
            for at in sleeper.on_stack(function) if function else ():
                found.update(struct.unpack(f"<{count}Q", sleeper.peek(at + distance, 8 * count)))
        except FaultkitError:
            continue
    return found


def asleep(sleeper: Sleeper) -> Wait:
    """A sleep of which nothing is claimed, named by the function that sleeps."""
    return Wait(
        sleeper.task,
        Lock("sleep", None, _where(sleeper)),
        needs=OUTSIDE,
        timed=ends_by_timer(sleeper),
    )


def _where(sleeper: Sleeper) -> str | None:
    """The innermost function on the stack outside of the scheduler and the locks' own code."""
    try:
        return _outside_of_locks(sleeper.functions)
    except FaultkitError:
        return None


@lru_cache(maxsize=4096)
def _outside_of_locks(functions: tuple[str, ...]) -> str | None:
    return next((name for name in functions if not is_lock_function(name)), None)
