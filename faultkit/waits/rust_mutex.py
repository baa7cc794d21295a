"""Rust's std::sync::Mutex (and what is made of it: ReentrantLock, stdout): no owner recorded."""

from typing import Optional

from faultkit.layouts import rust
from faultkit.model import INFERRED, Lock, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.waits._stack import caller_code
from faultkit.world import Blocked

PRIORITY = 26

NO_OWNER = "Rust's Mutex records no owner"


def recognise(blocked: Blocked) -> Optional[Wait]:
    """A wait in Mutex::lock_contended: sleeps without a timeout while the word is 2."""
    call = parse(blocked)
    if call is None or not rust.is_rust_call(call) or call.timed or call.value != rust.CONTENDED:
        return None
    if rust.runs_rust(blocked.process) is False:
        return None
    if not rust.passes_constant(caller_code(blocked), rust.CONTENDED):
        names = innermost_functions(blocked)
        if not any("lock_contended" in name for name in names):
            return None  # a Condvar's counter may be 2 as well
    lock = Lock("rust_mutex", call.uaddr, key=lock_key(blocked, call.uaddr, call.private))
    wait = Wait(blocked.task, lock, confidence=INFERRED)
    if call.now == 0:
        return wait.but(fault="lost-wakeup", fault_detail="the Rust Mutex is free: its word is 0")
    if call.now is not None and call.now > rust.CONTENDED:
        return wait.but(
            fault="corrupt-lock",
            fault_detail=f"a Rust Mutex is 0, 1 or 2, this one is {call.now:#x}",
        )
    return wait.but(
        evidence=("Rust Mutex, locked and contended",),
        candidates=blocked.world.members(blocked.process),
        missing=NO_OWNER,
    )
