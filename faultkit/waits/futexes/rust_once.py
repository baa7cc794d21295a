"""Rust's Once, OnceLock and LazyLock: the thread that runs the initialisation is inside
Once::call, too, with the same Once."""

from __future__ import annotations

from faultkit.layouts import rust
from faultkit.model import EVENT, INFERRED, Frame, Lock, Task, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import FutexCall, lock_key, parse
from faultkit.waits._rust import is_rust_call, maybe_rust
from faultkit.waits._stack import live_stack, threads_with_word, words
from faultkit.world import Blocked

PRIORITY = 13


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in Once::call or Once::wait.

    The value could be a Condvar's counter as well: the functions' names decide.
    """
    call = parse(blocked)
    if call is None or not is_rust_call(call) or call.timed:
        return None
    if call.value not in rust.ONCE_RUNNING or call.now != call.value:
        return None
    if not maybe_rust(blocked):
        return None
    if not any(is_once(name) for name in innermost_functions(blocked)):
        return _perhaps(blocked, call)
    runners = _runners(blocked, call.uaddr)
    wait = Wait(
        blocked.task,
        Lock("once", call.uaddr, key=lock_key(blocked, call.uaddr, call.private)),
        confidence=INFERRED,
        evidence=("Rust Once: its initialisation is running",),
    )
    if len(runners) != 1:
        return wait.but(
            candidates=runners or blocked.world.members(blocked.process),
            missing="a Rust Once does not record which thread runs its initialisation",
        )
    found = f"thread {runners[0].tid} is inside Once::call on it"
    return wait.but(holders=runners, evidence=(*wait.evidence, found))


def _perhaps(blocked: Blocked, call: FutexCall) -> Wait | None:
    """A stripped program's wait on a value that a running Once has in newer versions, which a
    counter has only on its way: not to be passed over in silence."""
    frames = blocked.process.frames(blocked.task, 6)
    if call.value not in rust.ONCE_RUNNING_QUEUED or any(is_named(frame) for frame in frames):
        return None
    return Wait(
        blocked.task,
        Lock("once", call.uaddr, key=lock_key(blocked, call.uaddr, call.private)),
        EVENT,
        any_of=True,
        confidence=INFERRED,
        candidates=blocked.world.members(blocked.process),
        missing="threads sleep on what may be a Rust Once that is being run, or a Condvar: the "
        "program is stripped; load its symbols",
    )


def is_named(frame: Frame) -> bool:
    """Whether a frame of the program itself, not of the C library, has a name."""
    return frame.symbol is not None and ".so" not in (frame.module or "")


def is_once(function: str) -> bool:
    """Whether a symbol is one of std::sys::sync::once::futex::Once, mangled or not."""
    return "once" in function and "futex" in function and "Once" in function


def _runners(blocked: Blocked, state: int) -> tuple[Task, ...]:
    """The threads, other than waiters, that are inside a function of Once's which has `state`
    among its registers or in its frame: the CompletionGuard keeps it there."""
    name = f"rust once {blocked.process.pid} {state:#x}"
    known: tuple[Task, ...] | None = blocked.world.cache.get(name)
    if known is None:
        found = dict.fromkeys(task for task, _, _ in threads_with_word(blocked, state))
        known = tuple(task for task in found if _runs(blocked, task, state))
        blocked.world.cache[name] = known
    return known


def _runs(blocked: Blocked, task: Task, state: int) -> bool:
    call = blocked.process.syscall(task)
    if call is not None and call.args[:1] == (state,):
        return False
    frames = blocked.process.bare_frames(task)
    for frame, caller in zip(frames, frames[1:]):
        if not is_once(frame.symbol or ""):
            continue
        if state in (frame.registers or {}).values():
            return True
        size = (caller.sp or 0) - (frame.sp or 0)
        own = live_stack(blocked.process, frame.sp or 0, size) if 0 < size < 4096 else b""
        if state in words(own):
            return True
    return False
