"""Signals of timers: alarm(), setitimer(), and POSIX timers."""

from __future__ import annotations

from faultkit.procfs.timers import posix_timers
from faultkit.signals.case import Case
from faultkit.signals.model import TIMER
from faultkit.signals.names import (
    SI_KERNEL,
    SI_TIMER,
    SIGALRM,
    SIGPROF,
    SIGVTALRM,
    signal_name,
)
from faultkit.signals.origins import Origin
from faultkit.signals.origins.sent import value_words

SIGNALS = None
PRIORITY = 20
_INTERVAL = {
    SIGALRM: ("alarm() or setitimer(ITIMER_REAL)", "the time has passed"),
    SIGVTALRM: ("setitimer(ITIMER_VIRTUAL)", "the process has used that much time itself"),
    SIGPROF: ("setitimer(ITIMER_PROF)", "the process has used that much processor time"),
}


def explain(case: Case) -> Origin | None:
    """SI_TIMER by a POSIX timer; SI_KERNEL by an interval timer (kernel/time/itimer.c)."""
    info = case.info
    name = signal_name(info.number)
    handler = " It is fatal, as nothing handles it." if _unhandled(case) else ""
    if info.code == SI_TIMER:
        clock = _clock(case, info.timer)
        overrun = f", {info.overrun} more expiries were missed" if info.overrun else ""
        return Origin(
            TIMER,
            "posix-timer",
            f"{name} by the POSIX timer {info.timer}{clock}, made by timer_create(): it expired"
            f"{overrun}; its value is {value_words(info)}.{handler}",
            f"POSIX timer {info.timer} expired",
            (f"si_timerid is {info.timer}, si_overrun {info.overrun}",),
            "look where the program calls timer_create() with this signal",
        )
    if info.number in _INTERVAL and info.code == SI_KERNEL:
        call, when = _INTERVAL[info.number]
        return Origin(
            TIMER,
            "interval-timer",
            f"{name} by the process's own timer, {call}: {when}.{handler}",
            f"its own timer, {call.split()[0]}, expired",
            ("si_code is SI_KERNEL, as the kernel's timers give",),
            f"look where the program calls {call}, and whether it has a handler then",
        )
    return None


def _unhandled(case: Case) -> bool:
    return case.process.kind == "core" and case.innermost


def _clock(case: Case, timer: int | None) -> str:
    """ " (CLOCK_MONOTONIC)" by /proc/PID/timers, where the kernel has it."""
    if not case.process.live or timer is None:
        return ""
    clocks = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME"}
    for known in posix_timers(case.process.pid) or ():
        if known.number == timer:
            unnamed = "processor time" if known.clock < 0 else f"clock {known.clock}"
            return f" ({clocks.get(known.clock, unnamed)})"
    return ""
