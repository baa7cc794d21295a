"""The guard of a C++ static local variable, while another thread runs its initialiser."""

from __future__ import annotations

from faultkit.layouts.cxx import DONE, PENDING, WAITING
from faultkit.model import INFERRED, Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, lock_key, parse
from faultkit.world import Blocked

PRIORITY = 9

BUSY = PENDING | WAITING


def recognise(blocked: Blocked) -> Wait | None:
    """A wait in libstdc++'s __cxa_guard_acquire (libsupc++/guard.cc): a shared futex, without
    timeout, on the value 0x10100.  The guard records no thread."""
    call = parse(blocked)
    if call is None or call.operation != WAIT or call.private or call.timed:
        return None
    if call.value != BUSY or call.now not in (BUSY, PENDING, DONE, 0):
        return None
    return Wait(
        blocked.task,
        Lock(
            "cxa_guard",
            call.uaddr,
            _name(blocked, call.uaddr),
            lock_key(blocked, call.uaddr, call.private),
        ),
        confidence=INFERRED,
        evidence=("static local variable: its initialiser is running",),
        candidates=blocked.world.members(blocked.process),
        missing="the guard of a static local variable does not record who initialises it",
    )


def _name(blocked: Blocked, guard: int) -> str | None:
    """The guard's symbol, "guard variable for registry()::instance"."""
    symbol = blocked.process.symbol(guard)
    return symbol[0] if symbol is not None and symbol[1] < 8 else None
