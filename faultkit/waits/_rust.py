"""How Rust's standard library calls the futex: which of its waits look alike, and what tells them
apart in a stripped program."""

from faultkit.layouts.rust import runs_rust
from faultkit.waits._futex import WAIT_BITSET, FutexCall
from faultkit.waits._stack import callers, calls_into
from faultkit.world import Blocked

ARGUMENTS = 32  # bytes of code before a call in which its arguments are set


def is_rust_call(call: FutexCall) -> bool:
    """Whether a futex call has the form of Rust's std: FUTEX_WAIT_BITSET and private, without
    FUTEX_CLOCK_REALTIME (library/std/src/sys/pal/unix/futex.rs); glibc does so in timed waits
    only."""
    return call.operation == WAIT_BITSET and call.private and not call.realtime


def maybe_rust(blocked: Blocked) -> bool:
    """Whether Rust's std may be in the process: False only where its images say it is not."""
    return runs_rust(blocked.process) is not False


def sleeps_on_constant(blocked: Blocked, value: int) -> bool:
    """Whether the code that called sets the futex's expected value by a constant.

    Mutex::lock_contended passes its 2 and Parker::park its -1 so, a Condvar passes a counter out
    of a register.  The constant is syscall()'s fourth argument where futex_wait is inlined
    (mov $value,%ecx), and futex_wait's second (mov $value,%esi) in older releases.
    """
    constant = value.to_bytes(4, "little")
    inner = 0
    for address, code in callers(blocked):
        code = code[-ARGUMENTS:]
        if inner == 0:
            short = bytes((0x6A, value, 0x59)) if value < 0x80 else b"\xb9" + constant
            if b"\xb9" + constant in code or short in code:
                return True
            inner = address
        elif calls_into(address, code, inner):
            return b"\xbe" + constant in code
    return False
