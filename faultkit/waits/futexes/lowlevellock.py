"""glibc's internal locks (malloc's arenas, exit handlers, the loader's lists...): one word."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import INFERRED, Frame, Lock, Task, Wait
from faultkit.target import Process
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, lock_key, parse
from faultkit.world import Blocked

PRIORITY = 35  # after the mutexes, whose word has the same values

CONTENDED = 2
DEPTH = 64
MOST_MEMBERS = 64  # threads that are asked where they are
SIGNAL_FRAME = "<signal handler called>"
ALLOCATOR = (
    "malloc", "free", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc",
    "int_malloc", "int_free", "int_realloc", "int_memalign", "malloc_consolidate", "systrim",
    "tcache_init", "arena_get2", "malloc_trim", "mallinfo", "mallinfo2", "malloc_stats", "valloc",
    "pvalloc", "sysmalloc", "unlink_chunk", "int_free_merge_chunk", "int_free_chunk",
    "int_free_create_chunk", "int_free_maybe_consolidate", "int_free_maybe_trim", "mid_memalign",
    "sysmalloc_mmap", "arena_get_retry", "new_heap", "alloc_new_heap",
    "malloc2", "calloc2",  # 2.43
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
    holder = _interrupted_holder(blocked, call.uaddr, names)
    if holder is not None:
        task, function = holder
        found = (
            f"a signal handler interrupted {function}() in thread {task.tid} and calls it again: "
            "it is not async-signal-safe"
        )
        return wait.but(holders=(task,), evidence=(*wait.evidence, found))
    return wait.but(
        candidates=blocked.world.members(blocked.process),
        missing="internal locks of the C library record no owner",
    )


def _interrupted_holder(
    blocked: Blocked, lock: int, names: Sequence[str]
) -> tuple[Task, str] | None:
    """(who, in which function) holds the lock that is taken in the function that the waiter calls
    here: the one thread that is in this function at another place, as a handler interrupted it
    there; None where there is none, or others are in it who could have the lock."""
    function = next((name for name in names if not name.startswith("lll_")), "")
    process = blocked.process
    members = blocked.world.members(process)
    if SIGNAL_FRAME_NAME not in names or len(members) > MOST_MEMBERS or not function:
        return None
    inside = []
    for task in members:
        its = names
        if task != blocked.task:
            its = [_plain(frame) for frame in process.frames(task, DEPTH)]
        below = its
        if _waits_for(process, task, lock):  # then only what a handler interrupted may have it
            below = its[its.index(SIGNAL_FRAME_NAME) :] if SIGNAL_FRAME_NAME in its else []
        if function in below:
            inside.append(task)
    return (inside[0], function) if len(inside) == 1 else None


def _waits_for(process: Process, task: Task, lock: int) -> bool:
    call = process.syscall(task)
    return call is not None and call.nr in SYSCALLS and bool(call.args) and call.args[0] == lock


def _plain(frame: Frame) -> str:
    """Without underscores, version, and the suffixes of clones (systrim.constprop.0)."""
    name = (frame.symbol or "").lstrip("_").removeprefix("GI_").removeprefix("libc_").lstrip("_")
    return name.split("@")[0].split(".")[0]


SIGNAL_FRAME_NAME = _plain(Frame(0, 0, SIGNAL_FRAME))


def _interrupted_allocator(names: list[str]) -> str | None:
    """The allocator's function that a signal handler interrupted, if the waiter is in the
    allocator again, below that handler; None otherwise."""
    if SIGNAL_FRAME_NAME not in names:
        return None
    at = names.index(SIGNAL_FRAME_NAME)
    if not any(name in ALLOCATOR for name in names[:at]):
        return None
    above = names[at + 1 : at + 6]
    return next((name for name in above if name in ALLOCATOR), None)
