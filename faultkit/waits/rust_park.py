"""Rust's thread::park (also under mpsc channels and scoped threads) and Condvar: idle waits."""

from typing import Optional

from faultkit.layouts import rust
from faultkit.model import EVENT, INFERRED, Lock, Wait
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.world import Blocked

PRIORITY = 28


def recognise(blocked: Blocked) -> Optional[Wait]:
    """A wait in Parker::park (the word is -1), or in Condvar::wait by the function's name."""
    call = parse(blocked)
    if call is None or not rust.is_rust_call(call):
        return None
    if call.value == rust.PARKED:
        kind = "park"
    elif not call.timed and any("ondvar" in name for name in innermost_functions(blocked)):
        kind = "condvar"
    else:
        return None
    if rust.runs_rust(blocked.process) is False:
        return None
    lock = Lock(kind, call.uaddr, key=lock_key(blocked, call.uaddr, call.private))
    return Wait(blocked.task, lock, EVENT, confidence=INFERRED, timed=call.timed)
