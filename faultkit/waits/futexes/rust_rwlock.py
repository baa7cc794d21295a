"""Rust's std::sync::RwLock: counts its readers, records nobody."""

from __future__ import annotations

from faultkit.layouts import rust
from faultkit.model import INFERRED, Lock, Wait
from faultkit.target import ReadError
from faultkit.waits._callers import innermost_functions
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import lock_key, parse
from faultkit.waits._rust import is_rust_call, maybe_rust, sleeps_on_constant
from faultkit.world import Blocked

PRIORITY = 11

NO_OWNER = "Rust's RwLock records neither its writer nor its readers"


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in RwLock::read_contended (on the state) or write_contended (on writer_notify)."""
    call = parse(blocked)
    if call is None or not is_rust_call(call) or call.timed:
        return None
    if call.value == rust.PARKED and sleeps_on_constant(blocked, rust.PARKED):
        return None
    if call.value & rust.READERS_WAITING:
        mode, address = "read", call.uaddr
    else:
        mode, address = "write", call.uaddr - 4
    try:
        state = blocked.process.u32(address)
    except ReadError:
        return None
    count = state & rust.COUNT_MASK
    if count != rust.WRITE_LOCKED and not 0 < count <= rust.MAX_READERS:
        return None
    waiting = rust.READERS_WAITING if mode == "read" else rust.WRITERS_WAITING
    if not state & waiting or not maybe_rust(blocked):
        return None
    if mode == "read" and count != rust.WRITE_LOCKED and not state & rust.WRITERS_WAITING:
        return None  # readers never wait for readers alone
    if mode == "write" and not _writes(blocked):
        return None
    held = "a writer" if count == rust.WRITE_LOCKED else f"{count} reader{'s' * (count > 1)}"
    return Wait(
        blocked.task,
        Lock("rust_rwlock", address, key=lock_key(blocked, address, call.private)),
        mode=mode,
        confidence=INFERRED,
        evidence=(f"Rust RwLock, held by {held}",),
        candidates=blocked.world.members(blocked.process),
        holder_count=None if count == rust.WRITE_LOCKED else count,
        missing=NO_OWNER,
    )


def _writes(blocked: Blocked) -> bool:
    """writer_notify is a counter like a Condvar's: a function's name decides where there is one,
    else the state before it, which the caller has found plausible, has to do."""
    names = innermost_functions(blocked)
    return not any("Condvar" in name or "lock_contended" in name for name in names)
