"""Rust's thread::park (also under mpsc channels and scoped threads) and Condvar: idle waits."""

from __future__ import annotations

from faultkit.layouts import rust
from faultkit.model import EVENT, INFERRED, Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.waits._rust import is_rust_call, maybe_rust
from faultkit.world import Blocked

PRIORITY = 14


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in Parker::park, whose word is -1, or in Condvar::wait, whose word is a counter.

    Timed waits are left to other providers, for C code makes the same call.
    """
    call = parse(blocked)
    if call is None or not is_rust_call(call):
        return None
    parked = call.value == rust.PARKED
    if (call.timed and not parked) or not maybe_rust(blocked):
        return None
    return Wait(
        blocked.task,
        Lock(
            "park" if parked else "condvar",
            call.uaddr,
            key=lock_key(blocked, call.uaddr, call.private),
        ),
        EVENT,
        any_of=True,
        confidence=INFERRED,
        timed=call.timed,
    )
