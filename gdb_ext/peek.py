"""Pending signals of an inferior's threads, by ptrace, of which gdb's own main thread is the
tracer: nothing is consumed."""

from __future__ import annotations

from faultkit.signals.siginfo import SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


PTRACE_GETSIGINFO, PTRACE_PEEKSIGINFO = 0x4202, 0x4209  # include/uapi/linux/ptrace.h
PTRACE_SECCOMP_GET_FILTER = 0x420C
PEEK_SHARED = 1
MOST_FILTERS, MOST_INSTRUCTIONS = 64, 4096
CHUNK = 64  # signals a call
MOST = 1 << 17  # of one queue: RLIMIT_SIGPENDING is seldom larger


def peek(tid: int, shared: bool) -> list[bytes] | None:
    """The siginfo_t of the signals pending for a thread, or with `shared` for its process; None
    where the kernel, or this gdb's Python, does not let us.  Of a stopped thread only."""
    try:
        import ctypes
    except ImportError:
        return None

    class Arguments(ctypes.Structure):
        _fields_ = [
            ("off", ctypes.c_uint64),
            ("flags", ctypes.c_uint32),
            ("nr", ctypes.c_int32),
        ]

    ptrace = _ptrace(ctypes)
    buffer = ctypes.create_string_buffer(SIZE * CHUNK)
    found: list[bytes] = []
    while len(found) < MOST:
        arguments = Arguments(len(found), PEEK_SHARED if shared else 0, CHUNK)
        count = ptrace(PTRACE_PEEKSIGINFO, tid, ctypes.byref(arguments), buffer)
        if count < 0:
            return found or None
        raw = buffer.raw
        found += [raw[at : at + SIZE] for at in range(0, count * SIZE, SIZE)]
        if count < CHUNK:
            break
    return found


def stop_siginfo(tid: int) -> bytes | None:
    """The siginfo_t that a thread has stopped with, None if it is not in such a stop."""
    try:
        import ctypes
    except ImportError:
        return None
    buffer = ctypes.create_string_buffer(SIZE)
    return buffer.raw if _ptrace(ctypes)(PTRACE_GETSIGINFO, tid, None, buffer) == 0 else None


def seccomp_filters(tid: int) -> list[bytes]:
    """The seccomp filters of a stopped thread, the newest first; [] if it has none, or we may not
    see them (CAP_SYS_ADMIN)."""
    try:
        import ctypes
    except ImportError:
        return []
    ptrace = _ptrace(ctypes)
    found: list[bytes] = []
    while len(found) < MOST_FILTERS:
        size = ptrace(PTRACE_SECCOMP_GET_FILTER, tid, len(found), None)  # in instructions
        if not 0 < size <= MOST_INSTRUCTIONS:
            break
        buffer = ctypes.create_string_buffer(8 * size)
        if ptrace(PTRACE_SECCOMP_GET_FILTER, tid, len(found), buffer) != size:
            break
        found.append(buffer.raw)
    return found


_functions: list[Any] = []


def _ptrace(ctypes: Any) -> Any:
    if not _functions:
        function = ctypes.CDLL(None).ptrace
        function.restype = ctypes.c_long
        function.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        _functions.append(function)
    return _functions[0]
