"""glibc's internal locks (malloc's arenas, exit handlers, the loader's lists...): one word."""

from __future__ import annotations

from faultkit.model import INFERRED, Frame, Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, lock_key, parse
from faultkit.world import Blocked

PRIORITY = 35  # after the mutexes, whose word has the same values

CONTENDED = 2
DEPTH = 64
SIGNAL_FRAME = "<signal handler called>"
ALLOCATOR = (
    "malloc", "free", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc",
    "int_malloc", "int_free", "int_realloc", "int_memalign", "malloc_consolidate", "systrim",
    "tcache_init", "arena_get2", "malloc_trim", "mallinfo", "mallinfo2", "malloc_stats", "valloc",
    "pvalloc", "sysmalloc", "unlink_chunk", "int_free_merge_chunk", "int_free_chunk",
)  # fmt: skip


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in __lll_lock_wait_private (nptl/lowlevellock.c), by its name; without symbols, a
    word in the C library's own data."""
    call = parse(blocked)
    if call is None or call.operation != WAIT or not call.private or call.timed:
        return None
    if call.value != CONTENDED or call.now is None or call.now > CONTENDED:
        return None
    mapping = blocked.process.mapping(call.uaddr)
    in_libc = mapping is not None and "/libc" in mapping.path
    frames = blocked.process.frames(blocked.task, DEPTH)
    names = [_plain(frame) for frame in frames]
    if not in_libc and not any(name == "lll_lock_wait_private" for name in names[:2]):
        return None
    symbol = blocked.process.symbol(call.uaddr)
    wait = Wait(
        blocked.task,
        Lock(
            "lowlevellock",
            call.uaddr,
            f"{symbol[0]}+{symbol[1]}" if symbol is not None and symbol[1] else None,
            lock_key(blocked, call.uaddr, call.private),
        ),
        confidence=INFERRED,
        evidence=("internal lock of the C library, locked",),
    )
    interrupted = _interrupted_allocator(names)
    if interrupted is not None:
        found = (
            f"a signal handler interrupted {interrupted}() in this very thread and now calls "
            "the allocator itself, which is not async-signal-safe"
        )
        return wait.but(holders=(blocked.task,), evidence=(*wait.evidence, found))
    return wait.but(
        candidates=blocked.world.members(blocked.process),
        missing="internal locks of the C library record no owner",
    )


def _plain(frame: Frame) -> str:
    name = frame.symbol or ""
    return name.lstrip("_").removeprefix("GI_").removeprefix("libc_").lstrip("_").split("@")[0]


def _interrupted_allocator(names: list[str]) -> str | None:
    """The allocator's function that a signal handler interrupted, if the waiter is in the
    allocator again, below that handler; None otherwise."""
    handler = _plain(Frame(0, 0, SIGNAL_FRAME))
    if handler not in names:
        return None
    at = names.index(handler)
    if not any(name in ALLOCATOR for name in names[:at]):
        return None
    above = names[at + 1 : at + 6]
    return next((name for name in above if name in ALLOCATOR), None)
