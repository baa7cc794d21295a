"""Where a lock that records its holder was taken: for the report, not for the verdict."""

from __future__ import annotations

from faultkit.infer.functions import family_of
from faultkit.infer.lock import locate
from faultkit.infer.trace import Tracing
from faultkit.model import Task, Wait
from faultkit.target import FaultkitError
from faultkit.world import World


def taken_at(world: World, wait: Wait, holder: Task) -> str | None:
    """The place in `holder`'s live code that took what `wait` waits for ("frame #2 f() calls
    pthread_mutex_lock on it at f.c:12, ..."), None where its code does not tell."""
    family = family_of(wait.lock.kind)
    process = world.process(holder.pid)
    if family is None or process is None:
        return None
    try:
        target = locate(world, wait, process)
        trace = Tracing(world, wait, family).trace(process, holder)
    except FaultkitError:
        return None
    if target is None or trace is None:
        return None
    sure = [holding.text for holding in trace.holding(target) if holding.sure]
    return sure[-1] if sure else None
