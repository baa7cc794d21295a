"""Rust's Once, OnceLock and LazyLock: the thread that runs the initialisation leaves a guard on
its stack."""

from typing import Optional

from faultkit.layouts import rust
from faultkit.model import INFERRED, Lock, Task, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.waits._stack import threads_with_word
from faultkit.world import Blocked

PRIORITY = 27


def recognise(blocked: Blocked) -> Optional[Wait]:
    """A wait in Once::call or Once::wait, known by the functions' names: the value alone could
    be a Condvar's counter."""
    call = parse(blocked)
    if call is None or not rust.is_rust_call(call) or call.timed:
        return None
    if call.value not in rust.ONCE_RUNNING or call.now != call.value:
        return None
    if not any("once" in name and "futex" in name for name in innermost_functions(blocked)):
        return None
    lock = Lock("once", call.uaddr, key=lock_key(blocked, call.uaddr, call.private))
    wait = Wait(
        blocked.task,
        lock,
        confidence=INFERRED,
        evidence=("Rust Once: its initialisation is running",),
    )
    runners = _runners(blocked, call.uaddr, rust.ONCE_RUNNING[call.value])
    if len(runners) != 1:
        return wait.but(
            candidates=blocked.world.members(blocked.process),
            missing="a Rust Once does not record which thread runs its initialisation",
        )
    found = f"thread {runners[0].tid} has Once's CompletionGuard for it on its stack"
    return wait.but(holders=tuple(runners), evidence=(*wait.evidence, found))


def _runners(blocked: Blocked, state: int, on_panic: int) -> list[Task]:
    """The threads with a CompletionGuard {&state, set_state_on_drop_to} on their stacks."""
    runners = []
    for task, stack, at in threads_with_word(blocked, state):
        follows = int.from_bytes(stack[at + 8 : at + 12], "little")
        if follows == on_panic and task not in runners:
            runners.append(task)
    return runners
