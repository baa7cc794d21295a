"""Which library functions a waiter is inside: tells locks apart whose words look alike."""

from __future__ import annotations

from faultkit.target import Process, ReadError
from faultkit.world import Blocked

OWNER_AT, KIND_AT = 8, 16  # in a pthread_mutex_t
MOST_CODE = 1024  # bytes of a function that are looked at

MUTEX_FUNCTIONS = (
    "pthread_mutex_lock",
    "pthread_mutex_lock_full",
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
    symbols = (frame.symbol for frame in blocked.process.frames(blocked.task, depth))
    return tuple(_plain(symbol) for symbol in symbols if symbol)


def _plain(symbol: str) -> str:
    return symbol.lstrip("_").removeprefix("GI_").lstrip("_").split("@")[0]


def inside_mutex_lock(blocked: Blocked) -> bool:
    """Whether the waiter is inside one of glibc's functions that lock a pthread mutex."""
    names = innermost_functions(blocked)
    if names:
        return any(name in MUTEX_FUNCTIONS for name in names)
    return _code_locks_mutex(blocked)


def mutex_of_call(blocked: Blocked) -> int | None:
    """What the waiter's innermost live call of such a function was given; None if that can't be
    told.  Unwinds, and follows code."""
    from faultkit.infer.calls import live_calls

    for site in live_calls(blocked.world, blocked.process, blocked.task):
        if site.name and _plain(site.name) in MUTEX_FUNCTIONS:
            return site.first
        if not site.name and site.target is not None and _locks_mutex(blocked.process, site.target):
            return site.first
    return None


def _code_locks_mutex(blocked: Blocked) -> bool:
    """The same in a static program without symbols, by what the code of the innermost functions
    does: it takes the word, stores the thread's id 8 bytes on, and reads the kind 16 bytes on
    (nptl/pthread_mutex_lock.c)."""
    from faultkit.infer.code import code_of

    code = code_of(blocked.world, blocked.process)
    starts = [code.start(frame) for frame in blocked.process.frames(blocked.task, 3)]
    return any(start is not None and _locks_mutex(blocked.process, start) for start in starts)


def _locks_mutex(process: Process, start: int) -> bool:
    from faultkit.code.encoding import Memory
    from faultkit.code.x86 import instructions

    taken, owner, kind, reads_tid, stack = set(), set(), set(), False, {"rsp"}
    try:
        for instruction in instructions(process.read, start, start + MOST_CODE):
            place, source = instruction.destination, instruction.source
            if instruction.kind == "mov" and (place, source) == ("rbp", "rsp"):
                stack.add("rbp")
            if isinstance(source, Memory):
                reads_tid |= source.segment is not None
                if source.displacement == KIND_AT:
                    kind.add(source.base)
            if isinstance(place, Memory) and instruction.width == 4:
                if instruction.kind == "cmpxchg" and place.displacement == 0:
                    taken.add(place.base)
                elif instruction.kind == "mov" and place.displacement == OWNER_AT:
                    owner.add(place.base)
    except ReadError:
        return False
    return reads_tid and bool((taken & owner & kind) - stack)
