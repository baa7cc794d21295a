"""Whether a thread that took a plain Lock of Python's may not have it any more: the calls that it
made since tell, and the frames and `with` blocks that it is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from faultkit.layouts.cpython import LOCK_TYPES
from faultkit.layouts.pyframes import PyFrame, exits
from faultkit.layouts.pyreach import ACQUIRES, RELEASES, Reach, Search
from faultkit.layouts.pyscope import Scope
from faultkit.record import NamedTuple

ALREADY_KNOWN = (*LOCK_TYPES, "Condition", "Semaphore", "BoundedSemaphore")
STACKED = ("ExitStack", "AsyncExitStack")  # whose exits are those of others, not told by its code


class _Part(NamedTuple):
    """What a frame ran since the lock was taken: units `first` to `current`, or, by a loop, to
    `end`; `inner` are the frames that it has called; `managers` its `with` blocks since."""

    scope: Scope
    first: int
    current: int
    end: int
    inner: Sequence[tuple[int, Scope]]
    managers: Sequence[tuple[str, int]]
    outermost: bool


def _parts(reach: Reach, frames: Sequence[PyFrame], taken_at: int, manager: int) -> Iterator[_Part]:
    """The last of the frames took the lock: in unit `taken_at`, or by `with manager`."""
    inner: list[tuple[int, Scope]] = []
    for frame in frames:
        known = reach.scope(frame)
        if known is None:
            continue
        scope, current = known
        outermost = frame is frames[-1]
        if not scope.code.library or outermost:
            managers = list(exits(reach.memory, frame))
            first = 0
            if outermost and manager:
                first = scope.entered_at(manager, current + 1)
                addresses = [address for _, address in managers]
                if manager in addresses:
                    del managers[: len(addresses) - addresses[::-1].index(manager)]
            elif outermost:
                first = taken_at + 1
            managers = [one for one in managers if one[0] not in ALREADY_KNOWN]
            end = scope.end_of_loops(first, current) + 1
            yield _Part(scope, first, current, end, tuple(inner), managers, outermost)
        inner.append((frame.code, scope))


def may_be_given_back(
    reach: Reach,
    frames: Sequence[PyFrame],
    taken_at: int,
    lock: int,
    wraps: Callable[[int], bool],
    returns: bool,
) -> bool:
    """Whether what the thread did since the last of its `frames`, innermost first, called
    acquire() may have released the lock: nothing says that who takes it by hand is who gives it
    back, unless the same code does it later on (`returns`)."""
    search = Search(reach, lock, RELEASES, wraps, by_owners=not returns, strict=True)
    return any(reach.scope(frame) is None for frame in frames) or any(
        search.in_frame(part.scope, part.first, part.end, part.inner, part.outermost)
        or any(search.by_manager(manager, "__enter__") for _, manager in part.managers)
        for part in _parts(reach, frames, taken_at, 0)
    )


def may_be_let_go(
    reach: Reach,
    frames: Sequence[PyFrame],
    manager: int,
    lock: int,
    wraps: Callable[[int], bool],
) -> bool:
    """Whether the thread, whose last frame is inside `with manager`, may have released the lock
    for a while.  The block's end releases it again, so that what let go is to take it back: by
    code that is still to come, or by the end of an inner block."""
    released = Search(reach, lock, RELEASES, wraps)
    retaken = Search(reach, lock, ACQUIRES, wraps)
    gone = False
    for part in _parts(reach, frames, 0, manager):
        gone = gone or released.in_frame(part.scope, part.first, part.end, part.inner, False)
        gone = gone or any(released.by_manager(one, "__enter__") for _, one in part.managers)
        if gone and (
            any(
                kind in STACKED or retaken.by_manager(one, "__exit__")
                for kind, one in part.managers
            )
            or retaken.in_frame(part.scope, part.current + 1, len(part.scope.code.units), (), False)
        ):
            return True
    return False
