"""Which processes could act at the other end of a pipe or socket."""

from __future__ import annotations

from collections.abc import Collection

from faultkit.model import INFERRED, PROVEN, Lock, Task
from faultkit.record import NamedTuple
from faultkit.waits._ipc import (
    CROWDED,
    Channel,
    afford,
    catches_signals,
    is_single_threaded,
    tasks_of,
    tasks_of_all,
    unreadable,
)
from faultkit.waits._passing import receivers
from faultkit.world import Blocked, World

MOST_ASKED = 64  # processes, whether they catch signals


class Peers(NamedTuple):
    """Tasks of which one must act; none if there is nobody at the other end.  Of its own process
    the waiter is among them: thousands share the tuple."""

    tasks: tuple[Task, ...]
    confidence: str
    evidence: tuple[str, ...]
    itself: bool  # only the waiter's own process could
    missing: str | None = None  # who else could, if that can't be told

    def channel(self, blocked: Blocked, lock: Lock) -> Channel:
        """The channel that they could move.  A program that reads what its own signal handlers
        write (the self-pipe trick) is idle."""
        if self.itself and catches_signals(blocked.world, blocked.task.pid):
            return Channel(lock, outside=True, evidence=self.evidence)
        if self.missing is not None:
            return Channel(lock, outside=True, evidence=self.evidence, missing=self.missing)
        if not self.itself and not afford(blocked.world, len(self.tasks)):
            return Channel(lock, outside=True, missing=CROWDED)
        return Channel(lock, self.tasks, False, self.confidence, self.evidence, None, self.itself)


def choose_peers(
    world: World, waiter: Task, far: Collection[int], near: Collection[int], end: str
) -> Peers:
    """The peers among the processes `far` that have the other end (called `end`) open, when
    `near` have the waiter's end open.

    A process with both ends has most often inherited one of them without knowing: it counts
    only where nobody has just the other end.  The waiter's own process counts last."""
    own = waiter.pid
    others = set(far) - {own}
    pure = others - set(near)
    confidence = PROVEN
    evidence = []
    unseen = unreadable(world)
    missing = _under_way(world, waiter, far, near, end)
    if not others:
        if own not in far:
            return Peers((), PROVEN, (), False, missing)
        return _own_process(world, waiter, end)._replace(missing=missing)
    chosen = pure or others
    names = _pids(chosen)
    evidence.append(f"{end} open in {names}")
    if chosen != others:
        confidence = INFERRED
        evidence.append(f"{_pids(others - chosen)} has both ends: taken as only inherited")
    if own in far and not is_single_threaded(world, own):
        confidence = INFERRED
        evidence.append(f"its own process has the {end} too, taken as only inherited")
    if unseen:
        confidence = INFERRED
        evidence.append(unseen)
    handling = [pid for pid in sorted(chosen)[:MOST_ASKED] if catches_signals(world, pid)]
    if handling:
        confidence = INFERRED
        evidence.append(f"a signal handler of {_pids(handling)} could still use it")
    return Peers(tasks_of_all(world, chosen), confidence, tuple(evidence), False, missing)


def _under_way(
    world: World, waiter: Task, far: Collection[int], near: Collection[int], end: str
) -> str | None:
    """The sentence about processes that may have yet to receive the other end, if any.  Who is
    asleep in this very wait won't."""
    others = receivers(world, {waiter.pid, *far, *near}).difference(far)
    if is_single_threaded(world, waiter.pid):
        others.discard(waiter.pid)
    if not others:
        return None
    return (
        f"descriptors were sent to {_pids(others)} through a unix socket and not received yet: "
        f"the {end} may be among them; see what {'it waits' if len(others) == 1 else 'they wait'} "
        "for"
    )


def _own_process(world: World, waiter: Task, end: str) -> Peers:
    evidence = [f"{end} open in its own process {waiter.pid} only"]
    confidence = PROVEN
    if catches_signals(world, waiter.pid):
        confidence = INFERRED
        evidence.append("one of its signal handlers could still use it")
    unseen = unreadable(world)
    if unseen:
        confidence = INFERRED
        evidence.append(unseen)
    return Peers(tasks_of(world, waiter.pid), confidence, tuple(evidence), True)


def _pids(pids: Collection[int]) -> str:
    shown = ", ".join(str(pid) for pid in sorted(pids)[:8])
    more = f" and {len(pids) - 8} more" if len(pids) > 8 else ""
    return f"{'process' if len(pids) == 1 else 'processes'} {shown}{more}"
