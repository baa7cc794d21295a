"""Stacks that are full: the main thread's at its limit, another thread's at its guard page."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SI_KERNEL, SIGBUS, SIGSEGV
from faultkit.signals.origins import Origin
from faultkit.signals.origins._words import access_words
from faultkit.target import PAGE, Mapping, ReadError

SIGNALS = frozenset((SIGSEGV, SIGBUS))
PRIORITY = 10
LARGEST_FRAME = 1 << 28  # bytes that one frame may have jumped over the guard
LARGE = 1 << 16  # a frame that is worth naming
RED_ZONE = 256  # bytes below rsp that code may use, and a push or call
AT_RANDOM = 25
SEGV_MAPERR = 1  # si_code of SIGSEGV


def explain(case: Case) -> Origin | None:
    """An access just below a stack, by a thread whose stack pointer has come to its end."""
    address, sp = _address(case), case.registers.get("rsp")
    if address is None or sp is None:
        return None
    if not sp - RED_ZONE <= address < sp + LARGEST_FRAME:
        return None
    stack = _stack_above(case, address)
    if stack is None or sp >= stack.start + PAGE + RED_ZONE:
        stack = _stack_left(case, sp)
    if stack is None:
        return None
    is_main = _is_main(case, stack)
    if not is_main and not _is_thread(case, stack):
        return None
    size = stack.end - stack.start
    whose = "the main thread's stack" if is_main else "this thread's stack"
    why, brief = _user(case)
    guard = case.mapping(address)
    below = "its guard page" if guard is not None else "below its end"
    handler = ""
    if case.info.code == SI_KERNEL:
        handler = (
            " The kernel could not even start the handler of SIGSEGV: there is no stack left for "
            "it, and no sigaltstack()."
        )
    limit = "ulimit -s" if is_main else "pthread_attr_setstacksize()"
    return Origin(
        FAULT,
        "stack-overflow",
        f"Stack overflow: {whose} of {size >> 10} KiB is used up, {access_words(case, case.access)}"
        f" reached {below}.{why}{handler}",
        f"stack overflow{' of the main thread' if is_main else ' of a thread'}{brief}",
        (
            f"rsp is {sp:#x}, the stack {stack.start:#x}-{stack.end:#x}",
            f"the access was at {address:#x}",
        ),
        "look for recursion without end and large local arrays; a larger stack: " + limit,
        address=address,
    )


def _address(case: Case) -> int | None:
    if case.info.code == SI_KERNEL:  # the handler could not be started: the fault's own is gone
        return next((a.address for a in case.accesses if a.address is not None), None)
    return case.info.address


def _stack_above(case: Case, address: int) -> Mapping | None:
    """The writable mapping above `address`, with at most a guard between; the one that holds it
    where the guard is part of it (MADV_GUARD_INSTALL)."""
    for mapping in case.process.mappings():
        if mapping.end <= address:
            continue
        if mapping.start <= address and mapping.perms[1:2] != "w":
            continue  # the guard
        if mapping.start <= address:
            return _between_marks(case, mapping, address & -PAGE)
        if mapping.perms[:3] == "---":
            continue  # the guard, which a large frame has jumped over
        return mapping if mapping.perms[1:2] == "w" else None
    return None


def _between_marks(case: Case, mapping: Mapping, page: int) -> Mapping | None:
    """The stack above a page that is marked as its guard; None if it is not.  What lies behind may
    be in the same mapping: glibc's struct pthread is at a stack's upper end."""
    if not _is_marked(case, page):
        return None
    owner = case.registers.get("fs_base", 0)
    end = (owner & -PAGE) + PAGE if page < owner < mapping.end else mapping.end
    return mapping._replace(start=page + PAGE, end=end)


def _is_marked(case: Case, page: int) -> bool:
    """Whether a page of a writable mapping is a guard by a mark alone (mm/madvise.c, 6.13: to touch
    it is SEGV_MAPERR).  A core has zeros there."""
    try:
        data = case.process.read(page, PAGE)
    except ReadError:
        return True
    return not case.process.live and case.info.code == SEGV_MAPERR and not any(data)


def _stack_left(case: Case, sp: int) -> Mapping | None:
    """The thread's own stack, where its stack pointer has left that so far that it points into
    what lies below, and the access is to the frame."""
    below = case.mapping(sp)
    if below is not None and below.perms[1:2] == "w":
        return None
    if not any(access.stack or access.base in ("rsp", "rbp") for access in case.accesses):
        return None
    owner = case.registers.get("fs_base", 0)
    if case.task.tid == case.task.pid:
        owner = case.process.auxv().get(AT_RANDOM, 0)
    stack = case.mapping(owner)
    return stack if stack is not None and 0 < stack.start - sp < LARGEST_FRAME else None


def _is_main(case: Case, stack: Mapping) -> bool:
    """By its name, or as it holds what the kernel put there at the start."""
    if stack.path == "[stack]":
        return True
    random = case.process.auxv().get(AT_RANDOM, 0)
    return stack.start <= random < stack.end


def _is_thread(case: Case, stack: Mapping) -> bool:
    """glibc and musl keep a thread's own data at the upper end of its stack; else its frames
    must lie there."""
    if stack.path:
        return False
    if stack.start <= case.registers.get("fs_base", 0) < stack.end:
        return True
    inside = [f for f in case.frames[1:] if f.sp is not None and stack.start <= f.sp < stack.end]
    return len(inside) >= 2


def _user(case: Case) -> tuple[str, str]:
    """Who used the stack up: in a sentence, and in few words."""
    frames = case.frames
    seen: dict[str, int] = {}
    for frame in frames:
        name = frame.symbol
        if not name:
            function = case.code.function(frame.address)
            name = f"the function at {case.place(function[0])}" if function else None
        if name:
            seen[name] = seen.get(name, 0) + 1
    repeated = [name for name, count in seen.items() if count >= 3]
    large: tuple[int, str] | None = None
    for inner, outer in zip(frames, frames[1:]):
        if inner.sp is not None and outer.sp is not None:
            size = outer.sp - inner.sp
            if size >= LARGE and (large is None or size > large[0]):
                large = size, inner.symbol or f"{inner.address:#x}"
    if repeated:
        names = " -> ".join(repeated[:4])
        more = f", with {large[0] >> 10} KiB in each {large[1]}" if large else ""
        return f" Recursion: {names} called itself again and again{more}.", f", {names} recurses"
    if large:
        return f" {large[1]} alone takes {large[0] >> 10} KiB.", f", {large[1]} is too large"
    return "", ""
