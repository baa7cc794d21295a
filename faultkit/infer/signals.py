"""Threads that only a signal lets run on, and those that a timer's signal does."""

from __future__ import annotations

from faultkit.model import Task
from faultkit.target import FaultkitError, Process, Syscall

PAUSE, RT_SIGTIMEDWAIT, RT_SIGSUSPEND = 34, 128, 130
SIGNAL_WAITS = frozenset((PAUSE, RT_SIGTIMEDWAIT, RT_SIGSUSPEND))
SIGTIMER = 32  # glibc's (sysdeps/unix/sysv/linux/internal-signals.h), and musl's


def awaits_signal(process: Process, task: Task) -> bool:
    """Whether only a signal would let the task run on, and no timer is to send that."""
    call = process.syscall(task)
    if call is None or call.nr not in SIGNAL_WAITS:
        return False
    return not _awaited(process, call) & _of_timers(process)


def runs_by_timers(process: Process, task: Task) -> bool:
    """Whether it is the C library's own thread, that calls what timers with SIGEV_THREAD are to
    call: it waits for SIGTIMER only (sysdeps/unix/sysv/linux/timer_routines.c; musl's
    src/time/timer_create.c), whose timers a core does not tell of."""
    if _awaited(process, process.syscall(task)) != 1 << (SIGTIMER - 1):
        return False
    return not process.live or bool(_of_timers(process) >> (SIGTIMER - 1) & 1)


def _awaited(process: Process, call: Syscall | None) -> int:
    """The set of signals that the call waits for, if it is sigwait()'s; else 0."""
    if call is None or call.nr != RT_SIGTIMEDWAIT:
        return 0
    try:
        return process.u64(call.args[0])
    except FaultkitError:
        return 0


def _of_timers(process: Process) -> int:
    """The set of signals that the process's POSIX timers send."""
    if not process.live:
        return 0
    from faultkit.procfs.timers import posix_timers

    found = 0
    for timer in posix_timers(process.pid) or ():
        if 0 < timer.signal <= 64:
            found |= 1 << (timer.signal - 1)
    return found
