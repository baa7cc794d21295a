"""glibc's lock of a stdio FILE: {int lock; int cnt; void *owner}, the owner a struct pthread."""

from __future__ import annotations

import struct

from faultkit.layouts.glibc import thread_of_descriptor
from faultkit.model import Lock, Wait
from faultkit.waits._futex import SYSCALLS as SYSCALLS
from faultkit.waits._futex import WAIT, FutexCall, lock_key, parse
from faultkit.world import Blocked

PRIORITY = 5  # a mutex's owner is a tid, never a pointer to a thread's descriptor

CONTENDED = 2
MAX_DEPTH = 1 << 16
STREAMS = {"_IO_stdfile_0_lock": "stdin", "_IO_stdfile_1_lock": "stdout"}
STREAMS["_IO_stdfile_2_lock"] = "stderr"


def recognise(blocked: Blocked) -> Wait | None:
    """A wait for an _IO_lock_t (sysdeps/nptl/stdio-lock.h, _IO_lock_lock)."""
    call = parse(blocked)
    if call is None or call.operation != WAIT or not call.private or call.value != CONTENDED:
        return None
    if call.now not in (1, 2):
        return None
    count, owner = struct.unpack("<IQ", blocked.process.read(call.uaddr + 4, 12))
    if count >= MAX_DEPTH:  # newer ones count only what comes after the first
        return None
    threads = blocked.world.threads(blocked.process)
    tid = thread_of_descriptor(blocked.process, owner, threads)
    if tid is None:
        return None
    return Wait(
        blocked.task,
        Lock(
            "stdio",
            call.uaddr,
            _stream(blocked, call),
            lock_key(blocked, call.uaddr, call.private),
        ),
        holders=(threads[tid],),
        evidence=(f"stdio lock: its owner is the thread at {owner:#x}, tid {tid}",),
    )


def _stream(blocked: Blocked, call: FutexCall) -> str | None:
    symbol = blocked.process.symbol(call.uaddr)
    return STREAMS.get(symbol[0]) if symbol is not None else None
