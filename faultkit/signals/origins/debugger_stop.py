"""Stops that the debugger itself made."""

from __future__ import annotations

import os

from faultkit.signals.case import Case
from faultkit.signals.model import DEBUGGER
from faultkit.signals.names import SI_KERNEL, SI_TKILL, SI_USER, SIGSTOP, SIGTRAP
from faultkit.signals.origins import Origin

SIGNALS = frozenset((SIGSTOP, SIGTRAP))
PRIORITY = 10


def explain(case: Case) -> Origin | None:
    """SIGSTOP of an attach (ptrace_attach in kernel/ptrace.c), SIGTRAP of an execve()."""
    info = case.info
    by_debugger = not info.pid or (case.process.live and info.pid == os.getpid())
    if info.number == SIGSTOP and info.code in (SI_KERNEL, SI_USER, SI_TKILL) and by_debugger:
        return Origin(DEBUGGER, "attach", "Stopped by the debugger when it attached; it is no "
                      "signal of the program's.", "stopped by the debugger")  # fmt: skip
    if info.number == SIGTRAP and info.code == SI_USER and case.by_itself and case.process.live:
        return Origin(DEBUGGER, "exec", "Stopped by the debugger at execve().",
                      "stopped by the debugger")  # fmt: skip
    return None
