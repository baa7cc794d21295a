"""Rust's Once, OnceLock and LazyLock: the thread that runs the initialisation leaves a guard on
its stack."""

from typing import Optional

from faultkit.layouts import rust
from faultkit.model import INFERRED, Lock, Task, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.waits._rust import is_rust_call, maybe_rust
from faultkit.waits._stack import threads_with_word
from faultkit.world import Blocked

PRIORITY = 13


def recognise(blocked: Blocked) -> Optional[Wait]:
    """A wait in Once::call or Once::wait.

    The value could be a Condvar's counter as well: the functions' names decide, and where there
    are none, whether some thread has the guard; then nobody is accused.
    """
    call = parse(blocked)
    if call is None or not is_rust_call(call) or call.timed:
        return None
    if call.value not in rust.ONCE_RUNNING or call.now != call.value:
        return None
    if not maybe_rust(blocked):
        return None
    names = innermost_functions(blocked)
    certain = any("once" in name and "futex" in name for name in names)
    if names and not certain:
        return None
    runners = _runners(blocked, call.uaddr, rust.ONCE_RUNNING[call.value])
    if not certain and not runners:
        return None
    wait = Wait(
        blocked.task,
        Lock("once", call.uaddr, key=lock_key(blocked, call.uaddr, call.private)),
        confidence=INFERRED,
        evidence=("Rust Once: its initialisation is running",),
    )
    if not certain or len(runners) != 1:
        return wait.but(
            candidates=runners or blocked.world.members(blocked.process),
            missing="a Rust Once does not record which thread runs its initialisation",
        )
    found = f"thread {runners[0].tid} has Once's CompletionGuard for it on its stack"
    return wait.but(holders=runners, evidence=(*wait.evidence, found))


def _runners(blocked: Blocked, state: int, on_panic: int) -> tuple[Task, ...]:
    """The threads with a CompletionGuard {&state, set_state_on_drop_to} on their stacks."""
    name = f"rust once {blocked.process.pid} {state:#x}"
    known: Optional[tuple[Task, ...]] = blocked.world.cache.get(name)
    if known is None:
        runners = []
        for task, stack, at in threads_with_word(blocked, state):
            follows = int.from_bytes(stack[at + 8 : at + 12], "little")
            if follows == on_panic and task not in runners:
                runners.append(task)
        known = blocked.world.cache[name] = tuple(runners)
    return known
