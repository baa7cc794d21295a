"""Rust's std::sync::Mutex (and what is made of it: ReentrantLock, stdout): no owner recorded."""

from __future__ import annotations

from faultkit.layouts import rust
from faultkit.model import INFERRED, Lock, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.waits._rust import is_rust_call, maybe_rust, sleeps_on_constant
from faultkit.world import Blocked

PRIORITY = 12  # before glibc's: it never sleeps so, but what lies behind may look like its locks

NO_OWNER = "Rust's Mutex records no owner"


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in Mutex::lock_contended: sleeps without a timeout while the word is 2."""
    call = parse(blocked)
    if call is None or not is_rust_call(call) or call.timed or call.value != rust.CONTENDED:
        return None
    if not maybe_rust(blocked):
        return None
    if not sleeps_on_constant(blocked, rust.CONTENDED):
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
