"""Which library functions a waiter is inside: tells locks apart whose words look alike."""

from faultkit.world import Blocked

MUTEX_FUNCTIONS = (
    "pthread_mutex_lock",
    "pthread_mutex_timedlock",
    "pthread_mutex_clocklock",
    "pthread_mutex_cond_lock",
    "mtx_lock",
    "mtx_timedlock",
    "lll_mutex_lock_optimized",
)


def innermost_functions(blocked: Blocked, depth: int = 5) -> tuple[str, ...]:
    """The names of the functions in the waiter's innermost frames, without leading underscores
    or "GI_"; empty where there are no symbols.  Unwinds: for doubtful cases only."""
    names = []
    for frame in blocked.process.frames(blocked.task, depth):
        if frame.symbol:
            names.append(frame.symbol.lstrip("_").removeprefix("GI_").lstrip("_").split("@")[0])
    return tuple(names)


def inside_mutex_lock(blocked: Blocked) -> bool:
    """Whether the waiter is inside one of glibc's functions that lock a pthread mutex."""
    return any(name in MUTEX_FUNCTIONS for name in innermost_functions(blocked))
